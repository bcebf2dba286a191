/** What processes ask for while connections break: each write has a number, by which it is found in the order. */
import { Status } from "../../../src/core/base/errors.ts";
import type { Replica } from "../../../src/core/replica/replica.ts";
import { At, HEADER_SIZE, ReplyAt } from "../../../src/core/wire/at.ts";
import { bodyText, encode, encodeText, type Frame } from "../../../src/core/wire/frame.ts";
import { AtomicOp, ChangeOp, Kind, PublishOp } from "../../../src/core/wire/kinds.ts";
import { JOINED } from "../../../src/core/wire/process-hello.ts";
import { processHello, Violation } from "../../support/core-cluster.ts";
import { publication, type Run, viewOf } from "../../support/core-frames.ts";
import { showFrame } from "../../support/core-trace.ts";
import { passGate } from "./gate.ts";
import type { Node } from "./node.ts";
import { takeBack, useObjects } from "./objects.ts";
import { COUNTER, type Process, type Request, SIZE, type Wanted, type World } from "./world.ts";

/** Writes at the offset, if it writes. */
type Actor = (world: World, process: Process, offset: number) => void;

/** Of twenty operations so many are of each kind. */
const ACTORS: readonly (readonly [share: number, actor: Actor])[] = [
  [6, add],
  [5, store],
  [3, publish],
  [3, unlockOrLock],
  [2, unlockOrMeet],
  [1, () => {}],
];
const TWENTY = ACTORS.flatMap(([share, actor]) => Array<Actor>(share).fill(actor));

/** The same where processes that are left go on after a loss: the mutex is a lock. */
const GATED: readonly Actor[] = TWENTY.map((actor, at) => {
  if (actor === unlockOrLock || at < 5) return passGate;
  return actor === unlockOrMeet ? leaveGateOrMeet : actor;
});

/** The process goes on: with the next part of what it has under way, or with something new. */
export function act(world: World, process: Process): void {
  const { request } = process;
  const { plan, random } = world;
  if (request !== null) {
    if (random.oneIn(6)) takeBack(process);
    sendPart(process, request);
  } else if (plan.objects && (world.holders.has(process) || random.oneIn(2))) useObjects(world, process);
  else random.pick(plan.gated ? GATED : TWENTY)(world, process, somewhere(world));
}

export function sendPart({ node, channel }: Process, { parts }: Request): void {
  const part = parts.shift();
  if (part !== undefined) node.say(channel, encode(part));
}

/** Any place but the counter's. */
const somewhere = ({ random }: World): number => 8 * random.between(1, SIZE / 8 - 1);

/** A store that a process in direct mode does by itself. */
export function write(world: World, { node }: Process): void {
  const bytes = world.random.bytes(8);
  node.memory.set(bytes, somewhere(world));
}

function newId(world: World): number {
  world.nextId += 1;
  return world.nextId - 1;
}

/** A body that ends with the number of the write. */
function bodyWith(id: number, length = 8): Uint8Array {
  const body = new Uint8Array(length);
  viewOf(body).setUint32(length - 8, id, true);
  return body;
}

/** The number by which a store, an addition or the last part of a publication is known, or 0. */
export function idOf(frame: Uint8Array): number {
  const view = viewOf(frame);
  switch (frame[At.kind]) {
    case Kind.STORE:
      return view.getUint32(HEADER_SIZE, true);
    case Kind.ATOMIC:
      return view.getUint32(HEADER_SIZE + 24, true);
    case Kind.PUBLISH:
      return view.getUint32(HEADER_SIZE + 8, true);
    default:
      return 0;
  }
}

export function ask(process: Process, frames: Frame[], wanted: Wanted): void {
  const tag = process.nextTag;
  process.nextTag += 1;
  const [first, ...parts] = frames.map((frame) => ({ ...frame, tag }));
  process.request = { ...wanted, tag, parts };
  process.node.say(process.channel, encode(first as Frame));
}

export function join(world: World, node: Node): void {
  const channel = (node.replica as Replica).connect();
  const process: Process = {
    ...{ node, channel, state: "joining", rank: -1, request: null, nextTag: 1, done: [] },
    ...{ writes: false, unheard: false, told: false, isTakenForOwner: false },
  };
  const answered = (view: DataView): void => joined(world, process, view);
  process.request = { what: "join", tag: 0, parts: [], answered };
  node.processes.push(process);
  world.processes.push(process);
  node.say(channel, processHello("simulated", world.processes.length));
}

function joined(world: World, process: Process, view: DataView): void {
  process.state = "running";
  process.rank = view.getUint32(ReplyAt.relatedRank, true);
  process.writes = world.plan.elastic && view.getUint32(HEADER_SIZE + JOINED.direct[0], true) === 1;
  process.unheard = process.writes;
  if (process.node.replica?.session.direct === true) world.report.direct = 1;
}

