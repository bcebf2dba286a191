/* The cache: a hash table by the address of the store that traps.
 *
 * `inside` counts the threads that may use a translation. Memory is given out upwards, and is taken back all at once, by
 * a thread that is alone inside: so no code is changed while a thread runs it. Only the thread that holds `lock`
 * changes the table; no thread waits for it, its store is single then. */
#include "burst/cache.h"

#include <string.h>
#include <sys/mman.h>

#include "trap/code_memory.h"
#include "trap/guard.h"

#define PAGE_BYTES 4096u
#define PROBES 8u
#define CODE_MOST (BURST_CODE_PER_INSN * BURST_INSNS_MAX)
#define FACTS_MOST                                                                                                     \
  (sizeof(struct burst_translation) + BURST_POINTS_MAX * sizeof(struct burst_point) +                                  \
   BURST_INSNS_MAX * (15 + sizeof(struct burst_block) + sizeof(uint64_t)) + 64)

struct burst_entry {
  uint64_t rip; /* 0: none */
  const struct burst_translation *translation; /* NULL: none yet, or it cannot be */
  uint32_t traps;
  uint32_t shorts; /* short bursts in a row */
  uint32_t changes; /* BURST_CHANGES_MAX: never again */
};

static struct burst_entry entries[BURST_ENTRIES];
static struct code_memory memory;
static struct burst_stubs stubs;
static uint8_t *facts;
static uint32_t code_first, code_used, facts_used; /* bytes; code_first: of the stubs */
static uint32_t inside, dropping, lock;

/* Of the translation in progress; too large for the stack of a handler. */
static struct burst_insn insns[BURST_INSNS_MAX];
static struct burst_point points[BURST_POINTS_MAX];

int burst_cache_init(uint64_t leave) {
  void *fresh =
      mmap(NULL, BURST_FACTS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) return -1;
  if (code_memory_map(&memory, "dsm-burst", BURST_CODE_BYTES) != 0) {
    munmap(fresh, BURST_FACTS_BYTES);
    return -1;
  }
  facts = fresh;
  memset(entries, 0, sizeof entries);
  inside = dropping = lock = 0;
  struct code code = {memory.writable};
  burst_write_stubs(&code, &stubs, leave);
  code_first = code_used = ((uint32_t)(code.at - memory.writable) + 63) & ~63u;
  facts_used = 0;
  return 0;
}

bool burst_cache_holds(uint64_t rip) {
  return memory.executable != NULL && rip - (uint64_t)memory.executable < BURST_CODE_BYTES;
}

static void go_outside(void) {
  __atomic_fetch_sub(&inside, 1, __ATOMIC_SEQ_CST);
}

void burst_cache_put_off(void) {
  go_outside();
}

void burst_cache_give_back(const struct burst_translation *translation, size_t bytes) {
  uint32_t *shorts = &translation->entry->shorts;
  uint32_t before = __atomic_load_n(shorts, __ATOMIC_RELAXED);
  uint32_t after = bytes > translation->width ? 0 : before + (before < BURST_SHORT_MAX);
  if (after != before) __atomic_store_n(shorts, after, __ATOMIC_RELAXED);
  go_outside();
}

/* Code in the page of the trapping instruction is readable: it has just been fetched. The rest may be unmapped. */
static unsigned read_code(void *context, uint64_t rip, uint8_t bytes[15]) {
  uint64_t trapped = *(const uint64_t *)context;
  unsigned here = 0;
  struct dsm_guard guard;
  if (rip / PAGE_BYTES == trapped / PAGE_BYTES) {
    here = PAGE_BYTES - (unsigned)(rip % PAGE_BYTES);
    if (here > 15) here = 15;
    memcpy(bytes, (const void *)rip, here);
  }
  if (here < 15) here = 15 - (unsigned)dsm_guarded_copy(bytes + here, (const void *)(rip + here), 15 - here, &guard);
  return here;
}

