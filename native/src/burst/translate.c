/* The translator.
 *
 * A store `mov [rdi + 8*rax], rbx` becomes, with two registers that the instruction does not use as scratch:
 *
 *     [save flags]                    if an instruction may still read them
 *     mov gs:[scratch1], rcx
 *     mov gs:[scratch2], rdx
 *     lea rcx, [rdi + 8*rax]
 *     sub rcx, gs:[base]
 *     cmp rcx, gs:[limit]
 *     ja  out                         not in the map: the burst ends before the instruction, or that runs on the stack
 *     cmp rcx, gs:[next]
 *     jne new_run                     does not go on where the last store ended
 *   cont:
 *     mov rdx, gs:[log]
 *     [restore flags]
 *     mov [rdx], rbx                  the instruction itself, on the log
 *     lea rdx, [rdx + 8] ; mov gs:[log], rdx
 *     lea rcx, [rcx + 8] ; mov gs:[next], rcx
 *     mov rcx, gs:[scratch1] ; mov rdx, gs:[scratch2]
 *
 * A load first looks whether it touches the map, and if so whether the batch may hold what it reads; then the burst
 * ends. Code that is rarely reached lies behind the copy. */
#include "burst/translate.h"

#include <string.h>

#include "burst/slot.h"

/* A load this near to rsp is one of the stack, which the entry of a burst has found not to be near a map. */
#define STACK_NEAR 32768

enum cold_kind { COLD_EXIT, COLD_NEW_RUN, COLD_LOAD, COLD_STORE };

/* Code that is written behind the copy. */
struct cold {
  enum cold_kind kind;
  unsigned jump_count;
  code_jump jumps[5]; /* that lead to it */
  const uint8_t *back; /* where it goes on */
  unsigned insn; /* of COLD_STORE */
  uint64_t rip; /* where the program goes on by itself */
  uint8_t scratch1, scratch2;
  bool has_flags;
};

struct fix {
  code_jump jump;
  int insn;
};

/* The state of the one translation in progress; too large for the stack of a handler. */
static struct {
  const struct burst_insn *insns;
  unsigned count;
  const struct burst_stubs *stubs;
  struct code *code;
  const uint8_t *begin;
  const uint8_t *at[BURST_INSNS_MAX];
  struct cold cold[3 * BURST_INSNS_MAX];
  unsigned cold_count;
  struct fix fixes[3 * BURST_INSNS_MAX];
  unsigned fix_count;
  struct burst_point *points;
  unsigned point_count;
} t;

static void save_flags(struct code *code) {
  static const uint8_t seto_lahf[] = {0x0f, 0x90, 0xc0, 0x9f}; /* seto al ; lahf */
  code_store(code, RAX, BURST_WORD(rax));
  code_bytes(code, seto_lahf, sizeof seto_lahf);
  code_store_32(code, RAX, BURST_WORD(flags));
  code_load(code, RAX, BURST_WORD(rax));
}

static void restore_flags(struct code *code) {
  static const uint8_t add_sahf[] = {0x04, 0x7f, 0x9e}; /* add al, 127: overflows if al is 1 ; sahf */
  code_store(code, RAX, BURST_WORD(rax));
  code_load_32(code, RAX, BURST_WORD(flags));
  code_bytes(code, add_sahf, sizeof add_sahf);
  code_load(code, RAX, BURST_WORD(rax));
}

/* Leaves at `rip`, with all registers and flags as the program has them. */
static void exit_at(struct code *code, uint64_t rip) {
  code_store(code, RAX, BURST_WORD(rax));
  code_immediate(code, RAX, rip);
  code_store(code, RAX, BURST_WORD(exit_rip));
  code_load(code, RAX, BURST_WORD(rax));
  code_jump_to(code, t.stubs->exit);
}

static struct cold *later(enum cold_kind kind, uint64_t rip) {
  struct cold *cold = &t.cold[t.cold_count++];
  *cold = (struct cold){.kind = kind, .rip = rip, .scratch1 = BURST_KEPT, .scratch2 = BURST_KEPT};
  return cold;
}

static void leads_to(struct cold *cold, code_jump jump) {
  cold->jumps[cold->jump_count++] = jump;
}

