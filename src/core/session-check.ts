/**
 * Checks of JSON that another part of dsm sends: of the values it is made of, and of the snapshot of a session, which comes
 * in a server's welcome and in what a node hands over to the next server.
 */
import { slotOf } from "./addresses.ts";
import {
  BLOCKS_MAX,
  LOCKS_MAX,
  NODE_NUMBER_MAX,
  PROCESSES_MAX,
  SEMAPHORE_VALUE_MAX,
  SEMAPHORES_MAX,
  WAITING_JOINS_MAX,
  WAITING_MAX,
} from "./limits.ts";
import { checkOnLoss } from "./loss.ts";
import { checkName, checkProcesses } from "./names.ts";
import { checkOrder } from "./order.ts";
import { ProtocolError } from "./protocol.ts";
import { GIVEN_UP } from "./session.ts";
import { checkSize, pageRound } from "./size.ts";

export type Fields = Record<string, unknown>;

export const WORD_MAX = 0xffffffff;

/** What is wrong with a value, such as "config.size". */
class Damage extends Error {}

/** The object in `text` once `check` has accepted it. Throws ProtocolError: "`what` is damaged: ...". */
export function parseChecked<Message>(text: string, what: string, check: (value: Fields) => void): Message {
  try {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      throw wrong("it is not JSON");
    }
    check(fields(value, "it"));
    return value as Message;
  } catch (error) {
    if (!(error instanceof Damage)) throw error;
    throw new ProtocolError(`${what} is damaged: ${error.message}`);
  }
}

export function wrong(what: string): Error {
  return new Damage(what);
}

/** Checks the snapshot of the session of that name. */
export function checkSnapshot(snapshot: Fields, session: string): void {
  const config = fields(snapshot.config, "config");
  if (config.name !== session) throw wrong("config.name is another session's");
  if (typeof config.instance !== "string" || !/^[\w-]{1,64}$/.test(config.instance)) throw wrong("config.instance");
  const { processes, size, base, order, onLoss, elastic } = config;
  if (typeof processes !== "number" || checkProcesses(processes) !== null) throw wrong("config.processes");
  if (typeof size !== "number" || checkSize(size) !== null || pageRound(size) !== size) throw wrong("config.size");
  if (typeof order !== "string" || checkOrder(order) !== null) throw wrong("config.order");
  if (typeof onLoss !== "string" || checkOnLoss(onLoss) !== null) throw wrong("config.onLoss");
  if (elastic !== undefined && typeof elastic !== "boolean") throw wrong("config.elastic");
  if (typeof base !== "number" || slotOf(base) < 0) throw wrong("config.base");

  if (!["joining", "running", "ended"].includes(snapshot.phase as string)) throw wrong("phase");
  for (const field of ["seq", "published", "barriers"]) whole(snapshot, field, 0, Number.MAX_SAFE_INTEGER);
  whole(snapshot, "lostRank", -1, PROCESSES_MAX - 1);
  for (const field of ["direct", "copying", "mayBeDirect", "restored"])
    if (typeof snapshot[field] !== "boolean") throw wrong(field);

  for (const process of list(snapshot, "processes", elastic === true ? PROCESSES_MAX : processes)) {
    whole(process, "rank", 0, (elastic === true ? PROCESSES_MAX : processes) - 1);
    whole(process, "node", 0, WORD_MAX);
    whole(process, "pid", 0, WORD_MAX);
    whole(process, "joinTag", 0, WORD_MAX);
    whole(process, "barrierTag", -1, WORD_MAX);
    name(process, "nodeName", "node");
    if (!["joining", "running", "left", "lost"].includes(process.state as string)) throw wrong("state of a process");
  }
  unique(snapshot, "processes", "rank");
  for (const semaphore of list(snapshot, "semaphores", SEMAPHORES_MAX)) {
    name(semaphore, "name", "semaphore");
    whole(semaphore, "value", 0, SEMAPHORE_VALUE_MAX);
    waiters(semaphore, "waiters", WAITING_MAX);
  }
  unique(snapshot, "semaphores", "name");
  for (const lock of list(snapshot, "locks", LOCKS_MAX)) {
    name(lock, "name", "lock");
    whole(lock, "owner", -1, PROCESSES_MAX - 1);
    whole(lock, "died", -1, PROCESSES_MAX - 1);
    waiters(lock, "waiters", PROCESSES_MAX);
  }
  unique(snapshot, "locks", "name");
  for (const sleepers of list(snapshot, "sleepers", WAITING_MAX)) {
    whole(sleepers, "offset", 0, size - 1);
    waiters(sleepers, "waiters", WAITING_MAX);
  }
  unique(snapshot, "sleepers", "offset");
  let end = 0;
  for (const block of list(snapshot, "blocks", BLOCKS_MAX)) {
    whole(block, "offset", end, size - 1);
    whole(block, "size", 1, size - (block.offset as number));
    end = (block.offset as number) + (block.size as number);
    if (block.name !== "") name(block, "name", "block");
  }
  waiters(snapshot, "waitingJoins", WAITING_JOINS_MAX);
  numbers(snapshot, "ordered", GIVEN_UP, NODE_NUMBER_MAX + 1);
}

export function fields(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(`${what} is not an object`);
  return value as Fields;
}

export function whole(of: Fields, field: string, least: number, most: number): void {
  const value = of[field];
  if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most) throw wrong(field);
}

export function name(of: Fields, field: string, kind: Parameters<typeof checkName>[0]): void {
  const value = of[field];
  if (typeof value !== "string" || checkName(kind, value) !== null) throw wrong(field);
}

export function list(of: Fields, field: string, most: number): Fields[] {
  const value = of[field];
  if (!Array.isArray(value) || value.length > most) throw wrong(field);
  return value.map((one) => fields(one, `one of the ${field}`));
}

export function numbers(of: Fields, field: string, least: number, most: number): void {
  const value = of[field];
  const good = (one: unknown): boolean => Number.isSafeInteger(one) && (one as number) >= least;
  if (!Array.isArray(value) || value.length > most || !value.every(good)) throw wrong(field);
}

export function waiters(of: Fields, field: string, most: number): void {
  for (const waiter of list(of, field, most)) {
    whole(waiter, "node", 0, WORD_MAX);
    whole(waiter, "tag", 0, WORD_MAX);
    whole(waiter, "rank", -1, PROCESSES_MAX - 1);
  }
}

function unique(of: Fields, field: string, key: string): void {
  const all = of[field] as Fields[];
  if (new Set(all.map((one) => one[key])).size !== all.length) throw wrong(`two of the ${field} have one ${key}`);
}
