/** Histories of real processes: test/chaos/programs/history.c, started on several nodes, and what it logs. */
import { join } from "node:path";
import { Status } from "../../src/core/errors.ts";
import type { Order } from "../../src/core/order.ts";
import { type Outcome, outcome } from "../support/e2e-child.ts";
import type { Cluster } from "../support/e2e-cluster.ts";
import type { Call, LockOperation, SemaphoreOperation, WordOperation } from "../support/linearizability.ts";

export const SEMAPHORE_VALUE = 2;
const RECORD_WORDS = 8;
const WORD_KINDS = ["store", "add", "or", "and", "xor", "exchange", "compare"] as const;
const SEMAPHORE_FIRST = 16;
const SEMAPHORE_KINDS = ["wait", "try", "timed", "post"] as const;
const LOCK_FIRST = 32;
const LOCK_KINDS = ["lock", "try", "timed", "unlock", "unmended"] as const;

export interface History {
  words: Call<WordOperation>[];
  semaphores: Call<SemaphoreOperation>[];
  locks: Call<LockOperation>[];
  /** How each process ended. */
  outcomes: Outcome[];
}

export interface HistoryOptions {
  /** The node of each process. */
  nodes: string[];
  order: Order;
  /** Of each thread. */
  operations: number;
  threads: number;
  seed: number;
  /** By rank: kills itself after so many operations of all its threads. */
  dies?: Record<number, number>;
  /** Locks in place of semaphores, which pass on when their owner dies (on_loss "continue"). */
  locks?: boolean;
  /** What is done to the session once all have joined. */
  disturb?: (session: string, isOver: () => boolean) => Promise<void>;
}

export async function record(cluster: Cluster, program: string, options: HistoryOptions): Promise<History> {
  const { nodes, order, operations, threads, seed, dies = {}, locks = false, disturb } = options;
  const session = cluster.session();
  const logs = nodes.map((_, rank) => join(cluster.folder, `${session}-${rank}.log`));
  // Under the other orders plain stores become visible later, and in direct mode (x86-TSO) they may stay in the processor's store
  // buffer for a while: only with sequential order, over nodes, are they operations of the words.
  const stores = order === "sequential" && new Set(nodes).size > 1 ? 1 : 0;
  let isOver = false;
  const ends = Promise.all(
    nodes.map((node, rank) => {
      const numbers = [seed, operations, threads, dies[rank] ?? 0, stores, Number(locks)].map(String);
      return outcome(
        cluster.spawn([program, logs[rank] as string, ...numbers], {
          ...{ session, node, rank, processes: nodes.length, size: "64KiB" },
          environment: { DSM_ORDER: order, DSM_ON_LOSS: locks ? "continue" : "fail" },
        }),
      );
    }),
  );
  void ends.then(() => {
    isOver = true;
  });
  if (disturb !== undefined) {
    await cluster.untilPresent(session, nodes.length);
    await disturb(session, () => isOver);
  }
  const outcomes = await ends;
  const history: History = { words: [], semaphores: [], locks: [], outcomes };
  for (const [rank, log] of logs.entries()) {
    const newest = read(new BigUint64Array(await Bun.file(log).arrayBuffer()), rank, history);
    if (dies[rank] === undefined) continue;
    // Some time after the last it did.
    for (let object = 0; locks && object < threads; object += 1) {
      history.locks.push({
        object,
        invoked: newest,
        returned: null,
        operation: { kind: "die", owner: rank, result: null },
      });
    }
  }
  return history;
}

/** Returns the time of the last record. */
function read(words: BigUint64Array, rank: number, history: History): bigint {
  let newest = 0n;
  for (let at = 0; at < words.length; at += RECORD_WORDS) {
    const field = (index: number): bigint => words[at + index] as bigint;
    const [invoked, ended, operand, expected, result] = [field(0), field(1), field(2), field(3), field(4)];
    const [kindAndObject, statusAndThread] = [field(5), field(6)];
    if (invoked === 0n) continue;
    const returned = ended === 0n ? null : ended;
    for (const time of [invoked, ended]) if (time > newest) newest = time;
    const kind = Number(kindAndObject & 0xffffffffn);
    const common = { object: Number(kindAndObject >> 32n), invoked, returned };
    const status = Number(statusAndThread & 0xffffffffn);
    if (kind >= LOCK_FIRST) {
      const result = returned === null ? null : lockResultOf(status);
      const name = LOCK_KINDS[kind - LOCK_FIRST] as LockOperation["kind"];
      history.locks.push({ ...common, operation: { kind: name, owner: rank, result } });
    } else if (kind >= SEMAPHORE_FIRST) {
      history.semaphores.push({
        ...common,
        operation: {
          kind: SEMAPHORE_KINDS[kind - SEMAPHORE_FIRST] as SemaphoreOperation["kind"],
          result: returned === null ? null : resultOf(status),
        },
      });
    } else {
      const name = WORD_KINDS[kind] as WordOperation["kind"];
      const told = returned !== null && name !== "store";
      history.words.push({ ...common, operation: { kind: name, operand, expected, result: told ? result : null } });
    }
  }
  return newest;
}

function lockResultOf(status: number): LockOperation["result"] {
  switch (status) {
    case Status.BUSY:
      return "busy";
    case Status.OWNER_DIED:
      return "died";
    case Status.NOT_OWNER:
      return "not-owner";
    default:
      return resultOf(status);
  }
}

function resultOf(status: number): SemaphoreOperation["result"] {
  switch (status) {
    case Status.OK:
      return "ok";
    case Status.AGAIN:
      return "again";
    case Status.TIMEOUT:
      return "timeout";
    case Status.LOST:
      return "lost";
    default:
      throw new Error(`an operation ended with status ${status}`);
  }
}
