/**
 * Whether a history of operations on shared objects is linearizable: whether each operation could have taken effect at
 * one moment between its call and its return (Herlihy and Wing, 1990).
 *
 * The search is that of Wing and Gong (1993) in Lowe's just-in-time form ("Testing for linearizability", 2017): the
 * calls and returns are gone through in the order of time, with all configurations that explain what was seen so far -
 * a state of the object, and which of the operations under way have taken effect. An operation takes effect no earlier
 * than needed, that is when one that is under way returns; a configuration reached twice is kept once. So the cost
 * grows with the number of operations at a time, not with the length of the history. Objects are checked one by one,
 * which is enough: linearizability is local.
 */

/** One call of an operation. Times are of one clock; of equal ones the call counts as the earlier. */
export interface Call<Operation> {
  /** Objects are independent of each other. */
  object: number;
  invoked: bigint;
  /** null: it never returned (its process was killed). It may have taken effect at any time since, or never. */
  returned: bigint | null;
  operation: Operation;
}

/** A sequential object. States are compared by `key`. */
export interface Model<State, Operation> {
  initial(object: number): State;
  /**
   * The state after the operation, or null if the operation could not have come out as it did. Must not change `state`.
   */
  step(state: State, operation: Operation): State | null;
  key(state: State): string;
}

export interface Violation<Operation> {
  object: number;
  /** The call no order explains: whatever took effect before it, it could not have come out as it did. */
  call: Call<Operation>;
  /** The states that were possible before it returned, as their keys. */
  states: string[];
  /** Calls that were under way at the same time. */
  concurrent: Call<Operation>[];
}

/** Beyond that the test asks too much (operations whose outcome says nothing, on too many threads at once). */
const CONFIGURATIONS_MAX = 200_000;

interface Configuration<State> {
  state: State;
  /** The slots of the operations under way that have taken effect. */
  done: bigint;
}

/** Null when the history is linearizable, or the first call that cannot be explained. */
export function checkHistory<State, Operation>(
  model: Model<State, Operation>,
  calls: readonly Call<Operation>[],
): Violation<Operation> | null {
  const objects = new Map<number, Call<Operation>[]>();
  for (const call of calls) {
    if (call.returned !== null && call.returned < call.invoked)
      throw new RangeError("a call returned before it was made");
    const list = objects.get(call.object);
    if (list === undefined) objects.set(call.object, [call]);
    else list.push(call);
  }
  for (const [object, list] of objects) {
    const violation = checkObject(model, object, list);
    if (violation !== null) return violation;
  }
  return null;
}

interface Event<Operation> {
  time: bigint;
  isReturn: boolean;
  call: Call<Operation>;
}

function eventsOf<Operation>(calls: readonly Call<Operation>[]): Event<Operation>[] {
  const events = calls.flatMap((call): Event<Operation>[] => [
    { time: call.invoked, isReturn: false, call },
    ...(call.returned === null ? [] : [{ time: call.returned, isReturn: true, call }]),
  ]);
  // Calls before returns of the same moment: those count as concurrent, which forbids less.
  return events.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : Number(a.isReturn) - Number(b.isReturn)));
}

function checkObject<State, Operation>(
  model: Model<State, Operation>,
  object: number,
  calls: readonly Call<Operation>[],
): Violation<Operation> | null {
  const keyOf = ({ state, done }: Configuration<State>): string => `${done} ${model.key(state)}`;
  /** The operations under way, by slot. */
  const open: (Call<Operation> | null)[] = [];
  const slots = new Map<Call<Operation>, number>();
  let configurations = new Map<string, Configuration<State>>();
  const first = { state: model.initial(object), done: 0n };
  configurations.set(keyOf(first), first);

  for (const { isReturn, call } of eventsOf(calls)) {
    if (!isReturn) {
      const free = open.indexOf(null);
      const slot = free < 0 ? open.length : free;
      open[slot] = call;
      slots.set(call, slot);
      continue;
    }
    const slot = slots.get(call) as number;
    const bit = 1n << BigInt(slot);
    const seen = new Set<string>(configurations.keys());
    const after = new Map<string, Configuration<State>>();
    const stack = [...configurations.values()];
    for (let configuration = stack.pop(); configuration !== undefined; configuration = stack.pop()) {
      if ((configuration.done & bit) !== 0n) {
        // Its slot is free for another operation from now on.
        const next = { state: configuration.state, done: configuration.done & ~bit };
        after.set(keyOf(next), next);
        continue;
      }
      for (const [other, operation] of open.entries()) {
        const otherBit = 1n << BigInt(other);
        if (operation === null || (configuration.done & otherBit) !== 0n) continue;
        const state = model.step(configuration.state, operation.operation);
        if (state === null) continue;
        const next = { state, done: configuration.done | otherBit };
        const key = keyOf(next);
        if (seen.has(key)) continue;
        seen.add(key);
        stack.push(next);
      }
      if (seen.size > CONFIGURATIONS_MAX) throw new RangeError("too many operations at once to be checked");
    }
    if (after.size === 0) {
      return {
        object,
        call,
        states: [...new Set([...configurations.values()].map(({ state }) => model.key(state)))],
        concurrent: open.filter((other): other is Call<Operation> => other !== null && other !== call),
      };
    }
    open[slot] = null;
    slots.delete(call);
    configurations = after;
  }
  return null;
}

