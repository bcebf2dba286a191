/* movs and stos, alone and repeated: whole runs at a time, element by element in effect.
 *
 * At most DSM_SLOT_BYTES are done for one fault; then the registers stand as the processor leaves them between two
 * elements and the instruction, run again, faults again or goes on by itself (in a hole, or behind the map). So a long
 * copy lets signals in between as it does on bare hardware. */
#include "trap/string_instruction.h"

#include <string.h>

#include "trap/frame.h"
#include "trap/guard.h"
#include "trap/operand.h"
#include "trap/step.h"

#define EFLAGS_DIRECTION 0x400
#define PAGE_BYTES 4096u

struct string {
  uint64_t to, from; /* of the first element; segment base included */
  uint64_t count;    /* elements left */
  unsigned width;
  bool down, wide; /* wide: 64-bit addresses */
};

/* Moves the registers on by `elements`. */
static void move_on(struct dsm_fault *f, const struct dsm_insn *insn, const struct string *s, uint64_t elements) {
  uint64_t distance = elements * s->width;
  unsigned register_bytes = s->wide ? 8 : 4;
  if (s->down) distance = 0 - distance;
  dsm_frame_set_gpr(f->regs, 7, 0, register_bytes, dsm_frame_gpr(f->regs, 7) + distance);
  if (insn->kind == DSM_INSN_MOVS) {
    dsm_frame_set_gpr(f->regs, 6, 0, register_bytes, dsm_frame_gpr(f->regs, 6) + distance);
  }
  if ((insn->flags & DSM_FLAG_REP) != 0) dsm_frame_set_gpr(f->regs, 1, 0, register_bytes, s->count - elements);
  if (elements == s->count) f->regs[REG_RIP] = (greg_t)(insn->rip + insn->length);
}

/* Returns how many elements can be captured at once: in the map, in pages that are not holes, in one buffer. If the
 * fault was in the first element, it is captured whatever it straddles. 0: the sink has opened its page. Negative:
 * fatal. */
static int64_t elements_to_capture(const struct dsm_fault *f, const struct string *s) {
  const struct dsm_region *r = f->region;
  uint64_t room = s->down ? s->to + s->width - r->base : r->base + r->size - s->to;
  uint64_t elements = s->count < DSM_SLOT_BYTES / s->width ? s->count : DSM_SLOT_BYTES / s->width;
  if (elements > room / s->width) elements = room / s->width;
  uint64_t low = s->down ? s->to + s->width - elements * s->width : s->to, high = low + elements * s->width;
  uint64_t fault_page = f->address / PAGE_BYTES;
  for (uint64_t i = 0, pages = (high - 1) / PAGE_BYTES - low / PAGE_BYTES + 1; i < pages; i++) {
    uint64_t page = s->down ? (high - 1) / PAGE_BYTES - i : low / PAGE_BYTES + i;
    if (page == fault_page) continue; /* asked already */
    uint64_t address = page * PAGE_BYTES;
    if (s->to < address + PAGE_BYTES && s->to + s->width > address && f->address - s->to < s->width) continue;
    int opened = r->sink->fault(r->context, address, 0, (uintptr_t)f->regs[REG_RIP]);
    if (opened < 0) return -1;
    if (opened == 0) continue;
    uint64_t bytes = s->down ? high - (address + PAGE_BYTES) : address - low;
    if (s->down ? address + PAGE_BYTES >= high : address <= low) bytes = 0;
    elements = bytes / s->width;
    /* An element half in the hole: the sink divides it. */
    if (elements == 0 && bytes != 0) elements = 1;
    break;
  }
  return (int64_t)elements;
}

/* Reads the source of `elements` elements into `buffer` (in ascending order of addresses). Returns how many elements
 * could be read; for a downward string they are the buffer's last ones. */
