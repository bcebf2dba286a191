/* A process that does what it is told, line by line: "store 4 0x100 7", "barrier", "dig 0 4096". Each line is answered
 * by one: "ok", "ok VALUE", or the name of a status and the reason. It ends at the end of its input, without leaving
 * the session unless it was told to.
 *
 * Offsets, widths and lengths are bytes. `load` and `count` first take a place in the order themselves, so they see all
 * that was ordered before they were asked for; `peek` looks at once. */
#include <dsm/dsm.h>
#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actor_objects.h"

#define SESSIONS 64
#define THREADS 16
#define LINE 512

static dsm_session *sessions[SESSIONS];
static int opened;  /* handles in `sessions`; they stay after leaving */
static int current; /* the one that commands are for */

static struct {
  pthread_t thread;
  char command[LINE];
  char answer[LINE];
} threads[THREADS];

static void perform(const char *command, char *answer);
static void *serve(void *ignored);

static void answer_status(char *answer, int status) {
  if (status == DSM_OK) strcpy(answer, "ok");
  else snprintf(answer, LINE, "%s %s", dsm_status_name(status), dsm_last_error());
}

static void answer_number(char *answer, unsigned long long value) {
  snprintf(answer, LINE, "ok %llu", value);
}

static uint8_t *at(unsigned long long offset) {
  return (uint8_t *)dsm_address(sessions[current]) + offset;
}

/* Own operations have their place behind all that is ordered already. */
static int catch_up(void) {
  return dsm_sem_post(sessions[current], "catch up", 0);
}

static void open_session(const char *name, char *answer) {
  dsm_config config;
  int status = dsm_config_init(&config);
  if (name[0] != '\0') config.session = name;
  dsm_session *session;
  if (status == DSM_OK) status = dsm_open(&config, &session);
  if (status != DSM_OK) {
    answer_status(answer, status);
    return;
  }
  current = opened++;
  sessions[current] = session;
  snprintf(answer, LINE, "ok %d", current);
}

static void describe(char *answer) {
  const dsm_session *s = sessions[current];
  snprintf(answer, LINE, "ok %d %d %p %zu %s %s", dsm_rank(s), dsm_processes(s), dsm_address(s), dsm_size(s),
           dsm_node(s), dsm_name(s));
}

static unsigned long long load(unsigned width, const volatile void *from) {
  switch (width) {
    case 1: return *(const volatile uint8_t *)from;
    case 2: return *(const volatile uint16_t *)from;
    case 4: return *(const volatile uint32_t *)from;
    default: return *(const volatile uint64_t *)from;
  }
}

static void store(unsigned width, volatile void *to, unsigned long long value) {
  switch (width) {
    case 1: *(volatile uint8_t *)to = (uint8_t)value; break;
    case 2: *(volatile uint16_t *)to = (uint16_t)value; break;
    case 4: *(volatile uint32_t *)to = (uint32_t)value; break;
    default: *(volatile uint64_t *)to = value; break;
  }
}

__attribute__((target("avx"))) static void store_ymm(uint8_t *to, int byte) {
  _mm256_storeu_si256((__m256i *)to, _mm256_set1_epi8((char)byte));
}

__attribute__((target("avx512f"))) static void store_zmm(uint8_t *to, int byte) {
  _mm512_storeu_si512(to, _mm512_set1_epi32((int)(0x01010101u * (unsigned)byte)));
}

/* One vector store of 16, 32 or 64 bytes, as wide as the CPU has them. */
static void store_vector(unsigned width, uint8_t *to, int byte) {
  if (width == 64 && __builtin_cpu_supports("avx512f")) {
    store_zmm(to, byte);
  } else if (width >= 32 && __builtin_cpu_supports("avx")) {
    for (unsigned done = 0; done < width; done += 32) store_ymm(to + done, byte);
  } else {
    for (unsigned done = 0; done < width; done += 16) {
      _mm_storeu_si128((__m128i *)(to + done), _mm_set1_epi8((char)byte));
    }
  }
}

static void rep_stos(uint8_t *to, size_t count, int byte) {
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(byte) : "memory");
}

