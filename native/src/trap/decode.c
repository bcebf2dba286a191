/* Decodes instruction bytes into a struct dsm_insn: XED decodes, classify.c classifies, a cache avoids both. */
#include "trap/decode.h"

#include <string.h>
#include <xed/xed-interface.h>

#include "trap/breakpoint.h"
#include "trap/classify.h"

#define CACHE_ENTRIES 1024
#define INSN_WORDS (sizeof(struct dsm_insn) / 8)
#define PAGE_BYTES 4096u

/* One cached instruction. `version` is odd while a thread writes the entry; a reader that finds it odd, or changed
 * after it has copied the words, decodes for itself. No thread ever waits. */
struct entry {
  uint64_t version;
  uint64_t words[INSN_WORDS];
};
static struct entry cache[CACHE_ENTRIES];

static struct entry *entry_of(uint64_t rip) {
  return &cache[(rip ^ rip >> 10 ^ rip >> 20) % CACHE_ENTRIES];
}

static bool cache_get(uint64_t rip, struct dsm_insn *insn) {
  struct entry *e = entry_of(rip);
  uint64_t version = __atomic_load_n(&e->version, __ATOMIC_ACQUIRE);
  if ((version & 1) != 0) return false;
  union {
    uint64_t words[INSN_WORDS];
    struct dsm_insn insn;
  } copy;
  for (unsigned i = 0; i < INSN_WORDS; i++) copy.words[i] = __atomic_load_n(&e->words[i], __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  if (__atomic_load_n(&e->version, __ATOMIC_RELAXED) != version || copy.insn.rip != rip || copy.insn.length == 0) {
    return false;
  }
  /* Code may have changed (JIT). No byte past the page is read unless those before it agree: then the instruction
   * does go on there, and the processor has just fetched it. */
  const uint8_t *code = (const uint8_t *)rip;
  unsigned here = PAGE_BYTES - (unsigned)(rip % PAGE_BYTES);
  if (here > copy.insn.length) here = copy.insn.length;
  if (memcmp(code, copy.insn.bytes, here) != 0) return false;
  if (memcmp(code + here, copy.insn.bytes + here, copy.insn.length - here) != 0) return false;
  *insn = copy.insn;
  return true;
}

static void cache_put(const struct dsm_insn *insn) {
  struct entry *e = entry_of(insn->rip);
  uint64_t version = __atomic_load_n(&e->version, __ATOMIC_RELAXED);
  if ((version & 1) != 0 ||
      !__atomic_compare_exchange_n(&e->version, &version, version + 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    return;
  }
  __atomic_thread_fence(__ATOMIC_RELEASE);
  uint64_t words[INSN_WORDS];
  memcpy(words, insn, sizeof(words));
  for (unsigned i = 0; i < INSN_WORDS; i++) __atomic_store_n(&e->words[i], words[i], __ATOMIC_RELAXED);
  __atomic_store_n(&e->version, version + 2, __ATOMIC_RELEASE);
}

/* Decodes the code. `here`: the number of bytes known to be readable; 15 are always enough. */
static __attribute__((noinline)) bool decode(uint64_t rip, const uint8_t *code, unsigned here, struct dsm_insn *insn) {
  xed_decoded_inst_t x;
  xed_error_enum_t error = XED_ERROR_BUFFER_TOO_SHORT;
  for (int whole = here >= 15; whole <= 1; whole++) {
    /* Only if the instruction does not end in this page is the next one read: it was fetched from there. */
    xed_decoded_inst_zero(&x);
    xed_decoded_inst_set_mode(&x, XED_MACHINE_MODE_LONG_64, XED_ADDRESS_WIDTH_64b);
    /* Registers r16 to r31 are not in the part of the signal frame we read: what names them is no instruction to us. */
    xed3_operand_set_no_apx(&x, 1);
    error = xed_decode(&x, code, whole != 0 ? 15 : here);
    if (error != XED_ERROR_BUFFER_TOO_SHORT) break;
  }
  if (error != XED_ERROR_NONE) return false;
  memset(insn, 0, sizeof(*insn));
  insn->rip = rip;
  insn->length = (uint8_t)xed_decoded_inst_get_length(&x);
  memcpy(insn->bytes, code, insn->length);
  dsm_classify(&x, insn);
  cache_put(insn);
  return true;
}

void dsm_decode_init(void) {
  static const uint8_t sample[15] = {0x89, 0x00}; /* mov %eax, (%rax) */
  struct dsm_insn insn;
  xed_tables_init();
  dsm_classify_init();
  /* What XED calls is bound now and not, with the dynamic linker's need for stack, inside the handler. */
  decode((uint64_t)sample, sample, sizeof(sample), &insn);
}

bool dsm_decode(uint64_t rip, struct dsm_insn *insn) {
  if (cache_get(rip, insn)) return true;
  if (__builtin_expect(*(const uint8_t *)rip == DSM_BREAKPOINT, 0)) {
    uint8_t code[15] = {0};
    if (dsm_code_below(rip, code) > 0) return decode(rip, code, sizeof(code), insn);
  }
  return decode(rip, (const uint8_t *)rip, PAGE_BYTES - (unsigned)(rip % PAGE_BYTES), insn);
}
