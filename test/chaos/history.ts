/** Histories of real processes: test/chaos/programs/history.c, started on several nodes, and what it logs. */
import { join } from "node:path";
import { Status } from "../../src/core/errors.ts";
import type { Order } from "../../src/core/order.ts";
import { type Outcome, outcome } from "../support/e2e-child.ts";
import type { Cluster } from "../support/e2e-cluster.ts";
import type { Call, SemaphoreOperation, WordOperation } from "../support/linearizability.ts";

export const SEMAPHORE_VALUE = 2;
const RECORD_WORDS = 8;
const WORD_KINDS = ["store", "add", "or", "and", "xor", "exchange", "compare"] as const;
const SEMAPHORE_FIRST = 16;
const SEMAPHORE_KINDS = ["wait", "try", "timed", "post"] as const;

export interface History {
  words: Call<WordOperation>[];
  semaphores: Call<SemaphoreOperation>[];
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
}

export async function record(cluster: Cluster, program: string, options: HistoryOptions): Promise<History> {
  const { nodes, order, operations, threads, seed, dies = {} } = options;
  const session = cluster.session();
  const logs = nodes.map((_, rank) => join(cluster.folder, `${session}-${rank}.log`));
  // Under the other orders plain stores become visible later, and in direct mode (x86-TSO) they may stay in the processor's store
  // buffer for a while: only with sequential order, over nodes, are they operations of the words.
  const stores = order === "sequential" && new Set(nodes).size > 1 ? 1 : 0;
  const outcomes = await Promise.all(
    nodes.map((node, rank) => {
      const numbers = [seed, operations, threads, dies[rank] ?? 0, stores].map(String);
      return outcome(
        cluster.spawn([program, logs[rank] as string, ...numbers], {
          ...{ session, node, rank, processes: nodes.length, size: "64KiB" },
          environment: { DSM_ORDER: order },
        }),
      );
    }),
  );
  const history: History = { words: [], semaphores: [], outcomes };
  for (const log of logs) read(new BigUint64Array(await Bun.file(log).arrayBuffer()), history);
  return history;
}

function read(words: BigUint64Array, history: History): void {
  for (let at = 0; at < words.length; at += RECORD_WORDS) {
    const field = (index: number): bigint => words[at + index] as bigint;
    const [invoked, ended, operand, expected, result] = [field(0), field(1), field(2), field(3), field(4)];
    const [kindAndObject, statusAndThread] = [field(5), field(6)];
    if (invoked === 0n) continue;
    const returned = ended === 0n ? null : ended;
    const kind = Number(kindAndObject & 0xffffffffn);
    const common = { object: Number(kindAndObject >> 32n), invoked, returned };
    if (kind >= SEMAPHORE_FIRST) {
      const status = Number(statusAndThread & 0xffffffffn);
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
      throw new Error(`a semaphore operation ended with status ${status}`);
  }
}