/* A pointer, so that the compiler makes no stores in its place. */
static void *(*volatile call_memset)(void *, int, size_t) = memset;

static void rep_movs(uint8_t *to, const uint8_t *from, size_t count) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static unsigned long long count_bytes(const uint8_t *from, size_t size, int byte) {
  unsigned long long count = 0;
  for (size_t i = 0; i < size; i++) count += from[i] == byte;
  return count;
}

/* Fills it with the byte in a hole, which is then filled. */
static int publish(uint8_t *to, size_t size, int byte) {
  int hole;
  int status = dsm_hole_dig(sessions[current], to, size, &hole);
  if (status != DSM_OK) return status;
  memset(to, byte, size);
  return dsm_hole_fill(sessions[current], hole);
}

/* Stores 1, 2, 3 and so on, for ever. */
static void storm(volatile uint64_t *to) {
  for (uint64_t i = 1;; i++) *to = i;
}

#define TRAIL 64

/* Stores 1, 2, 3 and so on, for ever, in one word after the other of a row. */
static void trail(volatile uint64_t *to) {
  for (uint64_t i = 1;; i++) to[i % TRAIL] = i;
}

/* Fills a piece of the map with 1, 2, 3 and so on, for ever: each takes the ring's lock for long. */
static void flood(uint8_t *to) {
  for (int i = 1;; i++) rep_stos(to, 16384, i);
}

/* Where this process has mapped that place of its node's file for writing; the first such mapping. */
static uint8_t *mapped(unsigned long long offset) {
  FILE *maps = fopen("/proc/thread-self/maps", "r");
  char line[2 * LINE];
  uint8_t *found = NULL;
  while (maps != NULL && found == NULL && fgets(line, sizeof(line), maps) != NULL) {
    unsigned long long from, to, first;
    if (strstr(line, "/dev/shm/dsm") == NULL || sscanf(line, "%llx-%llx rw-s %llx", &from, &to, &first) != 3) continue;
    if (first <= offset && offset - first < to - from) found = (uint8_t *)(uintptr_t)(from + (offset - first));
  }
  if (maps != NULL) fclose(maps);
  return found;
}

/* Takes the ring's lock, at that place of the node's file, as a store does; with `may_have_it` in the name of a process
 * that stands still, and may have it. */
static void seize(unsigned long long lock, uint32_t owner, int may_have_it) {
  _Atomic uint32_t *word = (_Atomic uint32_t *)(void *)mapped(lock);
  for (uint32_t was = 0; !atomic_compare_exchange_weak(word, &was, owner); was = 0) {
    if (may_have_it && was == owner) return;
    sched_yield();
  }
}

static void release(unsigned long long lock) {
  atomic_store((_Atomic uint32_t *)(void *)mapped(lock), 0);
}

/* From now on a pipelined store to that page of the map ends the process while it has the ring's lock: where it writes
 * to its second mapping of the map, which is when the record is in the ring, or if `early` where it reads the old bytes
 * from there, which is before. */
static int doom(unsigned long long offset, int early) {
  return mprotect(mapped(offset & ~4095ull), 4096, early ? PROT_NONE : PROT_READ);
}

/* The last of a trail's stores, of which all before it are there too, and none behind it. */
static void trailed(const volatile uint64_t *from, char *answer) {
  uint64_t last = 0;
  for (unsigned i = 0; i < TRAIL; i++)
    if (from[i] > last) last = from[i];
  for (uint64_t i = last > TRAIL ? last - TRAIL + 1 : 1; i <= last; i++) {
    if (from[i % TRAIL] == i) continue;
    snprintf(answer, LINE, "store %llu is there, and %llu is not", (unsigned long long)last, (unsigned long long)i);
    return;
  }
  answer_number(answer, last);
}

/* Uses semaphores of `count` names, up to the first that is refused. */
static int use_names(unsigned long long count) {
  int status = DSM_OK;
  for (unsigned long long i = 0; i < count && status == DSM_OK; i++) {
    char name[32];
    snprintf(name, sizeof(name), "n%llu", i);
    status = dsm_sem_post(sessions[current], name, 0);
  }
  return status;
}

