/** Promise: a request is answered as its oracle says, once its node has the entry that is the reason. */
import { Status } from "../../../src/core/base/errors.ts";
import { ReplyAt } from "../../../src/core/wire/at.ts";
import { getUint64 } from "../../../src/core/wire/frame.ts";
import { Violation } from "../../support/core-cluster.ts";
import { keyOf } from "../oracle/sent-frames.ts";
import type { Answer, Request, Thread } from "../process.ts";
import type { World } from "../world.ts";

/** Statuses that it may be answered with, whatever the oracle says. */
export function mayBeAnswered(world: World, thread: Thread, request: Request, status: Status): boolean {
  const { state } = thread.process;
  if (status === Status.OK || request.statuses?.includes(status)) return true;
  if (status === Status.TIMEOUT) return request.canceled;
  if (status === Status.LEFT) return request.outlives !== true && (state === "going" || state === "left");
  return status === Status.LOST && request.endsByLoss === true && world.order.lost;
}

export function checkVerdict(world: World, thread: Thread, request: Request, { status, view }: Answer): void {
  if (request.judged !== true) return;
  const { what, tag } = request;
  const { process, channel } = thread;
  const { node } = process;
  const verdict = world.order.takeVerdict(node.number, channel.index, tag);
  if (verdict === undefined) {
    // Its process was leaving: that was not even asked.
    if (status === Status.LEFT) return;
    if (request.answeredByNode?.(status) !== true) throw new Violation(`a ${what} is answered before it has a place`);
    const key = keyOf(node.number, channel.index, tag);
    world.order.sent.forget((sent) => sent === key);
    return;
  }
  if (status !== verdict.status) throw new Violation(`a ${what} gets ${status}, not ${verdict.status}`);
  const value = getUint64(view, ReplyAt.value);
  // A lock's answer may tell its cell, of which the order knows nothing.
  const isCompared = what !== "sleep" && what !== "lock" && what !== "trylock";
  const isTakenBack = status === Status.TIMEOUT && what === "arrival";
  const hasValue = status === Status.OK || status === Status.NO_MEMORY || status === Status.MISMATCH || isTakenBack;
  if (hasValue && isCompared && value !== verdict.value) {
    throw new Violation(`a ${what} gets the value ${value}, not ${verdict.value}`);
  }
  if (verdict.index > world.position(node).index)
    throw new Violation(`a ${what} is answered before its node has the reason`);
  // A thread that was woken sees what was done before it was.
  thread.place = Math.max(thread.place, verdict.index);
}