/* The next instruction of the copy, up to end_point(), may fault. */
static struct burst_point *begin_point(unsigned insn, unsigned scratch1, unsigned scratch2, bool has_flags) {
  struct burst_point *point = &t.points[t.point_count++];
  *point = (struct burst_point){.from = (uint32_t)(t.code->at - t.begin),
                                .insn = (uint16_t)insn,
                                .scratch1 = (uint8_t)scratch1,
                                .scratch2 = (uint8_t)scratch2,
                                .has_flags = has_flags};
  return point;
}

static void end_point(struct burst_point *point) {
  point->to = (uint32_t)(t.code->at - t.begin);
}

static void copy_plainly(unsigned i) {
  struct burst_point *point = begin_point(i, BURST_KEPT, BURST_KEPT, false);
  code_copy(t.code, &t.insns[i]);
  end_point(point);
}

/* Chooses registers that the instruction does not use, and that [reg] can be encoded with as it is. An instruction uses
 * at most four general registers. */
static void choose_scratch(const struct burst_insn *insn, unsigned scratch[2]) {
  scratch[0] = scratch[1] = RAX;
  static const uint8_t usable[] = {RCX, RDX, RSI, RDI, RBX, RAX};
  unsigned found = 0;
  for (unsigned i = 0; i < sizeof usable && found < 2; i++)
    if ((insn->uses & 1u << usable[i]) == 0) scratch[found++] = usable[i];
}

static bool is_stack(const struct burst_insn *insn) {
  return insn->base == RSP && insn->index == BURST_NONE && insn->disp < STACK_NEAR && insn->disp > -STACK_NEAR;
}

static void translate_load(unsigned i) {
  const struct burst_insn *insn = &t.insns[i];
  struct code *code = t.code;
  unsigned scratch[2];
  bool has_flags = insn->live != 0;
  if (is_stack(insn)) {
    copy_plainly(i);
    return;
  }
  choose_scratch(insn, scratch);
  if (has_flags) save_flags(code);
  code_store(code, scratch[0], BURST_WORD(scratch1));
  code_lea_address(code, scratch[0], insn);
  code_subtract(code, scratch[0], BURST_WORD(below));
  code_compare(code, scratch[0], BURST_WORD(near));
  struct cold *cold = later(COLD_LOAD, insn->rip);
  leads_to(cold, code_branch_later(code, IF_BELOW));
  cold->back = code->at;
  cold->scratch1 = (uint8_t)scratch[0];
  cold->has_flags = has_flags;
  if (insn->base == BURST_RIP) {
    code_lea_address(code, scratch[0], insn);
    if (has_flags) restore_flags(code);
    struct burst_point *point = begin_point(i, scratch[0], BURST_KEPT, false);
    code_copy_with(code, insn, scratch[0]);
    end_point(point);
    code_load(code, scratch[0], BURST_WORD(scratch1));
    return;
  }
  code_load(code, scratch[0], BURST_WORD(scratch1));
  if (has_flags) restore_flags(code);
  copy_plainly(i);
}

/* Code before a store, up to `cont`: scratch[0] is the offset in the map, and the new bytes belong behind those in the
 * log. Returns the code for stores elsewhere, whose way back the caller sets. */
static struct cold *begin_store(unsigned i, const unsigned scratch[2], bool has_flags) {
  const struct burst_insn *insn = &t.insns[i];
  struct code *code = t.code;
  if (has_flags) save_flags(code);
  code_store(code, scratch[0], BURST_WORD(scratch1));
  code_store(code, scratch[1], BURST_WORD(scratch2));
  code_lea_address(code, scratch[0], insn);
  code_subtract(code, scratch[0], BURST_WORD(base));
  code_compare(code, scratch[0], BURST_WORD(limit));
  struct cold *out = later(COLD_STORE, insn->rip);
  out->insn = i;
  out->scratch1 = (uint8_t)scratch[0];
  out->scratch2 = (uint8_t)scratch[1];
  out->has_flags = has_flags;
  leads_to(out, code_branch_later(code, IF_ABOVE));
  if (insn->kind == BURST_RMW) {
    /* It loads from the map: as in COLD_LOAD. */
    code_lea(code, scratch[1], scratch[0], BURST_EDGE_BYTES);
    code_compare(code, scratch[1], BURST_WORD(low));
    code_jump free = code_branch_later(code, IF_NOT_GREATER);
    code_compare(code, scratch[1], BURST_WORD(high));
    leads_to(out, code_branch_later(code, IF_LESS));
    code_compare(code, scratch[0], BURST_WORD(next));
    leads_to(out, code_branch_later(code, IF_LESS));
    code_land(code, free);
  }
  code_compare(code, scratch[0], BURST_WORD(next));
  struct cold *new_run = later(COLD_NEW_RUN, insn->rip);
  leads_to(new_run, code_branch_later(code, IF_NOT_EQUAL));
  new_run->back = code->at;
  new_run->scratch1 = (uint8_t)scratch[0];
  new_run->scratch2 = (uint8_t)scratch[1];
  return out;
}

