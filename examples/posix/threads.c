/* Before: numbers handed over from one thread to three others, with a mutex, condition variables and a barrier.
 *
 *   gcc -O2 threads.c -o threads -lpthread && ./threads
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#define WORKERS 3
#define NUMBERS 300

static struct {
  int number;
  bool full;
  long sum;
} box;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t finished;

static void put(int number) {
  pthread_mutex_lock(&mutex);
  while (box.full) pthread_cond_wait(&changed, &mutex);
  box.number = number;
  box.full = true;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

static int take(void) {
  pthread_mutex_lock(&mutex);
  while (!box.full) pthread_cond_wait(&changed, &mutex);
  int number = box.number;
  box.sum += number;
  box.full = false;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
  return number;
}

static void *work(void *unused) {
  while (take() != 0) continue;
  pthread_barrier_wait(&finished);
  return unused;
}

int main(void) {
  pthread_barrier_init(&finished, NULL, WORKERS + 1);
  pthread_t workers[WORKERS];
  for (int i = 0; i < WORKERS; i++) pthread_create(&workers[i], NULL, work, NULL);

  for (int number = 1; number <= NUMBERS; number++) put(number);
  for (int i = 0; i < WORKERS; i++) put(0); /* no more */
  pthread_barrier_wait(&finished);
  printf("the sum is %ld\n", box.sum);

  for (int i = 0; i < WORKERS; i++) pthread_join(workers[i], NULL);
  return 0;
}
