/* Floor of a sequential store: frames of a store's size to a Unix socket, answers of a reply's size back, no dsm.
 * echo SOCKET ROUNDS prints the nanoseconds of every round, one a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../src/base/clock.h"

#define STORE_FRAME 48
#define REPLY_FRAME 40

int main(int argc, char **argv) {
  if (argc != 3 || atoi(argv[2]) < 1) {
    fprintf(stderr, "usage: echo SOCKET ROUNDS\n");
    return 2;
  }
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
    perror(argv[1]);
    return 1;
  }
  int rounds = atoi(argv[2]);
  char frame[STORE_FRAME] = {0};
  for (int i = 0; i < rounds; i++) {
    long long start = now_ns();
    if (send(fd, frame, sizeof frame, 0) != sizeof frame || recv(fd, frame, REPLY_FRAME, MSG_WAITALL) != REPLY_FRAME) {
      perror("echo");
      return 1;
    }
    printf("%lld\n", now_ns() - start);
  }
  return 0;
}
