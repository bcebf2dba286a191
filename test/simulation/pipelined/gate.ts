/**
 * A lock that processes take by its cell where it is leased to their node, and a word that it guards, which they store through
 * the ring.
 *
 * Promise: no two have the lock, and who has got it sees what its last owner has stored.
 */
import { Status } from "../../../src/core/base/errors.ts";
import { ReplyAt } from "../../../src/core/wire/at.ts";
import { CELL_FREE, CELL_OWNED, LOCK_CELLS_AT, NAMED_CELL_SIZE } from "../../../src/core/wire/cell-layout.ts";
import { encodeText, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { type Node, Violation } from "../../support/core-cluster.ts";
import { viewOf } from "../../support/core-frames.ts";
import { ask, type Process, type Runs, SIZE, type World } from "./world.ts";

const NAME = { body: encodeText("gate") };
/** The word lies where nothing else is stored, but for the largest stores, with which there is no gate. */
const WORD_AT = SIZE - 8;

/** Tests break it. */
export const RULES = {
  /** Who has the lock gives it back when all its stores are in the ring. */
  waitsForStores: (isStoring: boolean): boolean => isStoring,
};

export class Gate {
  /** Who has the lock, also one that has died with it. */
  owner: Process | null = null;
  /** What the last owner has stored. -1: it may have died before that was done. */
  value = 0;
  /** The owner has stored. */
  hasStored = false;
  /** The owner is about to store. */
  isStoring = false;
}

/** Takes the lock, or gives it back. */
export function passGate(world: World, process: Process): void {
  const { gate } = world;
  if (gate.owner !== process) take(world, process);
  else if (!RULES.waitsForStores(gate.isStoring)) giveBack(world, process);
}

/** The store that the owner of the lock makes next; null: it has none to make. */
export function guardedStore({ gate, plan }: World, process: Process): Runs | null {
  if (gate.owner !== process || gate.hasStored || process.request !== null) return null;
  gate.isStoring = true;
  const bytes = new Uint8Array(8);
  viewOf(bytes).setUint32(0, Math.max(gate.value, 0) + 1, true);
  return [plan.publishes ? [WORD_AT, bytes, Uint8Array.of(0xff)] : [WORD_AT, bytes]];
}

/** A store of these runs has come to its end. `isDone`: or, if not, it was not made. */
export function noteStored({ gate }: World, process: Process, [run]: Runs, isDone: boolean): void {
  if (run?.[0] !== WORD_AT) return;
  if (gate.owner === process) Object.assign(gate, { isStoring: false, hasStored: isDone });
  if (isDone) gate.value = viewOf(run[1] as Uint8Array).getUint32(0, true);
}

function placeOf(node: Node): number {
  const cell = node.knownCells.get("gate");
  return cell === undefined ? -1 : LOCK_CELLS_AT + cell * NAMED_CELL_SIZE;
}

function swap({ place: { node } }: Process, from: number, to: number): boolean {
  const at = placeOf(node);
  return at >= 0 && node.cells.swap(at, from, to);
}

function take(world: World, process: Process): void {
  if (swap(process, CELL_FREE, CELL_OWNED + process.rank)) {
    world.report.leased += 1;
    if (world.gate.owner !== null) throw new Violation("two have the gate: one took it by its cell");
    enter(world, process);
    return;
  }
  // With too many requests it would not stay with a node for long.
  const mayBeHere = placeOf(process.place.node) >= 0;
  if ((mayBeHere || world.gate.owner !== null) && !world.random.oneIn(4)) return;
  const answered = (status: number, view: DataView): void => {
    if (status !== Status.OK && status !== Status.OWNER_DIED) return;
    const { owner } = world.gate;
    if (owner !== null && owner.state !== "dead") throw new Violation("two have the gate: one was answered");
    if (owner !== null && status !== Status.OWNER_DIED) throw new Violation("the gate's owner has died, unheard");
    if (owner !== null && (world.gate.isStoring || owner.place.node.lost)) world.gate.value = -1;
    const cell = status === Status.OK ? getUint64(view, ReplyAt.value) - 1 : -1;
    if (cell >= 0) process.place.node.knownCells.set("gate", cell);
    enter(world, process);
  };
  ask(world, process, { kind: Kind.LOCK, ...NAME }, { answered });
}

function enter({ gate, trace }: World, process: Process): void {
  const found = viewOf(process.place.node.memory).getUint32(WORD_AT, true);
  trace?.(`process ${process.pid} has the gate, and finds ${found} there`);
  if (gate.value >= 0 && found !== gate.value)
    throw new Violation(`who has got the gate sees ${found}; its last owner has stored ${gate.value}`);
  Object.assign(gate, { owner: process, value: found, hasStored: false, isStoring: false });
}

/** Without the arbiter, where that can be. */
export function leaveByCell({ gate }: World, process: Process): boolean {
  if (gate.owner !== process || RULES.waitsForStores(gate.isStoring)) return false;
  if (!swap(process, CELL_OWNED + process.rank, CELL_FREE)) return false;
  gate.owner = null;
  return true;
}

function giveBack(world: World, process: Process): void {
  if (leaveByCell(world, process)) return;
  world.gate.owner = null;
  ask(world, process, { kind: Kind.UNLOCK, ...NAME });
}