/* Does it in a forked child. The answer: how the child ended, and its own answer. */
static void in_child(const char *command, char *answer) {
  int ends[2];
  if (pipe(ends) != 0) abort();
  pid_t child = fork();
  if (child == 0) {
    char own[LINE];
    perform(command, own);
    if (write(ends[1], own, strlen(own)) < 0) _exit(1);
    _exit(0);
  }
  close(ends[1]);
  int status;
  waitpid(child, &status, 0);
  char own[LINE] = "";
  ssize_t length = read(ends[0], own, sizeof(own) - 1);
  own[length > 0 ? length : 0] = '\0';
  close(ends[0]);
  if (WIFSIGNALED(status)) snprintf(answer, LINE, "ok signal %d", WTERMSIG(status));
  else snprintf(answer, LINE, "ok exit %d %.400s", WEXITSTATUS(status), own);
}

static void *run_thread(void *index) {
  intptr_t i = (intptr_t)index;
  perform(threads[i].command, threads[i].answer);
  return NULL;
}

static void thread_begin(unsigned index, const char *command) {
  strcpy(threads[index].command, command);
  if (pthread_create(&threads[index].thread, NULL, run_thread, (void *)(intptr_t)index) != 0) abort();
}

static void thread_end(unsigned index, char *answer) {
  pthread_join(threads[index].thread, NULL);
  strcpy(answer, threads[index].answer);
}

/* Another thread goes on with the commands; the process's first one ends. */
static void hand_over(void) {
  pthread_t thread;
  puts("ok");
  fflush(stdout);
  if (pthread_create(&thread, NULL, serve, NULL) != 0) abort();
  pthread_exit(NULL);
}