/** A 64-bit word of the map. `result` is the value before, null where the caller was not told (it never returned). */
export interface WordOperation {
  kind: "store" | "add" | "or" | "and" | "xor" | "exchange" | "compare";
  operand: bigint;
  /** What `compare` expects. */
  expected?: bigint;
  result: bigint | null;
}

export const word: Model<bigint, WordOperation> = {
  initial: () => 0n,
  key: String,
  step(state, { kind, operand, expected, result }) {
    if (kind !== "store" && result !== null && result !== state) return null;
    switch (kind) {
      case "add":
        return BigInt.asUintN(64, state + operand);
      case "or":
        return state | operand;
      case "and":
        return state & operand;
      case "xor":
        return state ^ operand;
      case "compare":
        return state === expected ? operand : state;
      default:
        return operand;
    }
  },
};

/** A counting semaphore. `lost`: refused because a process was lost; it changed nothing. null: it never returned. */
export interface SemaphoreOperation {
  kind: "wait" | "try" | "timed" | "post";
  result: "ok" | "again" | "timeout" | "lost" | null;
}

export const semaphore = (value: number): Model<number, SemaphoreOperation> => ({
  initial: () => value,
  key: String,
  step(state, { kind, result }) {
    if (result === "lost" || result === "timeout") return state;
    if (result === "again") return kind === "try" && state === 0 ? state : null;
    if (kind === "post") return state + 1;
    return state > 0 ? state - 1 : null;
  },
});

/**
 * A robust lock, which a process has. `died`: locked, the previous owner died with it, and it is still inconsistent.
 * `lost`, `timeout`: not locked. null: it never returned. `die` is the end of a process that was killed: what it does
 * comes before, what it had is free.
 */
export interface LockOperation {
  kind: "lock" | "try" | "timed" | "unlock" | "unmended" | "die";
  owner: number;
  result: "ok" | "died" | "again" | "timeout" | "lost" | "busy" | "not-owner" | null;
}

export interface LockState {
  /** Rank, or NOBODY. */
  owner: number;
  /** The next owner is to be told that one died. */
  marked: boolean;
  /** Ranks of the dead, as bits. */
  dead: number;
}

const NOBODY = -1;

export const lock: Model<LockState, LockOperation> = {
  initial: () => ({ owner: NOBODY, marked: false, dead: 0 }),
  key: ({ owner, marked, dead }) => `${owner}${marked ? " marked" : ""} ${dead}`,
  step(state, { kind, owner, result }) {
    const bit = 1 << owner;
    if ((state.dead & bit) !== 0) return null;
    const isOurs = state.owner === owner;
    if (kind === "die") {
      const dead = state.dead | bit;
      return isOurs ? { owner: NOBODY, marked: true, dead } : { ...state, dead };
    }
    if (kind === "unlock" || kind === "unmended") {
      if (result === "not-owner" || (result === null && !isOurs)) return isOurs ? null : state;
      if (!isOurs || (result !== "ok" && result !== null)) return null;
      return { ...state, owner: NOBODY, marked: kind === "unmended" && state.marked };
    }
    const isFree = state.owner === NOBODY;
    switch (result) {
      case "lost":
      case "timeout":
        return state;
      case "busy":
        return isOurs ? state : null;
      case "again":
        return kind === "try" && !isFree && !isOurs ? state : null;
      case "ok":
      case "died":
        return isFree && state.marked === (result === "died") ? { ...state, owner } : null;
      default:
        return isFree ? { ...state, owner } : state;
    }
  },
};
