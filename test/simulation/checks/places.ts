/**
 * Promise: sequential consistency. A write stands at its entry's place, a load behind the last entry that its node had
 * applied: each thread's places go up, and an answer comes only when its own node has what it tells of.
 */
import { HEADER_SIZE, ReplyAt } from "../../../src/core/wire/at.ts";
import { getUint64 } from "../../../src/core/wire/frame.ts";
import { Violation } from "../../support/core-cluster.ts";
import type { Entry } from "../oracle/order.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";

/** A load that its thread does now; how many frames of the order its node has applied. */
export function placeLoad(world: World, thread: Thread): number {
  const { index } = world.position(thread.process.node);
  if (index < thread.place)
    throw new Violation(`a load at ${index} comes before what its thread saw at ${thread.place}`);
  thread.place = index;
  return index;
}

/** A store, atomic or publication is done: it has its place, behind all that its thread saw, and its node has it. */
export function placeWrite(world: World, thread: Thread, what: string, tag: number, view: DataView): Entry {
  const { node } = thread.process;
  const entry = world.order.placeOf(node.number, thread.channel.index, tag);
  if (entry === undefined) throw new Violation(`a ${what} is answered before it has a place`);
  if (entry.index <= thread.place) throw new Violation(`a ${what} lies before what its thread saw`);
  if (entry.index > world.position(node).index) throw new Violation(`a ${what} is answered before its node has it`);
  if (getUint64(view, ReplyAt.seq) !== entry.seq) throw new Violation(`a ${what} gets another place than it has`);
  thread.place = entry.index;
  return entry;
}

/** The value that an atomic operation is told is the one before its place. */
export function checkOldValue(entry: Entry, view: DataView): void {
  const old = Buffer.from(view.buffer, view.byteOffset + HEADER_SIZE, 16);
  if (entry.old === null || Buffer.compare(old, entry.old) !== 0)
    throw new Violation("an atomic gives a wrong old value");
}
