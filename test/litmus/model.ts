/**
 * The orders as small machines. For a litmus test they give every outcome an order permits, by trying every
 * interleaving: what the table in table.ts forbids is held against them, and so is everything the real thing shows.
 *
 * A test's processes are lines of statements, divided by ";":
 *   x = 1          a plain store of 8 bytes          x = 1 (4)      of so many: 1, 2, 4, 8, or a vector's 16, 32, 64
 *   x = 1 (string) 64 bytes by `rep stosb`           x = 1 (hole)   64 bytes in a hole, which is then filled
 *   a = x          a plain load of 8 bytes           a = x (64)     of so many: 9 stands for bytes of different stores
 *   swap(x, 1), add(x, 1), cas(x, 1, 2)              atomic, also as a = swap(x, 1): the value before
 *   fence, mfence, post, wait, barrier               dsm_fence, the instruction, a semaphore, a barrier
 */

export type Order = "sequential" | "pipelined" | "release" | "hardware";

type Atomic = "swap" | "add" | "cas";

export type Statement =
  | { kind: "store"; location: string; value: number; how: number | "string" | "hole" }
  | { kind: "load"; location: string; register: string; width: number }
  | { kind: "atomic"; atomic: Atomic; location: string; operands: number[]; register: string | null }
  | { kind: "fence" | "mfence" | "post" | "wait" | "barrier" };

export function parse(process: string): Statement[] {
  return process.split(";").map((text) => {
    const statement = text.trim();
    if (/^(fence|mfence|post|wait|barrier)$/.test(statement)) return { kind: statement as "fence" };
    const atomic = /^(?:([a-h]) = )?(swap|add|cas)\(([xyz])((?:, \d)+)\)$/.exec(statement);
    if (atomic !== null) {
      const operands = (atomic[4] as string).slice(2).split(", ").map(Number);
      const [, register = null, name, location] = atomic;
      return { kind: "atomic", atomic: name as Atomic, location: location as string, operands, register };
    }
    const store = /^([xyz]) = (\d)(?: \((\w+)\))?$/.exec(statement);
    if (store !== null) {
      const [, location, value, how = "8"] = store as unknown as [string, string, string, string?];
      return {
        kind: "store",
        location,
        value: Number(value),
        how: how === "string" || how === "hole" ? how : Number(how),
      };
    }
    const load = /^([a-h]) = ([xyz])(?: \((\d+)\))?$/.exec(statement);
    if (load === null) throw new SyntaxError(`no statement of a litmus test: "${statement}"`);
    const [, register, location, width = "8"] = load as unknown as [string, string, string, string?];
    return { kind: "load", register, location, width: Number(width) };
  });
}

/** More than a word is several: a store of them may be seen in part. */
const isWide = (statement: Statement): boolean =>
  (statement.kind === "store" && (typeof statement.how === "string" || statement.how > 8)) ||
  (statement.kind === "load" && statement.width > 8);

/** One thing that happens at once. A wide store or load is two of them, one for each half of the location. */
type Step =
  | { kind: "store"; cell: number; value: number }
  | { kind: "load"; cell: number; into: string }
  | { kind: "atomic"; cell: number; apply: (before: number) => number; into: string | null }
  | { kind: "sync" | "mfence" | "post" | "wait" | "barrier" };

interface State {
  at: number[];
  memory: number[];
  /** Stores that the others do not see yet, [cell, value, process], oldest first: each process's, or each node's. */
  buffers: [number, number, number][][];
  /** Each process's old copies: the cells it sees as they were (release: a page it has a private copy of). */
  copies: (number | null)[][];
  registers: Record<string, number>;
  posted: number;
}

const FIRST_LOCATION = "x".charCodeAt(0);
const LOCATIONS = 3;
const cellOf = (location: string): number => 2 * (location.charCodeAt(0) - FIRST_LOCATION);

function steps(statements: Statement[], wide: Set<string>): Step[] {
  return statements.flatMap((statement): Step[] => {
    if (statement.kind === "store") {
      const cell = cellOf(statement.location);
      const cells = wide.has(statement.location) ? [cell, cell + 1] : [cell];
      return cells.map((each) => ({ kind: "store", cell: each, value: statement.value }));
    }
    if (statement.kind === "load") {
      const cell = cellOf(statement.location);
      const cells = wide.has(statement.location) ? [cell, cell + 1] : [cell];
      return cells.map((each, half) => ({ kind: "load", cell: each, into: `${statement.register}${half}` }));
    }
    if (statement.kind === "atomic") {
      const [first = 0, second = 0] = statement.operands;
      const apply = {
        swap: () => first,
        add: (before: number) => before + first,
        cas: (before: number) => (before === first ? second : before),
      }[statement.atomic];
      const into = statement.register === null ? null : `${statement.register}0`;
      return [{ kind: "atomic", cell: cellOf(statement.location), apply, into }];
    }
    return [statement.kind === "fence" ? { kind: "sync" } : { kind: statement.kind }];
  });
}

/**
 * Every outcome the order permits: the values of the registers and, at the end, the locations that `shows` names.
 * `nodes`: the node of each process, for orders to which it makes a difference; left out, each has one of its own.
 */
