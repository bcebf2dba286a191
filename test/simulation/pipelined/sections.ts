/**
 * Sections under one lock, each of which adds 1 to a word that nothing else stores to. The lock is taken and given back by
 * its cell where it is leased to the node, else by requests.
 */
import { Status } from "../../../src/core/base/errors.ts";
import { ReplyAt } from "../../../src/core/wire/at.ts";
import { CELL_FREE, CELL_OWNED, LOCK_CELLS_AT, NAMED_CELL_SIZE } from "../../../src/core/wire/cell-layout.ts";
import { encodeText, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { viewOf } from "../../support/core-frames.ts";
import { ask, type Process, type Runs, SIZE, type World } from "./world.ts";

/** Other stores end before it. */
export const GUARDED_AT = SIZE - 1024;
const NAME = "guarded";

/** Where the lock's cell is; undefined: no process of the node was told. */
function cellAt({ place: { node } }: Process): number | undefined {
  const cell = node.knownCells.get(NAME);
  return cell === undefined ? undefined : LOCK_CELLS_AT + cell * NAMED_CELL_SIZE;
}

/** A process takes the lock, or asks for it. */
function beginSection(world: World, process: Process): void {
  const at = cellAt(process);
  if (process !== world.favoured && !world.random.oneIn(30)) return;
  if (at !== undefined && process.place.node.cells.swap(at, CELL_FREE, CELL_OWNED + process.rank)) {
    world.report.leased += 1;
    enter(world, process, Status.OK);
    return;
  }
  const answered = (status: number, view: DataView): void => {
    if (status !== Status.OK && status !== Status.OWNER_DIED) return;
    const cell = status === Status.OK ? getUint64(view, ReplyAt.value) : 0;
    if (cell > 0) process.place.node.knownCells.set(NAME, cell - 1);
    enter(world, process, status);
  };
  ask(world, process, { kind: Kind.LOCK, body: encodeText(NAME) }, { answered });
}

function enter(world: World, process: Process, status: number): void {
  const seen = getUint64(viewOf(process.place.node.memory), GUARDED_AT);
  // What a node that is gone had queued is lost with it, and the stores of a dead owner may be there.
  const isRight = status === Status.OK ? seen === world.guarded : seen <= world.guarded + 1;
  if (!isRight) throw new Violation(`the next owner sees ${seen} after section ${world.guarded}, status ${status}`);
  world.guarded = seen;
  world.report.sections += 1;
  process.section = { next: seen + 1, progress: "begun" };
}

/** Begins a section, or goes on with it. Returns what is to be stored next, or null. */
export function workInSection(world: World, process: Process): Runs | null {
  const { section } = process;
  if (section === null) {
    beginSection(world, process);
    return null;
  }
  if (section.progress === "begun") {
    section.progress = "stored";
    const bytes = new Uint8Array(8);
    viewOf(bytes).setUint32(0, section.next, true);
    const masks = Uint8Array.of(0xff);
    return [world.plan.publishes ? [GUARDED_AT, bytes, masks] : [GUARDED_AT, bytes]];
  }
  endSection(world, process, section.next);
  return null;
}

/** What the process was storing is not stored. */
export function storeAgain({ section, runs }: Process): void {
  if (section !== null && runs[0]?.[0] === GUARDED_AT) section.progress = "begun";
}

function endSection(world: World, process: Process, stored: number): void {
  process.section = null;
  world.guarded = stored;
  const at = cellAt(process);
  if (at !== undefined && process.place.node.cells.swap(at, CELL_OWNED + process.rank, CELL_FREE)) return;
  ask(world, process, { kind: Kind.UNLOCK, body: encodeText(NAME) });
}
