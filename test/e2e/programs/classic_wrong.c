/* Uses the libdsm interface wrongly, in the way its argument says. All of it must end the program with a message. */
#include <dsm/dsm.h>
#include <dsm/dsm_util.h>
#include <string.h>

int main(int argc, char *argv[]) {
  const char *how = argc > 1 ? argv[1] : "";
  if (strcmp(how, "no session") == 0) dsm_barrier();
  if (strcmp(how, "no processes") == 0) dsm_init("wrong", 0, 0, 4096);
  if (strcmp(how, "more here than in all") == 0) dsm_init("wrong", 3, 2, 4096);
  if (strcmp(how, "slash") == 0) dsm_init("wr/ong", 1, 1, 4096);
  if (strcmp(how, "no name") == 0) dsm_init("", 1, 1, 4096);
  if (strcmp(how, "too large") == 0) dsm_init("wrong", 1, 1, (size_t)1 << 33);
  if (strcmp(how, "no configuration") == 0) dsm_init2(NULL);
  if (strcmp(how, "no daemon") == 0) {
    dsm_cfg cfg = {.lproc = 1, .tproc = 1, .sid_name = "wrong", .d_addr = "127.0.0.1", .d_port = "1", .map_size = 4096};
    dsm_init2(&cfg);
  }
  dsm_init("wrong", 1, 1, 4096);
  if (strcmp(how, "twice") == 0) dsm_init("wrong", 1, 1, 4096);
  if (strcmp(how, "semaphore") == 0) dsm_wait_sem("a/b");
  if (strcmp(how, "hole") == 0) dsm_fill_hole(7);
  dsm_exit();
  dsm_exit();
  return 0;
}
