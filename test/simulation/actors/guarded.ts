/** What locks guard: a word each, into which an owner stores. Promise: who has got the lock sees what was stored there last. */
import { Status } from "../../../src/core/base/errors.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { viewOf } from "../../support/core-frames.ts";
import { placeWrite } from "../checks/places.ts";
import { ask } from "../conversation.ts";
import { LOCKS } from "../oracle/locks.ts";
import { WORDS_FROM } from "../plan.ts";
import type { Process, Thread } from "../process.ts";
import type { World } from "../world.ts";

/** Behind the words that threads sleep on. */
const GUARDED_FROM = WORDS_FROM + 32;

/** The last store into the word that a lock guards. */
export interface Guarded {
  value: number;
  by: Process;
  /** It has not been answered. */
  isUnderWay: boolean;
}

/** Tests break it. */
export const RULES = {
  /** Who has the lock gives it back when what it has stored is in the order. */
  waitsForStore: (): boolean => true,
};

export const mayGiveBack = ({ guarded }: World, process: Process, name: string): boolean => {
  const last = guarded.get(name);
  return last?.by !== process || !last.isUnderWay || !RULES.waitsForStore();
};

/** The owner of the lock stores. In direct mode processes store by themselves: see what they share at once. */
export function storeGuarded(world: World, thread: Thread, name: string): void {
  const last: Guarded = { value: world.nextGuarded, by: thread.process, isUnderWay: true };
  world.nextGuarded += 1;
  world.guarded.set(name, last);
  const body = new Uint8Array(8);
  viewOf(body).setUint32(0, last.value, true);
  const frame = { kind: Kind.STORE, offset: GUARDED_FROM + 8 * LOCKS.indexOf(name), body };
  ask(world, thread, frame, {
    what: "store under a lock",
    answered: ({ status, tag, view }) => {
      last.isUnderWay = false;
      if (status === Status.OK) placeWrite(world, thread, "store", tag, view);
    },
  });
}

/** The process has got the lock. What one has stored that is gone may be lost, or may still come. */
export function checkGuarded({ guarded, order, direct }: World, { node }: Process, name: string): void {
  const last = guarded.get(name);
  if (last === undefined || last.by.state !== "running" || order.heap.wordsZeroed || direct.former !== null) return;
  if (node === direct.decider) return;
  const found = viewOf(node.memory).getUint32(GUARDED_FROM + 8 * LOCKS.indexOf(name), true);
  if (found !== last.value) throw new Violation(`who has got lock ${name} sees store ${found}, not ${last.value}`);
}
