/** Reading what a server answers to an arbiter's greeting: nothing of it is used before all of it has been checked. */
import { slotOf } from "./addresses.ts";
import {
  BLOCKS_MAX,
  EPOCH_MAX,
  LOCKS_MAX,
  NAME_MAX,
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
import type { NodeHello, Welcome } from "./sequencer.ts";
import { GIVEN_UP } from "./session.ts";
import { checkSize, pageRound } from "./size.ts";

type Fields = Record<string, unknown>;

const WORD_MAX = 0xffffffff;

/** The WELCOME's body as what answers `hello`. Throws ProtocolError. */
export function parseWelcome(text: string, hello: NodeHello): Welcome {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw wrong("it is not JSON");
  }
  const welcome = fields(value, "it");
  whole(welcome, "node", 0, WORD_MAX);
  whole(welcome, "epoch", 1, EPOCH_MAX);
  whole(welcome, "base", 0, Number.MAX_SAFE_INTEGER);
  numbers(welcome, "starts", 0, EPOCH_MAX);
  const snapshot = fields(welcome.snapshot, "snapshot");
  const config = fields(snapshot.config, "config");
  if (config.name !== hello.session) throw wrong("config.name is another session's");
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
    if (typeof process.nodeName !== "string" || process.nodeName.length > NAME_MAX) throw wrong("nodeName");
    if (!["joining", "running", "left", "lost"].includes(process.state as string)) throw wrong("state of a process");
  }
  for (const semaphore of list(snapshot, "semaphores", SEMAPHORES_MAX)) {
    name(semaphore, "name", "semaphore");
    whole(semaphore, "value", 0, SEMAPHORE_VALUE_MAX);
    waiters(semaphore, "waiters", WAITING_MAX);
  }
  for (const lock of list(snapshot, "locks", LOCKS_MAX)) {
    name(lock, "name", "lock");
    whole(lock, "owner", -1, PROCESSES_MAX - 1);
    whole(lock, "died", -1, PROCESSES_MAX - 1);
    waiters(lock, "waiters", PROCESSES_MAX);
  }
  for (const sleepers of list(snapshot, "sleepers", WAITING_MAX)) {
    whole(sleepers, "offset", 0, size - 1);
    waiters(sleepers, "waiters", WAITING_MAX);
  }
  let end = 0;
  for (const block of list(snapshot, "blocks", BLOCKS_MAX)) {
    whole(block, "offset", end, size - 1);
    whole(block, "size", 1, size - (block.offset as number));
    end = (block.offset as number) + (block.size as number);
    if (block.name !== "") name(block, "name", "block");
  }
  waiters(snapshot, "waitingJoins", WAITING_JOINS_MAX);
  numbers(snapshot, "ordered", GIVEN_UP, NODE_NUMBER_MAX + 1);
  return value as Welcome;
}

function wrong(what: string): ProtocolError {
  return new ProtocolError(`its welcome is damaged: ${what}`);
}

function fields(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(`${what} is not an object`);
  return value as Fields;
}

function whole(of: Fields, field: string, least: number, most: number): void {
  const value = of[field];
  if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most) throw wrong(field);
}

function name(of: Fields, field: string, kind: Parameters<typeof checkName>[0]): void {
  const value = of[field];
  if (typeof value !== "string" || checkName(kind, value) !== null) throw wrong(field);
}

function list(of: Fields, field: string, most: number): Fields[] {
  const value = of[field];
  if (!Array.isArray(value) || value.length > most) throw wrong(field);
  return value.map((one) => fields(one, `one of the ${field}`));
}

function numbers(of: Fields, field: string, least: number, most: number): void {
  const value = of[field];
  const good = (one: unknown): boolean => Number.isSafeInteger(one) && (one as number) >= least;
  if (!Array.isArray(value) || value.length > most || !value.every(good)) throw wrong(field);
}

function waiters(of: Fields, field: string, most: number): void {
  for (const waiter of list(of, field, most)) {
    whole(waiter, "node", 0, WORD_MAX);
    whole(waiter, "tag", 0, WORD_MAX);
    whole(waiter, "rank", -1, PROCESSES_MAX - 1);
  }
}
