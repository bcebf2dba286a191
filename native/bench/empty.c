/* A program that does nothing with its session: what is left is the cost of starting and ending one. */
#include <dsm/dsm.h>
#include <stdio.h>

int main(void) {
  dsm_session *session;
  if (dsm_open(NULL, &session) != DSM_OK || dsm_close(session) != DSM_OK) {
    fprintf(stderr, "empty: %s\n", dsm_last_error());
    return 1;
  }
  return 0;
}
