/** Checks of what servers and daemons say of their sessions, before it is shown to people. */
import type { Health, ServerStatus, SessionAddress, SessionDetail, SessionSummary } from "./directory.ts";
import { EPOCH_MAX, HEAT_CELLS_MAX, PROCESSES_MAX, SHOWN_MAX } from "./limits.ts";
import { checkOnLoss } from "./loss.ts";
import { CONTROLS, checkName, checkProcesses, formatAddress, parseAddress } from "./names.ts";
import { checkOrder } from "./order.ts";
import { checkSize } from "./size.ts";

/** Fields that hold PEM texts, which have lines. They are read by what reads certificates, and shown nowhere. */
const PEM_FIELDS: ReadonlySet<string> = new Set(["certificate", "authority"]);

/** The JSON of another program, whose texts cannot change how a terminal shows what is around them. Throws SyntaxError. */
export function parseForeign(text: string): unknown {
  return JSON.parse(text, (key, value) =>
    typeof value === "string" && !PEM_FIELDS.has(key) ? value.replace(CONTROLS, " ") : value,
  );
}

/** The address if it is one that processes can connect to, else null. */
export function readAddress(value: unknown): SessionAddress | null {
  if (!isObject(value)) return null;
  const { name, instance, epoch, host, port, processes, size, order, onLoss, elastic } = value;
  const good =
    [instance, host].every(isText) &&
    typeof name === "string" &&
    checkName("session", name) === null &&
    typeof processes === "number" &&
    checkProcesses(processes) === null &&
    typeof size === "number" &&
    checkSize(size) === null &&
    typeof order === "string" &&
    checkOrder(order) === null &&
    typeof onLoss === "string" &&
    checkOnLoss(onLoss) === null &&
    typeof elastic === "boolean" &&
    isCount(epoch) &&
    (epoch as number) >= 1 &&
    (epoch as number) <= EPOCH_MAX &&
    isCount(port) &&
    parseAddress(formatAddress(host as string, port as number)) !== null;
  return good ? (value as unknown as SessionAddress) : null;
}

export function readSummary(value: unknown): SessionSummary | null {
  if (!isObject(value) || readAddress(value) === null) return null;
  return isCount(value.pid) && typeof value.spawned === "boolean" ? (value as unknown as SessionSummary) : null;
}

export function readDetail(value: unknown): SessionDetail | null {
  if (!isObject(value) || readSummary(value) === null || readStatus(value) === null) return null;
  return typeof value.answered === "boolean" ? (value as unknown as SessionDetail) : null;
}

export function readHealth(value: unknown): Health | null {
  if (!isObject(value) || value.service !== "dsm") return null;
  const { version, protocol, pid, autostarted } = value;
  const good = isText(version) && isCount(protocol) && isCount(pid) && typeof autostarted === "boolean";
  return good ? (value as unknown as Health) : null;
}

/** The answer if it is one, else null. */
export function readStatus(value: unknown): ServerStatus | null {
  if (!isObject(value)) return null;
  const { instance, epoch, direct, started, present, entries, bytes, ranks } = value;
  const { time_ms, started_ms, barriers, logBytes, semaphores, locks, blocks, heat } = value;
  const { semaphoresLeftOut, locksLeftOut, blocksLeftOut } = value;
  const counts = [epoch, present, entries, bytes, time_ms, started_ms, barriers, logBytes];
  const good =
    typeof instance === "string" &&
    typeof direct === "boolean" &&
    typeof started === "boolean" &&
    [...counts, semaphoresLeftOut, locksLeftOut, blocksLeftOut].every(isCount) &&
    isList(ranks, PROCESSES_MAX, isRank) &&
    isList(semaphores, SHOWN_MAX, ({ name, value, waiters }) => isText(name) && isCount(value) && isRanks(waiters)) &&
    isList(locks, SHOWN_MAX, ({ name, owner, waiters }) => isText(name) && isMaybe(owner) && isRanks(waiters)) &&
    isList(blocks, SHOWN_MAX, ({ name, offset, size }) => isText(name) && isCount(offset) && isCount(size)) &&
    (heat === undefined || isHeat(heat));
  return good ? (value as unknown as ServerStatus) : null;
}

type Fields = Record<string, unknown>;
const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null;
const isText = (value: unknown): boolean => typeof value === "string";
const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isMaybe = (value: unknown): boolean => value === null || isCount(value);
const isList = (value: unknown, most: number, good: (item: Fields) => boolean): boolean =>
  Array.isArray(value) && value.length <= most && value.every((item) => isObject(item) && good(item));
const isRanks = (value: unknown): boolean =>
  Array.isArray(value) && value.length <= PROCESSES_MAX && value.every(isCount);

function isHeat(value: unknown): boolean {
  if (!isObject(value) || !isCount(value.cell) || value.cell === 0) return false;
  const { writers, writes } = value;
  if (!Array.isArray(writers) || !Array.isArray(writes)) return false;
  const cells = writers.length === writes.length && writers.length <= HEAT_CELLS_MAX;
  return cells && writers.every((rank) => rank === -1 || isCount(rank)) && writes.every(isCount);
}

function isRank({ rank, node, pid, state, on, holds, ...counts }: Fields): boolean {
  const { stateMs, entries, bytes, lastWriteMs, roundTripUs } = counts;
  return (
    [rank, pid, stateMs, entries, bytes].every(isCount) &&
    [lastWriteMs, roundTripUs].every(isMaybe) &&
    [node, state, on ?? ""].every(isText) &&
    (holds === undefined || (Array.isArray(holds) && holds.every(isText)))
  );
}
