/* No process sees half of an aligned store. Rank 0 stores words by which a reader can tell whether it has all of one: one by
 * one, several before a fence (only then they are seen under release), and now and then in a hole. The other ranks read
 * as fast as they can, until there were STORES stores and each reader has made LOADS loads and seen CHANGES changes of an
 * 8-byte word. They read the words as they are, or for a while beside stores of their own in the same page (under
 * release a copy of it), or through a hole of theirs that has other bytes of the page.
 *
 *   tearing STORES LOADS CHANGES
 *
 * Every rank prints how many loads it made and how many different words it saw. */
#include "side.h"

#include <sched.h>

static dsm_session *session;

/* Words of three kinds take turns, because an order that finds out what changed by comparing publishes only that:
 * all bytes change, a few bytes change (those between stay 0x55), and the halves belong together by a product. */
static uint64_t word(uint64_t number) {
  uint64_t byte = number & 0xff;
  switch (number >> 8 & 3) {
    case 0: return byte * 0x0101010101010101u;
    case 1: return 0x5500555500550055u | byte * 0x0001000001000100u;
    case 2: return 0x0055555555555500u | byte * 0x0100000000000001u;
    default: return (uint32_t)(number * 0x9e3779b1u) | (uint64_t)(uint32_t)(number * 0x9e3779b1u * 0x85ebca77u) << 32;
  }
}

static bool is_whole(uint64_t value) {
  uint64_t byte = value & 0xff;
  if (value == byte * 0x0101010101010101u || value == (0x0055555555555500u | byte * 0x0100000000000001u)) return true;
  if (value == (0x5500555500550055u | (value >> 8 & 0xff) * 0x0001000001000100u)) return true;
  return (uint32_t)(value >> 32) == (uint32_t)value * 0x85ebca77u;
}

/* 4 and 2 bytes: the lower half again in the upper one, by a bijection. */
static uint32_t word_4(uint64_t number) {
  uint16_t half = (uint16_t)number;
  return half | (uint32_t)(uint16_t)(half * 0x9e37u + 0x79b1u) << 16;
}

static uint16_t word_2(uint64_t number) {
  uint8_t half = (uint8_t)number;
  return (uint16_t)(half | (uint8_t)(half * 0x9du + 0x2bu) << 8);
}

struct shared {
  uint64_t wide;
  uint32_t middle;
  uint16_t narrow;
  uint8_t pad[4096 - 14];
  uint64_t far; /* of another page */
  uint32_t done;
  uint32_t readers; /* that have not made their loads yet */
};

/* A reader's own place in the page of the words. */
static volatile uint32_t *own_place(volatile struct shared *shared) {
  return (volatile uint32_t *)((uint8_t *)shared + 1024) + dsm_rank(session);
}

static void store_word(volatile struct shared *shared, uint64_t i) {
  switch (i & 3) {
    case 0: shared->middle = word_4(i >> 2); break;
    case 1: shared->narrow = word_2(i >> 2); break;
    case 2: shared->far = word(i >> 2); break;
    default: shared->wide = word(i >> 2);
  }
}

/* All the words of the page, or the far one with its page. */
static int dig(volatile struct shared *shared, bool far) {
  int hole;
  void *at = far ? (uint8_t *)shared + 4096 : (uint8_t *)shared;
  CHECK_OK(dsm_hole_dig(session, at, far ? 4096 : 64, &hole));
  return hole;
}

int main(int argc, char **argv) {
  CHECK(argc == 4);
  uint64_t stores = strtoull(argv[1], NULL, 10), enough = strtoull(argv[2], NULL, 10);
  uint64_t enough_changes = strtoull(argv[3], NULL, 10);
  uint64_t loads = 0, changes = 0, last = 0;
  CHECK_OK(dsm_open(NULL, &session));
  volatile struct shared *shared = dsm_address(session);
  if (dsm_rank(session) == 0) {
    shared->readers = (uint32_t)dsm_processes(session) - 1;
    shared->wide = word(0);
    shared->far = word(0);
    shared->middle = word_4(0);
    shared->narrow = word_2(0);
  }
  CHECK_OK(dsm_barrier_wait(session));
  if (dsm_rank(session) == 0) {
    struct random random = random_seeded(1, 0);
    for (uint64_t i = 1; i <= stores || shared->readers > 0;) {
      uint32_t chance = random_next(&random);
      uint64_t next = i + 1 + (chance & 7);
      int hole = (chance >> 8 & 63) == 0 ? dig(shared, (chance >> 16 & 1) != 0) : 0;
      for (; i < next; i++) store_word(shared, i);
      if (hole != 0) CHECK_OK(dsm_hole_fill(session, hole));
      else CHECK_OK(dsm_fence(session));
    }
    shared->done = 1;
    CHECK_OK(dsm_fence(session));
  } else {
    bool told = false;
    int hole = 0;
    struct random random = random_seeded(1, (uint32_t)dsm_rank(session));
    while (shared->done == 0) {
      uint32_t chance = random_next(&random);
      if ((chance & 63) == 0) {
        if (hole != 0) CHECK_OK(dsm_hole_fill(session, hole));
        hole = 0;
        if ((chance >> 8 & 3) == 0) {
          CHECK_OK(dsm_hole_dig(session, (uint8_t *)dsm_address(session) + 2048 + 64 * dsm_rank(session), 64, &hole));
        } else if ((chance >> 8 & 3) == 1) {
          *own_place(shared) = chance;
          dawdle(&random, 50000);
          CHECK_OK(dsm_fence(session));
        }
      }
      for (int i = 0; i < 64; i++) {
        uint64_t wide = shared->wide, far = shared->far;
        uint32_t middle = shared->middle;
        uint16_t narrow = shared->narrow;
        CHECK(is_whole(wide));
        CHECK(is_whole(far));
        CHECK(middle == word_4(middle));
        CHECK(narrow == word_2(narrow));
        changes += wide != last;
        last = wide;
        loads += 4;
      }
      if (!told && loads >= enough && changes >= enough_changes) {
        __atomic_fetch_sub(&((struct shared *)dsm_address(session))->readers, 1, __ATOMIC_SEQ_CST);
        told = true;
      }
      /* The writer's stores go through processes that need this processor too. */
      sched_yield();
    }
    if (hole != 0) CHECK_OK(dsm_hole_fill(session, hole));
  }
  printf("%llu %llu\n", (unsigned long long)loads, (unsigned long long)changes);
  CHECK_OK(dsm_barrier_wait(session));
  CHECK_OK(dsm_close(session));
  return 0;
}