static void translate_store(unsigned i) {
  const struct burst_insn *insn = &t.insns[i];
  struct code *code = t.code;
  unsigned scratch[2];
  bool has_flags = insn->live != 0;
  choose_scratch(insn, scratch);
  struct cold *elsewhere = begin_store(i, scratch, has_flags);
  code_load(code, scratch[1], BURST_WORD(log));
  if (has_flags) restore_flags(code);
  struct burst_point *point = begin_point(i, scratch[0], scratch[1], false);
  code_copy_with(code, insn, scratch[1]);
  end_point(point);
  code_lea(code, scratch[1], scratch[1], insn->width);
  code_store(code, scratch[1], BURST_WORD(log));
  code_lea(code, scratch[0], scratch[0], insn->width);
  code_store(code, scratch[0], BURST_WORD(next));
  code_load(code, scratch[0], BURST_WORD(scratch1));
  code_load(code, scratch[1], BURST_WORD(scratch2));
  elsewhere->back = code->at;
}

/* The operand is copied to the log, and the instruction runs there. */
static void translate_rmw(unsigned i) {
  const struct burst_insn *insn = &t.insns[i];
  struct code *code = t.code;
  unsigned scratch[2];
  bool has_flags = insn->live != 0;
  choose_scratch(insn, scratch);
  struct cold *elsewhere = begin_store(i, scratch, has_flags);
  code_load(code, scratch[1], BURST_WORD(base));
  code_add(code, scratch[1], scratch[0]);
  struct burst_point *point = begin_point(i, scratch[0], scratch[1], has_flags);
  code_read(code, scratch[1], scratch[1], insn->width);
  end_point(point);
  code_load(code, scratch[0], BURST_WORD(log));
  code_write(code, scratch[1], scratch[0], insn->width);
  if (has_flags) restore_flags(code);
  point = begin_point(i, scratch[0], scratch[1], false);
  code_copy_with(code, insn, scratch[0]);
  end_point(point);
  /* From here on the flags are those of the instruction: lea and mov leave them alone. */
  code_lea(code, scratch[1], scratch[0], insn->width);
  code_store(code, scratch[1], BURST_WORD(log));
  code_load(code, scratch[0], BURST_WORD(next));
  code_lea(code, scratch[0], scratch[0], insn->width);
  code_store(code, scratch[0], BURST_WORD(next));
  code_load(code, scratch[0], BURST_WORD(scratch1));
  code_load(code, scratch[1], BURST_WORD(scratch2));
  elsewhere->back = code->at;
}

static void fix_later(code_jump jump, int insn) {
  t.fixes[t.fix_count++] = (struct fix){jump, insn};
}

/* Code for the way from instruction `from` to `to`, which is not behind it: it is paid for, and the log's end looked
 * for. A way from anywhere back to the same place pays for all instructions on it. */
static void go_back(unsigned from, unsigned to) {
  struct code *code = t.code;
  bool has_flags = t.insns[to].live != 0;
  int32_t cost = 1;
  for (unsigned i = to; i <= from; i++) cost += t.insns[i].cost;
  struct cold *out = later(COLD_EXIT, t.insns[to].rip);
  out->has_flags = has_flags;
  if (has_flags) save_flags(code);
  code_lower(code, BURST_WORD(budget), cost);
  leads_to(out, code_branch_later(code, IF_SIGN));
  code_test(code, BURST_WORD(log), BURST_LOG_END_BIT);
  leads_to(out, code_branch_later(code, IF_NOT_EQUAL));
  if (has_flags) restore_flags(code);
  fix_later(code_jump_later(code), (int)to);
}

/* Code that goes on at instruction `to`, which is at `rip`. */
static void go_on(unsigned from, int to, uint64_t rip) {
  if (to < 0)
    exit_at(t.code, rip);
  else if (to <= (int)from)
    go_back(from, (unsigned)to);
  else if (to != (int)from + 1)
    fix_later(code_jump_later(t.code), to);
}

