/**
 * A lock that processes take by its cell where they can, as libdsm does, also while their node is cut off.
 *
 * Promise: no two have it; one that has got it after its owner was lost hears of that; and no process takes it by its cell
 * once a server has given its node up.
 */
import { Status } from "../../../src/core/base/errors.ts";
import { EVICTED } from "../../../src/core/messages/session-state.ts";
import { Sequencer } from "../../../src/core/sequencer/sequencer.ts";
import { At, ReplyAt } from "../../../src/core/wire/at.ts";
import {
  CELL_FREE,
  CELL_OWNED,
  CELLS_SIZE,
  LOCK_CELLS_AT,
  NAMED_CELL_SIZE,
  OPEN_UNTIL_AT,
} from "../../../src/core/wire/cell-layout.ts";
import { encodeText, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { ask } from "./actors.ts";
import type { Node } from "./node.ts";
import type { Process, World } from "./world.ts";

const NAME = { body: encodeText("gate") };

/** The cell of the gate on a node. */
export class GateCell {
  readonly memory = new Uint8Array(CELLS_SIZE);
  readonly #words = new Int32Array(this.memory.buffer);
  readonly #openUntil = new BigInt64Array(this.memory.buffer, OPEN_UNTIL_AT, 2);
  /** Its number, once an answer has told it to the processes of the node. */
  number = -1;

  swap(from: number, to: number): boolean {
    const place = (LOCK_CELLS_AT + this.number * NAMED_CELL_SIZE) / 4;
    return this.number >= 0 && Atomics.compareExchange(this.#words, place, from, to) === from;
  }

  get isFree(): boolean {
    return this.swap(CELL_FREE, CELL_FREE);
  }

  isOpen(now_ms: number): boolean {
    return this.#openUntil.every((until) => BigInt(now_ms) < until);
  }
}

/** Takes the gate by its cell. False: it must be asked for. */
function takeByCell(world: World, process: Process): boolean {
  const { node } = process;
  const mark = CELL_OWNED + process.rank;
  if (!node.gate.swap(CELL_FREE, mark)) return false;
  // Time may pass between the two.
  world.passTime();
  const isOpen = node.replica?.session.direct === true || node.gate.isOpen(world.now_ms);
  if (!isOpen) {
    // An arbiter that has taken the cell meanwhile says that the process has it.
    process.isTakenForOwner = !node.gate.swap(mark, CELL_FREE);
    return process.isTakenForOwner;
  }
  if (isGivenUp(world, node)) throw new Violation(`a process of ${node.name} takes the gate, and the node is given up`);
  if (world.gateOwner !== null) throw new Violation("two have the gate: one took it by its cell");
  world.gateOwner = process;
  world.gateSince = node.replica?.session.seq ?? 0;
  world.report.cells += 1;
  return true;
}

function isGivenUp({ server }: World, node: Node): boolean {
  return server.core instanceof Sequencer && server.core.session.entriesOf(node.number) === EVICTED;
}

/** One of a node that is cut off goes on, as far as it can. */
export function actAlone(world: World, process: Process): void {
  if (process.request !== null) return;
  if (world.gateOwner === process) giveByCell(world, process);
  else takeByCell(world, process);
}

function giveByCell(world: World, process: Process): boolean {
  if (!process.node.gate.swap(CELL_OWNED + process.rank, CELL_FREE)) return false;
  world.gateOwner = null;
  return true;
}

export function passGate(world: World, process: Process): void {
  if (process.isTakenForOwner) {
    process.isTakenForOwner = false;
    askToUnlock(process);
  } else if (world.gateOwner === process) leaveGate(world, process);
  else if (!takeByCell(world, process)) askFor(world, process);
}

export function leaveGate(world: World, process: Process): void {
  if (giveByCell(world, process)) return;
  world.gateOwner = null;
  askToUnlock(process);
}

function askToUnlock(process: Process): void {
  ask(process, [{ kind: Kind.UNLOCK, ...NAME }], { what: "leave the gate", mayBe: [Status.NOT_OWNER] });
}

function askFor(world: World, process: Process): void {
  const answered = (view: DataView): void => {
    const status = view.getUint8(ReplyAt.status);
    const owner = world.gateOwner;
    if (owner !== null && owner.node.state === "alive") throw new Violation("two have the gate: one was answered");
    if (owner !== null && status !== Status.OWNER_DIED) throw new Violation("the gate's owner was lost, unheard");
    world.gateOwner = process;
    world.gateSince = getUint64(view, At.seq);
    const cell = status === Status.OK ? getUint64(view, ReplyAt.value) - 1 : -1;
    if (cell >= 0) process.node.gate.number = cell;
  };
  ask(process, [{ kind: Kind.LOCK, ...NAME }], { what: "gate", mayBe: [Status.OWNER_DIED], answered });
}

/** The order goes on behind that entry. An owner that got the gate behind it, and is lost, has got it in no order. */
export function forgetGateOwner(world: World, seq: number): void {
  if (world.gateOwner?.node.state !== "alive" && world.gateSince > seq) world.gateOwner = null;
}