static uint64_t read_source(const struct string *s, uint64_t elements, uint8_t *buffer, struct dsm_guard *guard) {
  uint64_t length = elements * s->width;
  if (!s->down) return (length - dsm_guarded_copy(buffer, (const void *)s->from, length, guard)) / s->width;
  uint64_t low = s->from + s->width - length, left = length;
  while (left > 0) { /* from the top, page by page: a page is there or not. It may go down past address 0. */
    uint64_t top = low + left, part = (top - 1) % PAGE_BYTES + 1;
    if (part > left) part = left;
    if (dsm_guarded_copy(buffer + (left - part), (const void *)(top - part), part, guard) != 0) break;
    left -= part;
  }
  return (length - left) / s->width;
}

/* A copy whose destination runs ahead of its source reads what it has written. `buffer` holds the source as it was;
 * this puts in the bytes that an earlier element has overwritten by then, which are `distance` bytes back. */
static void overlap_up(uint8_t *buffer, uint64_t length, uint64_t distance, unsigned width) {
  for (uint64_t i = distance; i < length; i++) {
    if (i % width < distance) buffer[i] = buffer[i - distance];
  }
}

static void overlap_down(uint8_t *buffer, uint64_t length, uint64_t distance, unsigned width) {
  for (uint64_t i = length - distance; i-- > 0;) {
    if (i % width + distance >= width) buffer[i] = buffer[i + distance];
  }
}

enum dsm_outcome dsm_capture_string(struct dsm_fault *f, const struct dsm_insn *insn) {
  bool move = insn->kind == DSM_INSN_MOVS;
  struct string s = {.width = insn->width,
                     .down = (f->regs[REG_EFL] & EFLAGS_DIRECTION) != 0,
                     .wide = (insn->flags & DSM_FLAG_ADDR32) == 0,
                     .to = dsm_frame_gpr(f->regs, 7),
                     .from = dsm_frame_gpr(f->regs, 6),
                     .count = (insn->flags & DSM_FLAG_REP) != 0 ? dsm_frame_gpr(f->regs, 1) : 1};
  if (!s.wide) {
    s.to = (uint32_t)s.to;
    s.from = (uint32_t)s.from;
    if ((insn->flags & DSM_FLAG_REP) != 0) s.count = (uint32_t)s.count;
  }
  s.from += dsm_frame_segment_base(insn->segment);
  if (!dsm_in_region(f, s.to, s.width)) return dsm_crosses_edge(f, s.to);
  int64_t possible = elements_to_capture(f, &s);
  if (possible < 0) return DSM_OUTCOME_FATAL;
  if (possible == 0) return DSM_OUTCOME_DONE; /* in a hole now: run it again */

  uint64_t elements = (uint64_t)possible;
  unsigned slot = dsm_slot_claim();
  uint8_t *buffer = dsm_slot_buffer(slot);
  struct dsm_guard guard;
  enum dsm_outcome outcome = DSM_OUTCOME_DONE;
  if (move) {
    uint64_t read = read_source(&s, elements, buffer, &guard);
    if (s.down) buffer += (elements - read) * s.width;
    elements = read;
    uint64_t length = elements * s.width, distance = s.down ? s.from - s.to : s.to - s.from;
    if (distance != 0 && distance < length) (s.down ? overlap_down : overlap_up)(buffer, length, distance, s.width);
  } else {
    uint64_t value = dsm_frame_gpr(f->regs, 0);
    for (uint64_t i = 0; i < elements; i++) memcpy(buffer + i * s.width, &value, s.width);
  }
  if (elements == 0) {
    outcome = dsm_fault_becomes(f, &guard); /* of the source, with the registers where the processor would have them */
  } else {
    struct dsm_run run = {
        .offset = (s.down ? s.to + s.width - elements * s.width : s.to) - f->region->base,
        .length = (uint32_t)(elements * s.width),
        .bytes = buffer,
    };
    if (f->region->sink->store(f->region->context, &run, 1) < 0) {
      outcome = DSM_OUTCOME_FATAL;
    } else {
      move_on(f, insn, &s, elements);
    }
  }
  dsm_slot_release(slot);
  return outcome;
}