static void perform(const char *command, char *answer) {
  char verb[32] = "";
  int length = 0;
  sscanf(command, "%31s%n", verb, &length);
  const char *rest = command + length + (command[length] == ' ');
  /* Up to three numbers, for the verbs that take them. */
  unsigned long long n[3] = {0, 0, 0};
  char *end = (char *)rest;
  for (int i = 0; i < 3; i++) n[i] = strtoull(end, &end, 0);
  dsm_session *session = sessions[current];
  char name[LINE] = "";
  unsigned long long initial = 0, timeout = 0;
  sscanf(rest, "%511s %lli %lli", name, &initial, &timeout);
  int status = DSM_OK;

#define IS(word) (strcmp(verb, word) == 0)
  if (IS("open")) open_session(rest, answer);
  else if (IS("use")) current = (int)n[0], strcpy(answer, "ok");
  else if (IS("describe")) describe(answer);
  else if (IS("store")) store((unsigned)n[0], at(n[1]), n[2]), strcpy(answer, "ok");
  else if (IS("vector")) store_vector((unsigned)n[0], at(n[1]), (int)n[2]), strcpy(answer, "ok");
  else if (IS("stos")) rep_stos(at(n[0]), n[1], (int)n[2]), strcpy(answer, "ok");
  else if (IS("memset")) call_memset(at(n[0]), (int)n[2], n[1]), strcpy(answer, "ok");
  else if (IS("movs")) rep_movs(at(n[0]), at(n[1]), n[2]), strcpy(answer, "ok");
  else if (IS("add")) answer_number(answer, __atomic_fetch_add((uint64_t *)at(n[0]), n[1], __ATOMIC_SEQ_CST));
  else if (IS("peek")) answer_number(answer, load((unsigned)n[0], at(n[1])));
  else if (IS("load") && (status = catch_up()) == DSM_OK) answer_number(answer, load((unsigned)n[0], at(n[1])));
  else if (IS("count") && (status = catch_up()) == DSM_OK)
    answer_number(answer, count_bytes(at(n[0]), n[1], (int)n[2]));
  else if (IS("dig")) {
    int hole = 0;
    status = dsm_hole_dig(session, at(n[0]), n[1], &hole);
    if (status == DSM_OK) answer_number(answer, (unsigned)hole);
    else answer_status(answer, status);
  } else if (IS("fill")) answer_status(answer, dsm_hole_fill(session, (int)n[0]));
  else if (IS("publish")) answer_status(answer, publish(at(n[0]), n[1], (int)n[2]));
  else if (IS("storm")) storm((uint64_t *)at(n[0]));
  else if (IS("trail")) trail((uint64_t *)at(n[0]));
  else if (IS("flood")) flood(at(n[0]));
  else if (IS("seize")) seize(n[0], (uint32_t)n[1], (int)n[2]), strcpy(answer, "ok");
  else if (IS("release")) release(n[0]), strcpy(answer, "ok");
  else if (IS("doom")) snprintf(answer, LINE, doom(n[0], (int)n[1]) == 0 ? "ok" : "%s", strerror(errno));
  else if (IS("trailed") && (status = catch_up()) == DSM_OK) trailed((uint64_t *)at(n[0]), answer);
  else if (IS("barrier")) answer_status(answer, dsm_barrier_wait(session));
  else if (IS("timedbarrier")) answer_status(answer, dsm_barrier_timed(session, (uint32_t)n[0]));
  else if (IS("wait")) answer_status(answer, dsm_sem_wait(session, name, (uint32_t)initial));
  else if (IS("try")) answer_status(answer, dsm_sem_trywait(session, name, (uint32_t)initial));
  else if (IS("timed")) answer_status(answer, dsm_sem_timedwait(session, name, (uint32_t)initial, (uint32_t)timeout));
  else if (IS("lock")) answer_status(answer, dsm_lock(session, name));
  else if (IS("trylock")) answer_status(answer, dsm_lock_try(session, name));
  else if (IS("timedlock")) answer_status(answer, dsm_lock_timed(session, name, (uint32_t)initial));
  else if (IS("unlock")) answer_status(answer, dsm_unlock(session, name));
  else if (IS("unmended")) answer_status(answer, dsm_unlock_unmended(session, name));
  else if (IS("wakeall")) answer_status(answer, dsm_wake(session, at(n[0]), UINT32_MAX, NULL));
  else if (IS("onloss")) snprintf(answer, LINE, "ok %s", dsm_on_loss(session));
  else if (IS("post")) answer_status(answer, dsm_sem_post(session, name, (uint32_t)initial));
  else if (IS("fill_names")) answer_status(answer, use_names(n[0]));
  else if (IS("alloc")) {
    void *block = NULL;
    status = dsm_alloc(session, n[0], 8, &block);
    if (status == DSM_OK) answer_number(answer, (uintptr_t)block - (uintptr_t)dsm_address(session));
    else answer_status(answer, status);
  } else if (IS("named")) {
    void *block = NULL;
    status = dsm_named(session, name, initial, &block);
    if (status == DSM_OK) answer_number(answer, (uintptr_t)block - (uintptr_t)dsm_address(session));
    else answer_status(answer, status);
  } else if (IS("fence")) answer_status(answer, dsm_fence(session));
  else if (IS("leave")) answer_status(answer, dsm_close(session));
  else if (IS("thread")) thread_begin(0, rest), thread_end(0, answer);
  else if (IS("begin")) thread_begin((unsigned)n[0], rest + strcspn(rest, " ") + 1), strcpy(answer, "ok");
  else if (IS("end")) thread_end((unsigned)n[0], answer);
  else if (IS("fork")) in_child(rest, answer);
  else if (IS("become")) execlp(rest, rest, (char *)NULL), strcpy(answer, strerror(errno));
  else if (IS("hand_over")) hand_over();
  else if (IS("sleep")) sleep((unsigned)n[0]), strcpy(answer, "ok");
  else if (IS("wild")) *(volatile int *)n[0] = 1;
  else if (status != DSM_OK) answer_status(answer, status);
  else if ((status = perform_object(verb, at(n[0]), at(0), n)) >= 0) answer_status(answer, status);
  else snprintf(answer, LINE, "no such command: %.100s", command);
}

static void *serve(void *ignored) {
  (void)ignored;
  char line[LINE], answer[LINE];
  while (fgets(line, sizeof(line), stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    perform(line, answer);
    puts(answer);
    fflush(stdout);
  }
  exit(0);
}

int main(void) {
  serve(NULL);
}
