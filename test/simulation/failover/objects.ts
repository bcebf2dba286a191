/**
 * Objects in the map: a mutex, a condition, a reader-writer lock and a barrier for two.
 *
 * Promise: what processes hear of them fits, whatever server decides: one has the mutex, one writes or others read; who gets
 * either after its owner or writer was lost hears of that; who waited for a condition goes on with the mutex.
 */
import { Status } from "../../../src/core/base/errors.ts";
import { objectName } from "../../../src/core/base/names.ts";
import { At, ReplyAt } from "../../../src/core/wire/at.ts";
import { encode, encodeText, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { ask } from "./actors.ts";
import type { Process, Wanted, World } from "./world.ts";

const MUTEX = { body: encodeText(objectName("mutex", 64)) };
const CONDITION = { offset: 128 };
const RW_LOCK = { offset: 192 };
const BARRIER = { offset: 256 };

/** Who has what, those included that were lost with it. */
export class Holders {
  mutex: Process | null = null;
  writer: Process | null = null;
  readers: Process[] = [];
  /** The entries by which the mutex and the reader-writer lock were got. */
  mutexSince = 0;
  writerSince = 0;

  /** Whether the process has anything: it does not meet others in the barrier then, who may wait for it. */
  has(process: Process): boolean {
    return this.mutex === process || this.writer === process || this.readers.includes(process);
  }

  clear(): void {
    this.mutex = null;
    this.writer = null;
    this.readers = [];
  }

  /** The order goes on behind that entry. What those that are lost got behind it, they have got in no order. */
  forgetBehind(seq: number): void {
    if (this.mutex !== null && !isAlive(this.mutex) && this.mutexSince > seq) this.mutex = null;
    if (this.writer !== null && !isAlive(this.writer) && this.writerSince > seq) this.writer = null;
  }
}

const isAlive = ({ node }: Process): boolean => node.state === "alive";

/** Gives back what the process has. False: it has nothing. */
export function giveBack(world: World, process: Process): boolean {
  const { holders } = world;
  if (!holders.has(process)) return false;
  if (holders.mutex === process) unlock(world, process);
  else rwUnlock(world, process);
  return true;
}

/** Takes back what the process waits for. */
export function takeBack({ node, channel, request }: Process): void {
  if (request?.cancelable === true) node.say(channel, encode({ kind: Kind.SEM_CANCEL, tag: request.tag }));
}

export function useObjects(world: World, process: Process): void {
  const { random, holders } = world;
  if (holders.mutex === process && random.oneIn(2)) {
    waitForSignal(world, process);
    return;
  }
  if (!random.oneIn(4) && giveBack(world, process)) return;
  const { mutex, writer, readers } = holders;
  switch (random.below(5)) {
    case 0:
      // A process that has the lock already would wait for itself.
      if (writer !== process && !readers.includes(process)) rwLock(world, process, 1);
      return;
    case 1:
      if (writer !== process) rwLock(world, process, 0);
      return;
    case 2:
      if (mutex !== process) lock(world, process);
      return;
    case 3:
      ask(process, [{ kind: Kind.COND_SIGNAL, ...CONDITION, aux: random.between(1, 3) }], { what: "signal" });
      return;
    default:
      ask(process, [{ kind: Kind.ARRIVE, ...BARRIER, aux: 2 }], waiting("arrival", [Status.TIMEOUT]));
  }
}

const waiting = (what: string, mayBe: number[], answered?: (view: DataView) => void): Wanted => ({
  ...{ what, mayBe, endsByLoss: true, cancelable: true },
  ...(answered && { answered }),
});

/** The process has the mutex. */
function hasMutex(world: World, process: Process, view: DataView, mayBeTimeOut: boolean): void {
  const status = view.getUint8(ReplyAt.status);
  // A lock that is taken back is not held; a wait for a condition that is, is over with the mutex.
  if (status === Status.TIMEOUT && !mayBeTimeOut) return;
  const { holders } = world;
  const { mutex } = holders;
  if (mutex !== null && isAlive(mutex)) throw new Violation("two have the mutex in the map");
  if (mutex !== null && status !== Status.OWNER_DIED) throw new Violation("the mutex's owner was lost, unheard");
  holders.mutex = process;
  holders.mutexSince = getUint64(view, At.seq);
  world.report.objects += 1;
}

function lock(world: World, process: Process): void {
  const answered = (view: DataView): void => hasMutex(world, process, view, false);
  ask(process, [{ kind: Kind.LOCK, ...MUTEX }], waiting("mutex", [Status.OWNER_DIED, Status.TIMEOUT], answered));
}

function unlock(world: World, process: Process): void {
  world.holders.mutex = null;
  ask(process, [{ kind: Kind.UNLOCK, ...MUTEX }], { what: "unlock the mutex" });
}

function waitForSignal(world: World, process: Process): void {
  world.holders.mutex = null;
  const answered = (view: DataView): void => hasMutex(world, process, view, true);
  const frame = { kind: Kind.COND_WAIT, ...CONDITION, ...MUTEX };
  ask(process, [frame], waiting("wait for a condition", [Status.OWNER_DIED, Status.TIMEOUT], answered));
}

function rwLock(world: World, process: Process, aux: number): void {
  const answered = (view: DataView): void => {
    const status = view.getUint8(ReplyAt.status);
    if (status === Status.TIMEOUT) return;
    const { holders } = world;
    const { writer, readers } = holders;
    if (writer !== null && isAlive(writer)) throw new Violation("one has the lock that another writes");
    if (writer !== null && status !== Status.OWNER_DIED) throw new Violation("a writer was lost, unheard");
    if (aux === 1 && readers.some(isAlive)) throw new Violation("one writes what another reads");
    if (aux === 1) {
      holders.writer = process;
      holders.writerSince = getUint64(view, At.seq);
    } else readers.push(process);
    holders.readers = holders.readers.filter(isAlive);
    world.report.objects += 1;
  };
  const mayBe = [Status.OWNER_DIED, Status.TIMEOUT];
  ask(process, [{ kind: Kind.RW_LOCK, ...RW_LOCK, aux }], waiting("reader-writer lock", mayBe, answered));
}

function rwUnlock(world: World, process: Process): void {
  const { holders } = world;
  if (holders.writer === process) holders.writer = null;
  else holders.readers.splice(holders.readers.indexOf(process), 1);
  ask(process, [{ kind: Kind.RW_UNLOCK, ...RW_LOCK }], { what: "unlock what is read or written" });
}