/** What libdsm does by itself in an elastic session in direct mode. False: nothing. */
export function changesOver(process: Process): boolean {
  if (process.state !== "running" || (!process.unheard && !process.told)) return false;
  const op = process.unheard ? ChangeOp.WATCH : ChangeOp.CLOSED;
  if (process.unheard) {
    process.unheard = false;
  } else {
    process.told = false;
    process.writes = false;
  }
  process.node.say(process.channel, encode({ kind: Kind.CHANGE, op }));
  return true;
}

/** An addition; the value that it gives is compared with that of its place. */
function add(world: World, process: Process): void {
  const id = newId(world);
  const body = bodyWith(id, 32);
  body[0] = 1;
  const frame = { kind: Kind.ATOMIC, op: AtomicOp.ADD, offset: COUNTER, length: 8, body };
  const answered = (view: DataView): void => world.log.additionGave(id, view.getBigUint64(HEADER_SIZE, true));
  ask(process, [frame], { what: "add", id, answered });
}

function store(world: World, process: Process, offset: number): void {
  const id = newId(world);
  ask(process, [{ kind: Kind.STORE, offset, body: bodyWith(id) }], { what: "store", id });
}

function publish(world: World, process: Process, offset: number): void {
  const { random } = world;
  const id = newId(world);
  const parts: Frame[] = [];
  const direct = process.node.replica?.session.direct === true;
  for (let more = direct ? 0 : random.below(3); more > 0; more -= 1) {
    const run: Run = [somewhere(world), random.bytes(8)];
    parts.push(publication([run], { op: PublishOp.PART }));
  }
  ask(process, [...parts, publication([[offset, bodyWith(id)]])], { what: "publish", id });
}

const MUTEX = { body: encodeText("mutex"), aux: 1 };

function lock(world: World, process: Process): void {
  const answered = (): void => {
    if (world.holder !== null) throw new Violation("two hold the mutex");
    world.holder = process;
  };
  ask(process, [{ kind: Kind.SEM_WAIT, ...MUTEX }], { what: "lock", endsByLoss: true, answered });
}

function unlockOrLock(world: World, process: Process): void {
  (world.holder === process ? unlock : lock)(world, process);
}

function unlockOrMeet(world: World, process: Process): void {
  (world.holder === process ? unlock : barrier)(world, process);
}

function leaveGateOrMeet(world: World, process: Process): void {
  (world.gateOwner === process || process.isTakenForOwner ? passGate : barrier)(world, process);
}

export function unlock(world: World, process: Process): void {
  world.holder = null;
  ask(process, [{ kind: Kind.SEM_POST, offset: 1, ...MUTEX }], { what: "unlock" });
}

function barrier(_world: World, process: Process): void {
  ask(process, [{ kind: Kind.BARRIER }], { what: "barrier", endsByLoss: true });
}

export function leave(process: Process): void {
  const answered = (): void => {
    process.state = "left";
    process.writes = false;
  };
  ask(process, [{ kind: Kind.LEAVE }], { what: "leave", answered });
}

/** What a process hears from its arbiter. */
export function hear(world: World, node: Node, channel: number, frame: Uint8Array): void {
  world.options.trace?.(`a process of ${node.name} hears on channel ${channel}: ${showFrame(frame)}`);
  if (node.state === "dead" || node.state === "refused") return;
  const process = node.processes.find((one) => one.channel === channel);
  if (frame[At.kind] === Kind.CHANGE) {
    if (process?.writes !== true || process.unheard || process.told) throw new Violation("asked to close without need");
    process.told = true;
    return;
  }
  const view = viewOf(frame);
  const text = bodyText(frame, HEADER_SIZE, view.getUint32(At.length, true));
  const request = process?.request;
  const isAnswer = frame[At.kind] === Kind.REPLY && view.getUint32(At.tag, true) === request?.tag;
  if (process === undefined || request == null || !isAnswer) {
    throw new Violation(`${node.name}: an answer that no process asked for: ${text}`);
  }
  if (request.parts.length > 0) throw new Violation("a publication is answered before its last part");
  process.request = null;
  world.report.answers += 1;
  answered(world, process, request, view, text);
}

function answered(world: World, process: Process, request: Request, view: DataView, text: string): void {
  const status = view.getUint8(ReplyAt.status);
  if (status === Status.OK || request.mayBe?.includes(status) === true) {
    if (request.id !== undefined) process.done.push(request.id);
    request.answered?.(view);
    return;
  }
  // A node that has left may have been the only one to know that another was lost.
  const mayBe = ({ state }: Node): boolean =>
    state !== "alive" && state !== "gone" && (state !== "done" || world.server.epoch > 1);
  const lost = world.nodes.some(mayBe);
  if (status === Status.LOST && lost && request.endsByLoss === true) return;
  // The only one that had joined died, and the session with it.
  if (status === Status.ENDED && lost && request.what === "join") {
    process.state = "lost";
    return;
  }
  throw new Violation(`${request.what} of ${process.node.name} is answered with ${status}: ${text}`);
}
