/* Redis beside dsm: redis SOCKET|PORT set|incr ROUNDS speaks RESP to a server on a Unix socket (a path, with a slash) or
 * on loopback, one request at a time, and prints the nanoseconds of every round, one a line. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../src/base/clock.h"

static int connect_to(const char *place) {
  if (strchr(place, '/') != NULL) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, place, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(place))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

/* One request and its answer, which is one line. 0, or -1: not the answer expected. */
static int ask(int fd, const char *request, char expected) {
  size_t size = strlen(request), have = 0;
  char answer[64];
  if (send(fd, request, size, MSG_NOSIGNAL) != (ssize_t)size)
    return -1;
  do {
    ssize_t got = recv(fd, answer + have, sizeof answer - have, 0);
    if (got <= 0)
      return -1;
    have += (size_t)got;
  } while (answer[have - 1] != '\n' && have < sizeof answer);
  return answer[0] == expected ? 0 : -1;
}

int main(int argc, char **argv) {
  if (argc != 4 || atoi(argv[3]) < 1) {
    fprintf(stderr, "usage: redis SOCKET|PORT set|incr ROUNDS\n");
    return 2;
  }
  int fd = connect_to(argv[1]);
  if (fd < 0) {
    perror(argv[1]);
    return 1;
  }
  int sets = strcmp(argv[2], "set") == 0;
  const char *request = sets ? "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8\r\n12345678\r\n" : "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
  for (int i = 0; i < atoi(argv[3]); i++) {
    long long start = now_ns();
    if (ask(fd, request, sets ? '+' : ':') != 0) {
      fprintf(stderr, "redis: the server's answer is not the one expected\n");
      return 1;
    }
    printf("%lld\n", now_ns() - start);
  }
  close(fd);
  return 0;
}
