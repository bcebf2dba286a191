/* Before: four processes of one machine add to a sum in POSIX shared memory, guarded by a named semaphore.
 *
 *   gcc -O2 shm.c -o shm -lpthread -lrt && ./shm
 */
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESSES 4

static void fail(const char *what) {
  perror(what);
  exit(1);
}

int main(void) {
  int fd = shm_open("/shm-example", O_CREAT | O_EXCL | O_RDWR, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(double)) != 0) fail("shm_open");
  double *sum = mmap(NULL, sizeof *sum, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (sum == MAP_FAILED) fail("mmap");
  sem_t *turn = sem_open("/shm-example", O_CREAT | O_EXCL, 0600, 1);
  if (turn == SEM_FAILED) fail("sem_open");

  for (int rank = 0; rank < PROCESSES; rank++) {
    if (fork() != 0) continue;
    if (sem_wait(turn) != 0) fail("sem_wait");
    *sum += rank + 1;
    sem_post(turn);
    _exit(0);
  }
  for (int i = 0; i < PROCESSES; i++) wait(NULL);
  printf("the sum is %g\n", *sum);

  sem_close(turn);
  sem_unlink("/shm-example");
  shm_unlink("/shm-example");
  return 0;
}
