/**
 * Generated programs for the tests of bursts: loops of stores, loads and arithmetic, in assembler. One seed gives the same
 * programs on every machine.
 *
 * At the start of a program (burst_programs.c): rbx and r14 point into the map, rbp to private memory, r15 counts the
 * turns; the other registers, the flags and the vectors are random. It ends with a jump to state_end.
 */
import { Random } from "../support/core-random.ts";

/** Vector extensions that the processor has, apart from SSE2. */
export type Extension = "avx2" | "avx512";

const NAMES: Record<number, string[]> = {
  8: ["rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13"],
  4: ["eax", "ecx", "edx", "esi", "edi", "r8d", "r9d", "r10d", "r11d", "r12d", "r13d"],
  2: ["ax", "cx", "dx", "si", "di", "r8w", "r9w", "r10w", "r11w", "r12w", "r13w"],
  1: ["al", "cl", "dl", "sil", "dil", "r8b", "r9b", "r10b", "r11b", "r12b", "r13b"],
};
const POINTERS: Record<number, string> = {
  ...{ 1: "byte", 2: "word", 4: "dword", 8: "qword", 16: "xmmword", 32: "ymmword", 64: "zmmword" },
};
const CONDITIONS = "o no b ae e ne be a s ns p np l ge le g".split(" ");
const WIDTHS = [1, 2, 4, 8];

class Program {
  readonly #random: Random;
  readonly #extensions: ReadonlySet<Extension>;
  readonly #name: string;
  readonly lines: string[] = [];
  #labels = 0;
  /** It does nothing that ends a burst, so that whole loops run in one. */
  readonly #isTame: boolean;

  constructor(random: Random, extensions: ReadonlySet<Extension>, name: string) {
    this.#random = random;
    this.#extensions = extensions;
    this.#name = name;
    this.#isTame = random.oneIn(2);
  }

