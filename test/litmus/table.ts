/**
 * The litmus tests, and for each what no order may show, with the argument. model.ts explains the statements.
 *
 * Outcomes are the values of the registers and last values that `shows` names, in that order. What `never` lists must
 * not be seen, and neither may anything else that the order's machine in model.ts cannot do. `sees` is what a run must
 * show to prove anything: where it is left out, everything the machine can do; under release, nothing.
 */
import type { Order } from "./model.ts";

type OrderName = Exclude<Order, "hardware">;

/** The orders that are run. */
export const ORDERS: OrderName[] = ["sequential", "pipelined", "release"];

export interface Claim {
  never: string[];
  because: string;
  sees?: string[];
}

export interface LitmusTest {
  name: string;
  processes: string[];
  shows: string;
  claims: Record<OrderName, Claim>;
  /** What is claimed instead where processes share a node (litmus.ts: PLACEMENTS). */
  paired?: Partial<LitmusTest["claims"]>;
  /** All threads of a process take a step together: it is a barrier. */
  together?: boolean;
  /** Orders under which it says little that another test does not: there only `npm run litmus` runs it. */
  spared?: OrderName[];
}

const never = (outcomes: string, because: string, sees?: string[]): Claim => ({
  never: outcomes.split(" "),
  because,
  ...(sees && { sees }),
});
/** Permits everything the machine does; `sees` is what only a weak order shows. */
const allowed = (because: string, ...sees: string[]): Claim => ({ never: [], because, sees });

/** One argument for all orders. */
const always = (outcomes: string, because: string, sees?: string[]): LitmusTest["claims"] => {
  const claim = never(outcomes, because, sees);
  return { sequential: claim, pipelined: claim, release: claim };
};

// Arguments that many tests share.
const IN_ORDER =
  "stores of a process have their places in program order, and a reader goes through the places in order";
const FIFO = "a process's stores leave in program order and all nodes apply them in one order";
const RACE = "a race: without a synchronising operation neither the order nor the time of publication is promised";
/** Half of a wide store may be seen where nothing forbids it, but need not be. */
const WHOLE = ["00", "01", "11"];
const FLAGGED = "an atomic that reads what another one wrote has its place behind it";
const SYNCED =
  "each store is published, and old pages are given back, before the fence returns; the rest is sequential";

/** Says little under sequential. */
const WEAK: OrderName[] = ["sequential"];
/** Is one of a kind with others, of which the suite runs one. */
const LIKE: OrderName[] = ["sequential", "pipelined", "release"];

/** Whether a statement loads more than a word. */
const isWide = (load: string): boolean => /\((16|32|64)\)/.test(load);

/** Message passing with the data written in some way and a plain flag behind it. */
function message(how: string, store: string, load: string): LitmusTest {
  const wide = isWide(load);
  return {
    name: `MP+${how}`,
    processes: [`${store}; y = 1`, `a = y; ${load}`],
    shows: "ab",
    claims: {
      sequential: never(wide ? "10 19" : "10", `${IN_ORDER}; the flag's place is behind all of the data's`, WHOLE),
      pipelined: never(wide ? "10 19" : "10", FIFO, WHOLE),
      release: allowed(RACE),
    },
  };
}

/** The same as every order promises it: the flag is atomic. */
function messageByAtomics(how: string, store: string, load: string): LitmusTest {
  const forbidden = isWide(load) ? "10 19" : "10";
  return {
    name: `MP+${how}+atomics`,
    spared: WEAK,
    processes: [`${store}; swap(y, 1)`, `a = add(y, 0); ${load}`],
    shows: "ab",
    claims: {
      ...always(forbidden, `${FLAGGED}; the data's places are before the first one's`, WHOLE),
      release: never(
        forbidden,
        `${FLAGGED}; the first publishes the data before, the second gives old pages back`,
        WHOLE,
      ),
    },
  };
}

/** And between two fences, which is what a plain flag takes under release. */
function messageByFences(how: string, store: string, load: string): LitmusTest {
  const forbidden = isWide(load) ? "10 19" : "10";
  return {
    name: `MP+${how}+fences`,
    spared: WEAK,
    processes: [`${store}; fence; y = 1; fence`, `a = y; fence; ${load}`],
    shows: "ab",
    claims: { ...always(forbidden, IN_ORDER, WHOLE), release: never(forbidden, SYNCED, WHOLE) },
  };
}