/* Returns whether the code is still what the translation was made of. */
static bool is_current(const struct burst_translation *translation, uint64_t trapped) {
  for (uint32_t i = 0; i < translation->block_count; i++) {
    const struct burst_block *block = &translation->blocks[i];
    bool is_here = block->rip / PAGE_BYTES == trapped / PAGE_BYTES &&
                   (block->rip + block->length - 1) / PAGE_BYTES == trapped / PAGE_BYTES;
    if (is_here && memcmp((const void *)block->rip, block->bytes, block->length) != 0) return false;
    for (uint32_t done = 0; !is_here && done < block->length;) {
      uint8_t bytes[256];
      struct dsm_guard guard;
      uint32_t size = block->length - done < sizeof bytes ? block->length - done : (uint32_t)sizeof bytes;
      if (dsm_guarded_copy(bytes, (const void *)(block->rip + done), size, &guard) != 0 ||
          memcmp(bytes, block->bytes + done, size) != 0)
        return false;
      done += size;
    }
  }
  return true;
}

static void *take_facts(uint32_t size) {
  void *taken = facts + facts_used;
  facts_used += (size + 7) & ~7u;
  return taken;
}

/* Keeps which bytes the instructions have, in as few blocks as can be. */
static void keep_blocks(struct burst_translation *translation, unsigned count) {
  uint8_t *bytes = take_facts(15 * count);
  struct burst_block *blocks = take_facts(count * (uint32_t)sizeof *blocks);
  uint64_t *addresses = take_facts(count * (uint32_t)sizeof *addresses);
  uint32_t used = 0;
  for (unsigned i = 0; i < count; i++) {
    addresses[i] = insns[i].rip;
    if (insns[i].kind == BURST_EXIT) continue; /* the program runs it, whatever it is then */
    struct burst_block *last = used > 0 ? &blocks[used - 1] : NULL;
    if (last != NULL && last->rip + last->length == insns[i].rip)
      last->length += insns[i].length;
    else
      blocks[used++] = (struct burst_block){insns[i].rip, insns[i].length, bytes};
    memcpy(bytes, insns[i].bytes, insns[i].length);
    bytes += insns[i].length;
  }
  translation->blocks = blocks;
  translation->block_count = used;
  translation->insns = addresses;
  translation->insn_count = count;
}

/* Makes room for a translation. Returns whether there is. */
static bool make_room(void) {
  if (BURST_CODE_BYTES - code_used >= CODE_MOST && BURST_FACTS_BYTES - facts_used >= FACTS_MOST) return true;
  __atomic_store_n(&dropping, 1, __ATOMIC_SEQ_CST);
  bool is_alone = __atomic_load_n(&inside, __ATOMIC_SEQ_CST) == 1;
  if (is_alone) {
    for (unsigned i = 0; i < BURST_ENTRIES; i++) {
      __atomic_store_n(&entries[i].rip, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&entries[i].translation, NULL, __ATOMIC_RELAXED);
    }
    code_used = code_first;
    facts_used = 0;
  }
  __atomic_store_n(&dropping, 0, __ATOMIC_SEQ_CST);
  /* What the caller has found is gone: the next trap comes to an empty table. */
  return false;
}

/* Translates the code at rip for the entry. NULL: it is not worth it. Lock held. */
static const struct burst_translation *translate(struct burst_entry *entry, uint64_t rip) {
  const struct burst_reader reader = {.read = read_code, .context = &rip};
  unsigned count = burst_follow(&reader, rip, insns);
  if (insns[0].kind != BURST_STORE && insns[0].kind != BURST_RMW) return NULL;
  struct burst_translation *translation = take_facts(sizeof *translation);
  keep_blocks(translation, count);
  struct code code = {memory.writable + code_used};
  unsigned point_count = burst_translate(insns, count, &stubs, &code, points);
  struct burst_point *kept = take_facts(point_count * (uint32_t)sizeof *kept);
  memcpy(kept, points, point_count * sizeof *kept);
  translation->entry = entry;
  translation->width = insns[0].width;
  translation->code = memory.executable + code_used;
  translation->size = (uint32_t)(code.at - memory.writable) - code_used;
  translation->points = kept;
  translation->point_count = point_count;
  code_used += (translation->size + 63) & ~63u;
  return translation;
}