  #emit(...lines: string[]): void {
    this.lines.push(...lines);
  }

  #label(): string {
    this.#labels += 1;
    return `.L${this.#name}_${this.#labels}`;
  }

  #chance(percent: number): boolean {
    return this.#random.below(100) < percent;
  }

  #reg(width: number): string {
    return this.#random.pick(NAMES[width] as string[]);
  }

  #small(): string {
    return String(this.#random.between(-100, 100));
  }

  /** A memory operand; what bounds its index comes first. Mostly in the map. */
  #mem(width: number, aligned = 1): string {
    const random = this.#random;
    const pointer = `${POINTERS[width]} ptr `;
    const kind = random.below(100);
    if (!this.#isTame && aligned === 1 && kind < 2) return `${pointer}[rip + burst_data + ${random.below(64)}]`;
    if (!this.#isTame && aligned === 1 && kind < 5) return `${pointer}[rsp - ${random.between(9, 15) * 8}]`;
    const base = kind < 60 ? "rbx" : kind < 90 || this.#isTame ? "r14" : "rbp";
    let disp = random.below(1500);
    if (aligned > 1) {
      // r14 is not aligned.
      return `${pointer}[rbx + ${disp - (disp % aligned)}]`;
    }
    if (this.#chance(40)) {
      const index = this.#reg(8);
      const scale = random.pick([1, 2, 4, 8]);
      this.#emit(`and ${index}, ${random.pick([63, 127, 255])}`);
      if (scale === 8) disp %= 500;
      return `${pointer}[${base} + ${index}*${scale} + ${disp}]`;
    }
    return `${pointer}[${base} + ${disp}]`;
  }

  #arithmetic(): void {
    const random = this.#random;
    const width = random.pick(WIDTHS);
    const [a, b, long] = [this.#reg(width), this.#reg(width), this.#reg(8)];
    const wide = random.pick([4, 8]);
    const w = this.#reg(wide);
    this.#emit(
      random.pick([
        ...[`add ${a}, ${b}`, `sub ${a}, ${b}`, `adc ${a}, ${b}`, `sbb ${a}, ${b}`, `and ${a}, ${this.#small()}`],
        ...[`or ${a}, ${b}`, `xor ${a}, ${this.#small()}`, `cmp ${a}, ${b}`, `test ${a}, ${b}`, `mov ${a}, ${b}`],
        ...[`inc ${w}`, `dec ${w}`, `neg ${w}`, `not ${w}`, `shl ${w}, ${random.between(1, 20)}`, `sar ${w}, 3`],
        ...[
          `ror ${w}, 5`,
          `shl ${w}, 32`,
          `shr ${w}, cl`,
          `imul ${w}, ${w}, 77`,
          `lea ${long}, [${this.#reg(8)} + ${this.#reg(8)}*4 - 9]`,
        ],
        ...[`lea ${long}, [rip + burst_data]`, `cmov${random.pick(CONDITIONS)} ${w}, ${this.#reg(wide)}`],
        ...[`set${random.pick(CONDITIONS)} ${this.#reg(1)}`, `bt ${w}, 5`, `xchg ${long}, ${this.#reg(8)}`, `mul ${w}`],
        ...[
          "clc",
          "stc",
          "cmc",
          "sahf",
          "lahf",
          `bswap ${w}`,
          `movzx ${w}, ${this.#reg(1)}`,
          "cdq",
          "nop dword ptr [rax]",
        ],
        ...[`movsx ${w}, ${this.#reg(2)}`, `mov ah, ${random.pick(["dl", "ch", "bl"])}`, `bts ${w}, 7`],
      ]),
    );
  }

  #store(): void {
    const random = this.#random;
    const width = random.pick(WIDTHS);
    const to = this.#mem(width);
    const kind = random.below(100);
    if (kind < 55) this.#emit(`mov ${to}, ${this.#reg(width)}`);
    else if (kind < 75) this.#emit(`mov ${to}, ${this.#small()}`);
    else if (kind < 83)
      this.#emit(`mov byte ptr [rbx + ${random.below(900)}], ${random.pick(["ah", "ch", "dh", "bh"])}`);
    else if (kind < 92) this.#emit(`set${random.pick(CONDITIONS)} ${this.#mem(1)}`);
    else this.#emit(`movnti ${this.#mem(8)}, ${this.#reg(8)}`);
  }

  #update(): void {
    const random = this.#random;
    const width = random.pick(WIDTHS);
    const to = this.#mem(width);
    this.#emit(
      random.pick([
        `${random.pick(["add", "sub", "adc", "sbb", "and", "or", "xor"])} ${to}, ${this.#reg(width)}`,
        `${random.pick(["add", "adc", "xor"])} ${to}, ${this.#small()}`,
        `${random.pick(["inc", "dec", "neg", "not"])} ${to}`,
        `${random.pick(["shl", "shr", "sar", "rol", "ror"])} ${to}, ${random.pick(["cl", "1", "3"])}`,
      ]),
    );
  }

  #load(): void {
    const random = this.#random;
    const width = random.pick(WIDTHS);
    const from = this.#mem(width);
    if (this.#chance(15)) this.#emit(`movzx ${this.#reg(4)}, ${this.#mem(1)}`);
    else if (this.#chance(10)) this.#emit(`cmp ${from}, ${this.#small()}`);
    else
      this.#emit(
        `${random.pick(["mov", "mov", "add", "sub", "xor", "cmp", "adc", "test"])} ${this.#swapped(from, width)}`,
      );
  }

  /** `test` takes its operands in either sequence; so do the others here, with the register first. */
  #swapped(from: string, width: number): string {
    return `${this.#reg(width)}, ${from}`;
  }

  #vector(): void {
    const random = this.#random;
    const x = random.below(16);
    const y = random.below(16);
    const forms: (() => string)[] = [
      () => `movups ${this.#mem(16)}, xmm${x}`,
      () => `movaps ${this.#mem(16, 16)}, xmm${x}`,
      () => `movntdq ${this.#mem(16, 16)}, xmm${x}`,
      () => `movdqu xmm${x}, ${this.#mem(16)}`,
      () => `movsd ${this.#mem(8)}, xmm${x}`,
      () => `movhps ${this.#mem(8)}, xmm${x}`,
      () => `movlps ${this.#mem(8)}, xmm${x}`,
      () => `movss ${this.#mem(4)}, xmm${x}`,
      () => `movd ${this.#mem(4)}, xmm${x}`,
      () => `movq ${this.#mem(8)}, xmm${x}`,
      () => `movq xmm${x}, ${this.#reg(8)}`,
      () => `paddq xmm${x}, xmm${y}`,
      () => `pxor xmm${x}, ${this.#mem(16, 16)}`,
      () => `mulpd xmm${x}, xmm${y}`,
      () => `cvtsi2sd xmm${x}, ${this.#reg(8)}`,
      () => `ucomisd xmm${x}, xmm${y}`,
      () => `pshufd xmm${x}, xmm${y}, 27`,
    ];
    if (this.#extensions.has("avx2"))
      forms.push(
        () => `vmovdqu ${this.#mem(32)}, ymm${x}`,
        () => `vmovaps ${this.#mem(32, 32)}, ymm${x}`,
        () => `vmovdqu ymm${x}, ${this.#mem(32)}`,
        () => `vmovsd ${this.#mem(8)}, xmm${x}`,
        () => `vextracti128 ${this.#mem(16)}, ymm${x}, 1`,
        () => `vpextrd ${this.#mem(4)}, xmm${x}, 2`,
        () => `vpaddd ymm${x}, ymm${y}, ${this.#mem(32)}`,
        () => `vpxor ymm${x}, ymm${y}, ymm${x}`,
        () => `mulx ${this.#reg(8)}, r13, ${this.#mem(8)}`,
      );
    if (this.#extensions.has("avx2") && !this.#isTame)
      forms.push(() => `vpmaskmovd ${this.#mem(32)}, ymm${x}, ymm${y}`);
    if (this.#extensions.has("avx512")) {
      const z = random.below(32);
      const k = random.between(1, 7);
      forms.push(
        () => `vmovdqu64 ${this.#mem(64)}, zmm${z}`,
        () => `vmovdqa32 ${this.#mem(64, 64)}, zmm${z}`,
        () => `vmovdqu8 ${this.#mem(32)}, ymm${z}`,
        () => `vmovdqu64 zmm${z}, ${this.#mem(64)}`,
        () => `vmovdqu32 zmm${z} {k${k}}, ${this.#mem(64)}`,
        () => `vpaddq zmm${z}, zmm${x}, ${this.#mem(64)}`,
        () => `vpternlogd zmm${z}, zmm${x}, zmm${y}, 0x96`,
        () => `kmovw k${k}, ${this.#reg(4)}`,
        () => `vextracti64x4 ${this.#mem(32)}, zmm${z}, 1`,
      );
      if (!this.#isTame) forms.push(() => `vmovdqu32 ${this.#mem(64)} {k${k}}, zmm${z}`);
    }
    // The form may emit first what bounds its index.
    const line = random.pick(forms)();
    this.#emit(line);
  }

  /** What a burst does not go on with. */
  #stranger(): void {
    const random = this.#random;
    const value = this.#reg(8);
    random.pick([
      () =>
        this.#emit(
          `lea rsp, [rsp - 128]`,
          `push ${value}`,
          `add ${this.#reg(8)}, 3`,
          `pop ${value}`,
          "lea rsp, [rsp + 128]",
        ),
      () => this.#emit(`lock add qword ptr [rbx + ${8 * random.below(100)}], ${value}`),
      () => this.#emit(`lea rdi, [rbx + ${random.below(1200)}]`, `mov ecx, ${random.below(90)}`, "rep stosb"),
      () => this.#emit("lea rsp, [rsp - 128]", "call burst_called", "lea rsp, [rsp + 128]"),
      () => this.#emit(`xchg qword ptr [rbx + ${8 * random.below(100)}], ${value}`),
      () => this.#emit("mfence"),
    ])();
  }

  #branch(depth: number): void {
    const end = this.#label();
    this.#emit(`j${this.#random.pick(CONDITIONS)} ${end}`);
    this.#some(this.#random.between(1, 4), depth + 1);
    this.#emit(`${end}:`);
  }

  /** A loop of a few turns, counted in a word of private memory: so its end looks at flags set by memory. */
  #inner(depth: number): void {
    const begin = this.#label();
    const counter = this.#reg(4);
    this.#emit(`mov ${counter}, ${this.#random.between(2, 6)}`, "nop", `${begin}:`);
    const index = `[rbx + ${this.#random.below(800)}]`;
    this.#emit(`mov dword ptr ${index}, ${counter}`, `mov word ptr [r14 + 2*${to64(counter)} + 640], 7`);
    if (depth < 2 && this.#chance(50)) this.#emit(`add qword ptr [rbx + 8*${to64(counter)} + 64], ${this.#reg(8)}`);
    this.#emit(`sub ${counter}, 1`, `jnz ${begin}`);
  }

  #some(count: number, depth: number): void {
    for (let i = 0; i < count; i += 1) {
      const kind = this.#random.below(100);
      if (kind < 30) this.#arithmetic();
      else if (kind < 52) this.#store();
      else if (kind < 62) this.#update();
      else if (kind < 70) this.#load();
      else if (kind < 90) this.#vector();
      else if (kind < 92) this.#isTame ? this.#arithmetic() : this.#stranger();
      else if (kind < 95) this.#inner(depth);
      else if (depth < 2) this.#branch(depth);
    }
  }

  body(): void {
    const random = this.#random;
    const begin = this.#label();
    const end = this.#label();
    this.#emit(`mov r15, ${random.pick([5, 20, 60, 200])}`, `${begin}:`);
    // CF of the turn before is live here: dec leaves it alone.
    if (random.oneIn(2))
      this.#emit(random.pick(["adc rdx, rsi", "setb byte ptr [rbx + 70]", "sbb dword ptr [rbx + 80], 3"]));
    this.#some(random.between(3, 22), 0);
    const ends = [
      () => this.#emit("dec r15", `jnz ${begin}`),
      () => this.#emit("sub r15, 1", `jz ${end}`, `jmp ${begin}`),
      // The flags of the body are live on the way back; jrcxz ends a burst.
      () => this.#emit("lea r15, [r15 - 1]", "xchg rcx, r15", `jrcxz ${end}`, "xchg rcx, r15", `jmp ${begin}`),
    ];
    random.pick(this.#isTame ? ends.slice(0, 2) : ends)();
    this.#emit(`${end}:`, "jmp state_end");
  }
}

const to64 = (name: string): string => {
  const at = (NAMES[4] as string[]).indexOf(name);
  return (NAMES[8] as string[])[at] as string;
};

/** The assembler source of `count` programs, and their table. */
export function burstPrograms(seed: number, count: number, extensions: ReadonlySet<Extension>): string {
  const random = new Random(seed);
  const text = [".intel_syntax noprefix", ".text"];
  text.push("burst_called:", "mov qword ptr [rbx + 40], rax", "inc qword ptr [r14 + 48]", "ret");
  for (let i = 0; i < count; i += 1) {
    const program = new Program(random, extensions, `p${i}`);
    program.body();
    text.push(`burst_program_${i}:`, ...program.lines);
  }
  text.push('.section .data.rel.ro, "aw"', ".globl burst_programs", ".balign 8", "burst_programs:");
  for (let i = 0; i < count; i += 1) text.push(`.quad burst_program_${i}`);
  text.push(".quad 0", ".data", ".globl burst_data", ".balign 64", "burst_data: .skip 256");
  text.push('.section .note.GNU-stack, "", @progbits');
  return `${text.join("\n")}\n`;
}