export const TESTS: LitmusTest[] = [
  {
    name: "SB",
    processes: ["x = 1; a = y", "y = 1; b = x"],
    shows: "ab",
    claims: {
      sequential: never("00", "one of the stores is second in the order; its process reads after both are in place"),
      pipelined: allowed("each may read before its queued store has left", "00", "01", "10"),
      release: allowed("each reads before its store is published", "00"),
    },
  },
  {
    name: "MP",
    processes: ["x = 1; y = 1", "a = y; b = x"],
    shows: "ab",
    claims: {
      sequential: never("10", IN_ORDER),
      pipelined: never("10", FIFO),
      release: allowed(RACE, "10"),
    },
  },
  {
    name: "LB",
    processes: ["a = x; y = 1", "b = y; x = 1"],
    shows: "ab",
    claims: always(
      "11",
      "a load is over before the process's next store begins, and no process reads what is not stored yet",
    ),
  },
  {
    name: "S",
    processes: ["x = 2; y = 1", "a = y; x = 1"],
    shows: "ax",
    claims: {
      sequential: never("12", "a = 1 puts x = 2 before y = 1 before x = 1 in the order, so x ends as 1"),
      pipelined: never("12", "who has seen y = 1 has its next store placed behind it, and x = 2 is before it"),
      release: allowed(RACE),
    },
  },
  {
    name: "R",
    processes: ["x = 1; y = 1", "y = 2; a = x"],
    shows: "ay",
    claims: {
      sequential: never("02", "y ends as 2: y = 2 is behind y = 1 and x = 1 in the order, and x is read after it"),
      pipelined: allowed("x may be read before the queued y = 2 has left", "02", "01", "12"),
      release: allowed("x may be read before y = 2 is published", "02"),
    },
  },
  {
    name: "2+2W",
    processes: ["x = 1; y = 2", "y = 1; x = 2"],
    shows: "xy",
    claims: {
      sequential: never("11", "each last store would be before the other process's first one: a circle in the order"),
      pipelined: never("11", FIFO),
      release: allowed(RACE),
    },
  },
  {
    name: "CoRR",
    processes: ["x = 1", "a = x; b = x"],
    shows: "ab",
    claims: always("10", "a replica, and a private copy of its page, only goes on in the order"),
  },
  {
    name: "CoRR2",
    processes: ["x = 1", "x = 2", "a = x; b = x", "c = x; d = x"],
    shows: "abcd",
    claims: always("1221 2112", "the stores to one location have one order, which all replicas follow", [
      ...["0000", "1111", "2222", "0011", "0022", "1112", "2221", "1222", "2111", "1122", "2211"],
    ]),
  },
  {
    name: "CoWW",
    processes: ["x = 1; x = 2", "a = x; b = x"],
    shows: "abx",
    claims: always(
      "001 011 111 121 211 212 021 221 201 101 102 202",
      "a process's stores to one location are applied in program order",
    ),
  },
  {
    name: "CoRW",
    processes: ["a = x; x = 1", "x = 2"],
    shows: "ax",
    claims: always("11 12 22", "no process reads its own later store; having read 2, the process stores behind it"),
  },
  {
    name: "CoWR",
    processes: ["x = 1; a = x", "x = 2"],
    shows: "ax",
    claims: always("01 02 21", "a process reads its own store or one behind it"),
  },
  {
    name: "WRC",
    processes: ["x = 1", "a = x; y = 1", "b = y; c = x"],
    shows: "abc",
    claims: {
      sequential: never("110", "x = 1 was applied before y = 1 was made, so it is before it in the order"),
      pipelined: never("110", "what a process has seen has its place before what it stores next"),
      release: allowed(RACE),
    },
  },
  {
    name: "RWC",
    processes: ["x = 1", "a = x; b = y", "y = 1; c = x"],
    shows: "abc",
    claims: {
      sequential: never("100", "x = 1 is before y = 1 in the order, and c is read after y = 1 is in place"),
      pipelined: allowed("c may be read before the queued y = 1 has left", "100", "001", "101"),
      release: allowed("c may be read before y = 1 is published", "100"),
    },
  },
  {
    name: "IRIW",
    processes: ["x = 1", "y = 1", "a = x; b = y", "c = y; d = x"],
    shows: "abcd",
    claims: {
      sequential: never("1010", "all replicas apply the two stores in the same order"),
      pipelined: never("1010", "all replicas apply the two stores in the same order"),
      release: allowed(RACE),
    },
    paired: {
      pipelined: allowed(
        "each reader may see the store of its own node before it has left, and the other one's not yet",
        "1010",
      ),
    },
  },
  {
    name: "ISA2",
    processes: ["x = 1; y = 1", "a = y; z = 1", "b = z; c = x"],
    shows: "abc",
    claims: {
      sequential: never(
        "110",
        "x = 1, y = 1, z = 1 have their places in that order, and the reader goes through them in order",
      ),
      pipelined: never("110", "x = 1 leaves before y = 1, and z = 1 is placed behind what its process has seen"),
      release: allowed(RACE),
    },
  },

  // Fences and atomics in the usual places.
  {
    name: "SB+fences",
    spared: WEAK,
    processes: ["x = 1; fence; a = y", "y = 1; fence; b = x"],
    shows: "ab",
    claims: always("00", "dsm_fence returns when the store is in place; one of the two is second"),
  },
  {
    name: "SB+mfences",
    spared: WEAK,
    processes: ["x = 1; mfence; a = y", "y = 1; mfence; b = x"],
    shows: "ab",
    claims: {
      sequential: never("00", "the store is in place before the instruction is reached"),
      pipelined: allowed(
        "the instruction knows nothing of a store that is still queued: dsm_fence is for that",
        "00",
        "01",
        "10",
      ),
      release: allowed("the instruction publishes nothing: dsm_fence is for that", "00"),
    },
  },
  {
    name: "SB+swaps",
    spared: ["release"],
    processes: ["swap(x, 1); a = y", "swap(y, 1); b = x"],
    shows: "ab",
    claims: always("00", "an atomic is done at its place in the order before the process goes on"),
  },
  {
    name: "SB+adds",
    spared: WEAK,
    processes: ["x = 1; add(z, 1); a = y", "y = 1; add(z, 1); b = x"],
    shows: "abz",
    claims: always(
      "002",
      "an atomic on any location has its place behind the process's earlier stores; one of the two is second",
    ),
  },
  {
    name: "MP+fences",
    spared: ["sequential", "pipelined"],
    processes: ["x = 1; fence; y = 1; fence", "a = y; fence; b = x"],
    shows: "ab",
    claims: { ...always("10", IN_ORDER), release: never("10", SYNCED) },
  },
  {
    name: "MP+atomic-flag",
    processes: ["x = 1; swap(y, 1)", "a = add(y, 0); b = x"],
    shows: "ab",
    claims: always("10", "the atomic has its place behind x = 1, and an atomic that reads it has its own behind that"),
  },
  {
    name: "MP+atomic-data",
    spared: ["release"],
    processes: ["swap(x, 1); y = 1", "a = y; b = add(x, 0)"],
    shows: "ab",
    claims: always("10", "the atomic was done before y = 1 was made, and the other one has its place behind it"),
  },
  {
    name: "LB+atomics",
    spared: LIKE,
    processes: ["a = add(x, 0); swap(y, 1)", "b = add(y, 0); swap(x, 1)"],
    shows: "ab",
    claims: always("11", "atomics have places in the order, those of a process in program order"),
  },
  {
    name: "S+fences",
    spared: LIKE,
    processes: ["x = 2; fence; y = 1; fence", "a = y; fence; x = 1"],
    shows: "ax",
    claims: { ...always("12", "as S; fences only add waiting"), release: never("12", SYNCED) },
  },
  {
    name: "R+fences",
    spared: LIKE,
    processes: ["x = 1; fence; y = 1", "y = 2; fence; a = x"],
    shows: "ay",
    claims: always("02", "y = 2 is in place before x is read; were it the last store to y, x = 1 would be before it"),
  },
  {
    name: "R+swap",
    spared: ["pipelined", "release"],
    processes: ["x = 1; swap(y, 1)", "swap(y, 2); a = x"],
    shows: "ay",
    claims: always("02", "the swaps have places in the order, x = 1 before the first, the load after the second"),
  },
  {
    name: "2+2W+fences",
    spared: ["sequential", "pipelined"],
    processes: ["x = 1; fence; y = 2", "y = 1; fence; x = 2"],
    shows: "xy",
    claims: always("11", "each first store has its place before its process's second one"),
  },
  {
    name: "CoRR+adds",
    spared: LIKE,
    processes: ["swap(x, 1)", "a = add(x, 0); b = add(x, 0)"],
    shows: "ab",
    claims: always("10", "the atomics on a location have one order"),
  },
  {
    name: "WRC+atomics",
    spared: ["pipelined"],
    processes: ["swap(x, 1)", "a = add(x, 0); swap(y, 1)", "b = add(y, 0); c = x"],
    shows: "abc",
    claims: always("110", "three atomics in the order of their causes; the load is after the last"),
  },
  {
    name: "RWC+fences",
    spared: ["sequential", "release"],
    processes: ["x = 1", "a = x; fence; b = y", "y = 1; fence; c = x"],
    shows: "abc",
    claims: always("100", "b is read behind x = 1 and before y = 1; y = 1 is in place before c is read"),
  },
  {
    name: "IRIW+fences",
    spared: WEAK,
    processes: ["x = 1", "y = 1", "a = x; fence; b = y", "c = y; fence; d = x"],
    shows: "abcd",
    claims: {
      ...always("1010", "all replicas apply the two stores in the same order"),
      release: never("1010", SYNCED),
    },
    paired: {
      pipelined: never(
        "1010",
        "what a reader saw of its own node has its place once the fence is over: the other store, not seen then, has a later one",
      ),
    },
  },
  {
    name: "IRIW+adds",
    spared: ["release"],
    processes: ["x = 1", "y = 1", "a = add(x, 0); b = add(y, 0)", "c = add(y, 0); d = add(x, 0)"],
    shows: "abcd",
    claims: always("1010", "all six have places in one order"),
  },
  {
    name: "ISA2+atomics",
    spared: ["pipelined", "release"],
    processes: ["x = 1; swap(y, 1)", "a = add(y, 0); swap(z, 1)", "b = add(z, 0); c = x"],
    shows: "abc",
    claims: always(
      "110",
      "the chain of atomics has its places in order, x = 1 before the first, the load after the last",
    ),
  },
  {
    name: "ADD",
    processes: ["a = add(x, 1)", "b = add(x, 1)"],
    shows: "abx",
    claims: always("001 002 111 112", "one atomic is first, the other finds what it left: nothing is lost or doubled"),
  },
  {
    name: "CAS",
    spared: ["pipelined", "release"],
    processes: ["a = cas(x, 0, 1)", "b = cas(x, 0, 2)"],
    shows: "abx",
    claims: always("001 002 021 102", "only the first finds 0"),
  },
  {
    name: "ADD+store",
    processes: ["a = add(x, 1)", "x = 4"],
    shows: "ax",
    claims: always("01 05 44", "no store comes between what an atomic reads and what it writes"),
  },

  // Message passing by every kind of access.
  { ...message("1-byte", "x = 1 (1)", "b = x (1)"), spared: ["pipelined"] },
  { ...message("2-bytes", "x = 1 (2)", "b = x (2)"), spared: LIKE },
  { ...message("4-bytes", "x = 1 (4)", "b = x (4)"), spared: LIKE },
  message("xmm", "x = 1 (16)", "b = x (16)"),
  { ...message("ymm", "x = 1 (32)", "b = x (32)"), spared: LIKE },
  message("zmm", "x = 1 (64)", "b = x (64)"),
  message("string", "x = 1 (string)", "b = x (64)"),
  {
    ...message("hole", "x = 1 (hole)", "b = x (64)"),
    claims: {
      ...message("hole", "x = 1 (hole)", "b = x (64)").claims,
      sequential: never("10 19", "filling the hole publishes it as one entry, whose place is before the flag's", WHOLE),
    },
  },
  { ...messageByAtomics("1-byte", "x = 1 (1)", "b = x (1)"), spared: LIKE },
  { ...messageByAtomics("xmm", "x = 1 (16)", "b = x (16)"), spared: LIKE },
  messageByAtomics("zmm", "x = 1 (64)", "b = x (64)"),
  { ...messageByAtomics("string", "x = 1 (string)", "b = x (64)"), spared: LIKE },
  { ...messageByAtomics("hole", "x = 1 (hole)", "b = x (64)"), spared: ["sequential", "pipelined"] },
  { ...messageByFences("zmm", "x = 1 (64)", "b = x (64)"), spared: LIKE },
  { ...messageByFences("hole", "x = 1 (hole)", "b = x (64)"), spared: LIKE },
  {
    name: "MP+semaphore",
    processes: ["x = 1; y = 1 (64); post", "wait; a = x; b = y (64)"],
    shows: "ab",
    claims: always("00 01 09 10 19", "what comes before a post is published before the post is done, in every order"),
  },
  {
    name: "MP+barrier",
    processes: ["x = 1; barrier; a = y", "y = 1; barrier; b = x"],
    shows: "ab",
    claims: always("00 01 10", "what comes before a barrier is published before any process leaves it, in every order"),
    together: true,
  },
];