static struct burst_entry *place_of(uint64_t rip) {
  return &entries[(rip ^ rip >> 10 ^ rip >> 20) % BURST_ENTRIES];
}

/* Returns the entry of the store, or NULL. */
static struct burst_entry *find(uint64_t rip) {
  struct burst_entry *first = place_of(rip);
  for (unsigned i = 0; i < PROBES; i++) {
    struct burst_entry *entry = &entries[((size_t)(first - entries) + i) % BURST_ENTRIES];
    uint64_t here = __atomic_load_n(&entry->rip, __ATOMIC_ACQUIRE);
    if (here == rip) return entry;
    if (here == 0) break;
  }
  return NULL;
}

/* Makes an entry for the store, if need be in the place of the one that trapped least. Lock held. A thread that reads the
 * entry meanwhile may take the old translation for that of the new address, or count for the wrong one: it compares
 * addresses, and the counts are hints. */
static void remember(uint64_t rip) {
  struct burst_entry *first = place_of(rip), *chosen = NULL;
  for (unsigned i = 0; i < PROBES; i++) {
    struct burst_entry *entry = &entries[((size_t)(first - entries) + i) % BURST_ENTRIES];
    uint32_t traps = __atomic_load_n(&entry->traps, __ATOMIC_RELAXED);
    if (entry->rip == 0) {
      chosen = entry;
      break;
    }
    if (chosen == NULL || traps < __atomic_load_n(&chosen->traps, __ATOMIC_RELAXED)) chosen = entry;
    /* What was stored to long ago makes room in the end. */
    __atomic_store_n(&entry->traps, traps / 2, __ATOMIC_RELAXED);
  }
  __atomic_store_n(&chosen->translation, NULL, __ATOMIC_RELAXED);
  __atomic_store_n(&chosen->traps, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&chosen->shorts, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&chosen->changes, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&chosen->rip, rip, __ATOMIC_RELEASE);
}

static const struct burst_translation *find_translation(uint64_t rip) {
  struct burst_entry *entry = find(rip);
  bool is_locked = false;
  const struct burst_translation *translation = NULL;
  if (entry != NULL) {
    uint32_t traps = __atomic_add_fetch(&entry->traps, 1, __ATOMIC_RELAXED);
    if (traps < BURST_TRAPS_FIRST || __atomic_load_n(&entry->changes, __ATOMIC_RELAXED) >= BURST_CHANGES_MAX)
      return NULL;
    if (__atomic_load_n(&entry->shorts, __ATOMIC_RELAXED) >= BURST_SHORT_MAX && traps % BURST_TRY_AGAIN != 0)
      return NULL;
    translation = __atomic_load_n(&entry->translation, __ATOMIC_ACQUIRE);
    if (translation != NULL && translation->insns[0] == rip && is_current(translation, rip)) return translation;
  }
  is_locked = __atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE) == 0;
  if (!is_locked) return NULL;
  translation = NULL;
  entry = find(rip);
  if (entry == NULL) {
    remember(rip);
  } else if (make_room()) {
    __atomic_store_n(&entry->changes, entry->changes + 1, __ATOMIC_RELAXED);
    translation = translate(entry, rip);
    __atomic_store_n(&entry->translation, translation, __ATOMIC_RELEASE);
    if (translation == NULL) __atomic_store_n(&entry->changes, BURST_CHANGES_MAX, __ATOMIC_RELAXED);
  }
  __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
  return translation;
}

const struct burst_translation *burst_cache_take(uint64_t rip) {
  __atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST);
  const struct burst_translation *translation =
      __atomic_load_n(&dropping, __ATOMIC_SEQ_CST) == 0 ? find_translation(rip) : NULL;
  if (translation == NULL) go_outside();
  return translation;
}
