/* Joins the session and leaves it; says "joined", or why not. */
#include <dsm/dsm.h>
#include <stdio.h>

int main(void) {
  dsm_session *session;
  int status = dsm_open(NULL, &session);
  if (status != DSM_OK) {
    printf("%s %s\n", dsm_status_name(status), dsm_last_error());
    return 1;
  }
  puts("joined");
  return dsm_close(session);
}
