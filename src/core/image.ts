/**
 * What outlives a session, beside the bytes of its map: what it is, its allocations, semaphores and locks. A snapshot
 * file begins with it, and a session can begin with it.
 */
import { slotOf } from "./addresses.ts";
import { DsmError } from "./errors.ts";
import type { Block } from "./heap.ts";
import { BLOCKS_MAX, LOCKS_MAX, PAGE_SIZE, SEMAPHORE_VALUE_MAX, SEMAPHORES_MAX } from "./limits.ts";
import { checkOnLoss } from "./loss.ts";
import { checkName, checkProcesses } from "./names.ts";
import { checkOrder } from "./order.ts";
import type { SessionConfig } from "./session.ts";
import { checkSize } from "./size.ts";

export interface SessionImage {
  config: SessionConfig;
  /** Entries ordered until then. */
  seq: number;
  semaphores: { name: string; value: number }[];
  /** `died`: who had it, and so left half done what it guards, or -1. */
  locks: { name: string; died: number }[];
  /** By offset. */
  blocks: Block[];
}

/** Throws DSM_INVALID: what `value` has that no session could have. */
export function readImage(value: unknown): SessionImage {
  const image = record(value, "the image");
  const config = record(image.config, "its settings");
  const { processes, size, base } = config;
  const name = text(config.name, "name");
  const order = text(config.order, "order");
  const onLoss = text(config.onLoss, "on_loss");
  need(checkName("session", name) ?? checkOrder(order) ?? checkOnLoss(onLoss));
  need(checkProcesses(processes as number) ?? checkSize(size as number));
  if ((size as number) % PAGE_SIZE !== 0) throw damaged("the map is not of whole pages");
  if (typeof base !== "number" || slotOf(base) < 0) throw damaged("the map's address is none a session has");
  const semaphores = list(image.semaphores, "semaphores", SEMAPHORES_MAX).map((one) => {
    const semaphore = record(one, "a semaphore");
    const name = text(semaphore.name, "name of a semaphore");
    need(checkName("semaphore", name));
    return { name, value: whole(semaphore.value, "value of a semaphore", SEMAPHORE_VALUE_MAX) };
  });
  const locks = list(image.locks, "locks", LOCKS_MAX).map((one) => {
    const lock = record(one, "a lock");
    const name = text(lock.name, "name of a lock");
    need(checkName("lock", name));
    return { name, died: lock.died === -1 ? -1 : whole(lock.died, "last owner of a lock", (processes as number) - 1) };
  });
  let end = 0;
  const blocks = list(image.blocks, "blocks", BLOCKS_MAX).map((one) => {
    const block = record(one, "a block");
    const name = text(block.name, "name of a block");
    if (name !== "") need(checkName("block", name));
    const offset = whole(block.offset, "place of a block", (size as number) - 1);
    const bytes = whole(block.size, "size of a block", size as number);
    if (bytes < 1 || offset < end || offset + bytes > (size as number)) throw damaged("the blocks do not fit the map");
    end = offset + bytes;
    return { offset, size: bytes, name };
  });
  unique(semaphores, "semaphores");
  unique(locks, "locks");
  unique(
    blocks.filter((block) => block.name !== ""),
    "blocks",
  );
  return {
    config: {
      name,
      instance: text(config.instance, "instance"),
      processes,
      size,
      base,
      order,
      onLoss,
      ...(config.elastic === true ? { elastic: true } : {}),
    } as SessionConfig,
    seq: whole(image.seq, "number of entries", Number.MAX_SAFE_INTEGER),
    semaphores,
    locks,
    blocks,
  };
}

const damaged = (why: string): DsmError => new DsmError("DSM_INVALID", why);

function need(wrong: string | null): void {
  if (wrong !== null) throw damaged(wrong);
}

function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw damaged(`${what} is not there`);
  return value as Record<string, unknown>;
}

function text(value: unknown, what: string): string {
  if (typeof value !== "string") throw damaged(`the ${what} is not a text`);
  return value;
}

function whole(value: unknown, what: string, most: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most) return value as number;
  throw damaged(`the ${what} is ${value}`);
}

function list(value: unknown, what: string, most: number): unknown[] {
  if (!Array.isArray(value)) throw damaged(`the list of ${what} is not there`);
  if (value.length > most) throw damaged(`there are ${value.length} ${what}; the limit is ${most}`);
  return value;
}

function unique(named: { name: string }[], what: string): void {
  if (new Set(named.map(({ name }) => name)).size !== named.length) throw damaged(`two ${what} have one name`);
}