export function outcomes(order: Order, processes: string[], shows: string, nodes?: string[]): Set<string> {
  const statements = processes.map(parse);
  const wide = new Set(
    statements.flat().flatMap((each) => (isWide(each) && "location" in each ? [each.location] : [])),
  );
  const program = statements.map((each) => steps(each, wide));
  // Whose stores wait together. What the processes of a node have queued, all of them see.
  const owners = program.map((_, p) => (order === "pipelined" && nodes !== undefined ? nodes.indexOf(nodes[p]!) : p));
  const found = new Set<string>();
  const known = new Set<string>();
  const open: State[] = [
    {
      at: program.map(() => 0),
      memory: new Array(2 * LOCATIONS).fill(0),
      buffers: program.map(() => []),
      copies: program.map(() => new Array(2 * LOCATIONS).fill(null)),
      registers: {},
      posted: 0,
    },
  ];
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    const key = JSON.stringify([state.at, state.memory, state.buffers, state.copies, state.registers, state.posted]);
    if (known.has(key)) continue;
    known.add(key);
    const next = successors(order, program, owners, state);
    if (state.at.every((at, p) => at === program[p]!.length) && state.buffers.every((each) => each.length === 0)) {
      found.add([...shows].map((name) => shown(state, wide, name)).join(""));
    }
    open.push(...next);
  }
  return found;
}

function shown(state: State, wide: Set<string>, name: string): string {
  if (name >= "x") {
    const cell = cellOf(name);
    const [first, second] = [state.memory[cell], state.memory[cell + 1]];
    return String(!wide.has(name) || first === second ? first : 9);
  }
  const [first, second = first] = [state.registers[`${name}0`], state.registers[`${name}1`]];
  return String(first === second ? first : 9);
}

function successors(order: Order, program: Step[][], owners: number[], state: State): State[] {
  const next: State[] = [];
  const change = (edit: (copy: State) => void): void => {
    const copy = structuredClone(state);
    edit(copy);
    next.push(copy);
  };
  const nextSteps = program.map((steps, p) => steps[state.at[p]!]);
  const settled = (p: number): boolean =>
    state.buffers[owners[p]!]!.every(([, , by]) => by !== p) && state.copies[p]!.every((each) => each === null);

  if (nextSteps.every((step, p) => step?.kind === "barrier" && settled(p))) {
    change((copy) => {
      copy.at = copy.at.map((at) => at + 1);
    });
  }
  for (const [p, step] of nextSteps.entries()) {
    if (step !== undefined) {
      switch (step.kind) {
        case "store":
          change((copy) => {
            copy.at[p]! += 1;
            if (order === "sequential") {
              copy.memory[step.cell] = step.value;
              return;
            }
            if (order === "release") copy.buffers[p] = copy.buffers[p]!.filter(([cell]) => cell !== step.cell);
            copy.buffers[owners[p]!]!.push([step.cell, step.value, p]);
          });
          break;
        case "load":
          change((copy) => {
            copy.at[p]! += 1;
            const own = copy.buffers[owners[p]!]!.findLast(([cell]) => cell === step.cell)?.[1];
            copy.registers[step.into] = own ?? copy.copies[p]![step.cell] ?? copy.memory[step.cell]!;
          });
          break;
        case "barrier":
          break;
        case "mfence":
          // A matter between the processor and this node's memory: it knows nothing of what dsm has still to send.
          if (order === "hardware" && !settled(p)) break;
          change((copy) => {
            copy.at[p]! += 1;
          });
          break;
        default:
          if (!settled(p) || (step.kind === "wait" && state.posted === 0)) break;
          // dsm_fence waits for whatever its node has queued, others' stores too.
          if (step.kind === "sync" && state.buffers[owners[p]!]!.length > 0) break;
          change((copy) => {
            copy.at[p]! += 1;
            if (step.kind === "post") copy.posted += 1;
            if (step.kind === "wait") copy.posted -= 1;
            if (step.kind !== "atomic") return;
            const before = copy.memory[step.cell]!;
            if (step.into !== null) copy.registers[step.into] = before;
            copy.memory[step.cell] = step.apply(before);
          });
      }
    }
    // What is pending becomes visible: the oldest store, or under release any of them.
    const visible = order === "release" ? state.buffers[p]!.keys() : [0].slice(0, state.buffers[p]!.length);
    for (const index of visible) {
      change((copy) => {
        const [[cell, value]] = copy.buffers[p]!.splice(index, 1) as [[number, number, number]];
        copy.memory[cell] = value;
        copy.copies[p]![cell] = null;
      });
    }
    if (order !== "release") continue;
    // A page this process writes elsewhere in is its own until it synchronises; any of its threads may do either.
    const loaded = new Set(program[p]!.slice(state.at[p]).flatMap((each) => (each.kind === "load" ? [each.cell] : [])));
    for (let cell = 0; cell < 2 * LOCATIONS; cell += 1) {
      const held = state.copies[p]![cell] !== null;
      if (!held && !loaded.has(cell)) continue;
      change((copy) => {
        copy.copies[p]![cell] = held ? null : copy.memory[cell]!;
      });
    }
  }
  return next;
}