static void translate_branch(unsigned i) {
  const struct burst_insn *insn = &t.insns[i];
  if (insn->to < 0) {
    leads_to(later(COLD_EXIT, insn->target), code_branch_later(t.code, insn->condition));
  } else if (insn->to <= (int)i) {
    code_jump around = code_branch_later(t.code, insn->condition ^ 1u);
    go_back(i, (unsigned)insn->to);
    code_land(t.code, around);
  } else {
    fix_later(code_branch_later(t.code, insn->condition), insn->to);
  }
}

/* Registers and flags are the program's again. */
static void put_back(struct code *code, const struct cold *cold) {
  if (cold->scratch1 != BURST_KEPT) code_load(code, cold->scratch1, BURST_WORD(scratch1));
  if (cold->scratch2 != BURST_KEPT) code_load(code, cold->scratch2, BURST_WORD(scratch2));
  if (cold->has_flags) restore_flags(code);
}

static void write_cold(const struct cold *cold) {
  struct code *code = t.code;
  for (unsigned i = 0; i < cold->jump_count; i++) code_land(code, cold->jumps[i]);
  if (cold->kind == COLD_NEW_RUN) {
    code_store(code, cold->scratch1, BURST_WORD(offset));
    code_land_at(code_lea_later(code, cold->scratch2), cold->back);
    code_store(code, cold->scratch2, BURST_WORD(back));
    code_jump_to(code, t.stubs->new_run);
    return;
  }
  if (cold->kind == COLD_LOAD) {
    /* scratch1 is the offset + EDGE. No load is wider than EDGE: it ends before `low`, or begins behind all runs. */
    code_compare(code, cold->scratch1, BURST_WORD(low));
    code_land_at(code_branch_later(code, IF_NOT_GREATER), cold->back);
    code_compare(code, cold->scratch1, BURST_WORD(high));
    code_jump out = code_branch_later(code, IF_LESS);
    code_lea(code, cold->scratch1, cold->scratch1, -(int32_t)BURST_EDGE_BYTES);
    code_compare(code, cold->scratch1, BURST_WORD(next));
    code_land_at(code_branch_later(code, IF_NOT_LESS), cold->back);
    code_land(code, out);
  }
  if (cold->kind == COLD_STORE && t.insns[cold->insn].base != BURST_RIP) {
    /* scratch1 is the offset: back to the address. On the thread's own stack the instruction runs as it is. */
    code_load(code, cold->scratch2, BURST_WORD(base));
    code_add(code, cold->scratch2, cold->scratch1);
    code_subtract(code, cold->scratch2, BURST_WORD(frame));
    code_compare(code, cold->scratch2, BURST_WORD(frame_bytes));
    code_jump out = code_branch_later(code, IF_NOT_BELOW);
    put_back(code, cold);
    copy_plainly(cold->insn);
    code_jump_to(code, cold->back);
    code_land(code, out);
  }
  put_back(code, cold);
  exit_at(code, cold->rip);
}

unsigned burst_translate(const struct burst_insn *insns, unsigned count, const struct burst_stubs *stubs,
                         struct code *code, struct burst_point points[BURST_POINTS_MAX]) {
  t.insns = insns;
  t.count = count;
  t.stubs = stubs;
  t.code = code;
  t.begin = code->at;
  t.points = points;
  t.cold_count = t.fix_count = t.point_count = 0;
  for (unsigned i = 0; i < count; i++) {
    const struct burst_insn *insn = &insns[i];
    t.at[i] = code->at;
    switch ((enum burst_kind)insn->kind) {
      case BURST_EXIT: exit_at(code, insn->rip); continue;
      case BURST_JUMP: go_on(i, insn->to, insn->target); continue;
      case BURST_BRANCH: translate_branch(i); break;
      case BURST_PLAIN: copy_plainly(i); break;
      case BURST_NOTHING: break;
      case BURST_LEA:
        code_immediate(code, (unsigned)insn->result, burst_after(insn) + (uint64_t)(int64_t)insn->disp);
        break;
      case BURST_LOAD: translate_load(i); break;
      case BURST_STORE: translate_store(i); break;
      case BURST_RMW: translate_rmw(i); break;
    }
    go_on(i, insn->next, burst_after(insn));
  }
  for (unsigned i = 0; i < t.cold_count; i++) write_cold(&t.cold[i]);
  for (unsigned i = 0; i < t.fix_count; i++) code_land_at(t.fixes[i].jump, t.at[t.fixes[i].insn]);
  return t.point_count;
}
