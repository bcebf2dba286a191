/* Counts primes, range by range, each range in a session of its own: a process may join as many sessions in a row as it
 * likes.
 *
 *   gcc -O2 primes.c -o primes -ldsm -lpthread -lrt -lxed
 *   dsm run -n 4 -- ./primes [RANGES [WIDTH]]
 */
#include <dsm/dsm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANGES_MAX 1000
#define WIDTH_MAX 10000000

static const char usage[] =
    "usage: dsm run -n N -- ./primes [RANGES [WIDTH]]\n"
    "\n"
    "Counts the primes in RANGES ranges (1 to 1000, default 5) of WIDTH numbers each (1 to 10000000, default 100000),\n"
    "one session after the other. In each session the processes divide the range among them.\n";

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "primes: %s\n", dsm_last_error());
  exit(1);
}

static long number(const char *name, const char *text, long max) {
  char *end;
  long value = strtol(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != '\0' || value < 1 || value > max) {
    fprintf(stderr, "primes: %s must be a number from 1 to %ld, and \"%s\" was given\n%s", name, max, text, usage);
    exit(2);
  }
  return value;
}

static bool is_prime(long candidate) {
  if (candidate < 4) return candidate > 1;
  if (candidate % 2 == 0) return false;
  for (long divisor = 3; divisor * divisor <= candidate; divisor += 2) {
    if (candidate % divisor == 0) return false;
  }
  return true;
}

/* Counts the primes in one range, in the session that `config` names. *rank becomes this process's rank there. */
static long count_range(const dsm_config *config, long from, long to, int *rank) {
  dsm_session *session;
  check(dsm_open(config, &session));
  int *count = dsm_address(session);
  *rank = dsm_rank(session);

  int found = 0;
  for (long candidate = from + *rank; candidate < to; candidate += dsm_processes(session)) {
    found += is_prime(candidate);
  }
  __atomic_fetch_add(count, found, __ATOMIC_SEQ_CST); /* no update of another process is lost, wherever it is */
  check(dsm_barrier_wait(session));

  long all = *count;
  check(dsm_close(session));
  return all;
}

int main(int argc, char **argv) {
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(usage, stdout);
    return 0;
  }
  if (argc > 3) {
    fprintf(stderr, "primes: two arguments at most, and %d were given\n%s", argc - 1, usage);
    return 2;
  }
  long ranges = argc > 1 ? number("RANGES", argv[1], RANGES_MAX) : 5;
  long width = argc > 2 ? number("WIDTH", argv[2], WIDTH_MAX) : 100000;

  dsm_config config;
  check(dsm_config_init(&config));
  const char *base = config.session ? config.session : "primes";
  int rank = 0;
  long total = 0;
  for (long range = 0; range < ranges; range++) {
    char name[DSM_NAME_MAX + 32];
    snprintf(name, sizeof name, "%s-%ld", base, range);
    config.session = name;
    long from = range * width;
    long to = from + width;
    long count = count_range(&config, from, to, &rank);
    total += count;
    if (rank == 0) {
      printf("session %ld of %ld: %ld primes from %ld to %ld\n", range + 1, ranges, count, from, to - 1);
      fflush(stdout);
    }
  }
  if (rank == 0) printf("%ld primes below %ld\n", total, ranges * width);
  return 0;
}
