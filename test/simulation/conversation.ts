/** What threads send to their arbiter and hear from it. */
import { Status } from "../../src/core/base/errors.ts";
import { At, FailAt, HEADER_SIZE, ReplyAt } from "../../src/core/wire/at.ts";
import { bodyText, encode, type Frame } from "../../src/core/wire/frame.ts";
import { ChangeOp, Kind } from "../../src/core/wire/kinds.ts";
import { Violation } from "../support/core-cluster.ts";
import { viewOf } from "../support/core-frames.ts";
import { showFrame } from "../support/core-trace.ts";
import { checkVerdict, mayBeAnswered } from "./checks/verdicts.ts";
import { closeMap, isHalf, type Process, type Thread, type Wanted } from "./process.ts";
import type { World } from "./world.ts";

/** A thread of the process, with a connection of its own. */
export function openThread(world: World, process: Process, main: boolean): Thread {
  const channel = process.node.connect(
    `${process.pid}`,
    (frame) => hear(world, thread, frame),
    () => closed(thread),
  );
  world.order.forget(process.node.number, channel.index);
  const thread: Thread = { process, channel, main, open: true, request: null, cell: null, place: 0 };
  process.threads.push(thread);
  return thread;
}

/** Sends the request, under a tag of the world's choice. */
export function ask(world: World, thread: Thread, frame: Frame, wanted: Wanted): void {
  const tag = world.random.below(world.plan.tags);
  thread.request = { ...wanted, tag, canceled: false };
  send(world, thread, { ...frame, tag });
}

export function send(world: World, thread: Thread, frame: Frame): void {
  const bytes = encode(frame);
  const { process, channel } = thread;
  world.trace?.(`process ${process.pid} asks on channel ${channel.index}: ${showFrame(bytes)}`);
  world.order.sent.add(process.node.number, channel.index, process.rank, bytes);
  channel.up.push(bytes);
}

/** What libdsm does by itself in an elastic session that is in direct mode. False: nothing. */
export function changeOver(world: World, process: Process): boolean {
  const { state, unheard, told, threads } = process;
  const main = threads.find((thread) => thread.main && thread.open);
  if (state !== "running" || main === undefined || (!unheard && !told)) return false;
  if (unheard) process.unheard = false;
  else {
    closeMap(process);
    process.traps = true;
  }
  world.trace?.(`process ${process.pid} ${unheard ? "watches" : "has closed the map"}`);
  main.channel.up.push(encode({ kind: Kind.CHANGE, op: unheard ? ChangeOp.WATCH : ChangeOp.CLOSED }));
  return true;
}

/** A thread's connection ends, whatever it has under way. */
export function closeThread(world: World, thread: Thread): void {
  world.trace?.(`process ${thread.process.pid} closes channel ${thread.channel.index}`);
  thread.open = false;
  thread.request?.abandoned?.();
  thread.channel.up.end();
  thread.process.threads = thread.process.threads.filter((other) => other !== thread);
}

/** The arbiter has closed the connection. */
function closed(thread: Thread): void {
  const { process } = thread;
  if (!thread.open) return;
  thread.open = false;
  thread.channel.up.end();
  if (process.node.lost || ["dead", "left", "refused"].includes(process.state)) return;
  throw new Violation(`the connection of process ${process.pid} was closed`);
}

function hear(world: World, thread: Thread, frame: Uint8Array): void {
  if (!thread.open) return;
  const view = viewOf(frame);
  const { process } = thread;
  world.trace?.(`process ${process.pid} hears on channel ${thread.channel.index}: ${showFrame(frame)}`);
  switch (view.getUint8(At.kind)) {
    case Kind.FAIL:
      hearFailure(thread, view.getUint8(FailAt.status) as Status, textOf(frame));
      return;
    case Kind.CHANGE: {
      const inTime = process.direct && !process.unheard && !process.told;
      if (process.state === "running" && (!inTime || !thread.main)) throw new Violation("asked to close without need");
      process.told = process.direct;
      return;
    }
    default:
      hearAnswer(world, thread, view, textOf(frame));
  }
}

const textOf = (frame: Uint8Array): string => bodyText(frame, HEADER_SIZE, viewOf(frame).getUint32(At.length, true));

function hearFailure(thread: Thread, status: Status, text: string): void {
  const { process, request, channel } = thread;
  if (request?.refused?.(status) !== true) throw new Violation(`process ${process.pid} is told: ${text}`);
  thread.open = false;
  channel.up.end();
}

function hearAnswer(world: World, thread: Thread, view: DataView, text: string): void {
  const { process, request } = thread;
  const status = view.getUint8(ReplyAt.status) as Status;
  const tag = view.getUint32(At.tag, true);
  if (request === null || request.tag !== tag) {
    throw new Violation(`process ${process.pid} gets an answer to tag ${tag}, which it did not ask (or twice)`);
  }
  if (isHalf(request) && status === Status.OK) throw new Violation("a publication is answered before its last part");
  thread.request = null;
  world.report.answers += 1;
  if (!mayBeAnswered(world, thread, request, status)) {
    throw new Violation(`process ${process.pid}: ${request.what} is answered with status ${status} ${text}`);
  }
  const answer = { status, tag, view };
  checkVerdict(world, thread, request, answer);
  request.answered?.(answer);
}
