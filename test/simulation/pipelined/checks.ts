/** The promises of a pipelined session about maps, rings, shadows and fences. */
import { Status } from "../../../src/core/base/errors.ts";
import { At, ReplyAt } from "../../../src/core/wire/at.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { RING_START } from "../../../src/core/wire/ring-layout.ts";
import { Violation } from "../../support/core-cluster.ts";
import { piecesOf } from "../../support/core-frames.ts";
import { type Place, type Process, type Queued, SIZE, type World } from "./world.ts";

const SNAPSHOT_EVERY = 16;
const expected = new Uint8Array(SIZE);

/** All that holds for a node after every step. */
export function checkPlace(place: Place, processes: readonly Process[]): void {
  checkMap(place, processes);
  checkRoom(place);
  const { node, session, entries } = place;
  if (entries % SNAPSHOT_EVERY === 0) {
    const state = JSON.stringify(node.replica?.session.state());
    if (state !== JSON.stringify(session.state())) throw new Violation(`${node.name}: another state`);
  }
  for (const process of processes) if (process.place === place) checkShadow(process);
}

/** A node's map is what the order says, and over it the stores of the node that are still under way. */
function checkMap({ node, words, queued, applied, memory, session }: Place, processes: readonly Process[]): void {
  const owner = processes.find(({ pid }) => pid === words.owner);
  expected.set(memory);
  for (let i = applied; i < queued.length; i += 1) {
    for (const [offset, bytes] of (queued[i] as Queued).runs.flatMap(piecesOf)) expected.set(bytes, offset);
  }
  // Of a store that is being made some bytes are there and some not.
  if (owner?.step === "queued" || owner?.step === "half") {
    for (const [offset, bytes] of owner.runs.flatMap(piecesOf)) {
      expected.set(node.memory.subarray(offset, offset + bytes.length), offset);
    }
  }
  if (Buffer.compare(node.memory, expected) === 0) return;
  const at = expected.findIndex((byte, i) => node.memory[i] !== byte);
  throw new Violation(`${node.name} behind ${session.seq}: byte ${at} of the map is wrong`);
}

/** The ring's room is given back when the entry has been applied. */
function checkRoom({ node, words, queued, applied }: Place): void {
  const head = applied === 0 ? RING_START : (queued[applied - 1] as Queued).end;
  if (words.head !== head) throw new Violation(`${node.name}: room is given back too early or too late`);
}

/** A page seen through a shadow is the node's page but for the hole. */
function checkShadow({ place: { node }, hole, shadow, state }: Process): void {
  if (hole === null || state === "dead") return;
  for (let at = 0; at < SIZE; at += 1) {
    if ((at < hole.from || at >= hole.to) && shadow[at] !== node.memory[at]) {
      throw new Violation(`${node.name}: byte ${at} of a shadow is wrong`);
    }
  }
}

/** A fence is answered when all that was queued before it has been applied. Called while its arbiter answers. */
export function checkFence(
  { places, processes, order }: World,
  channel: number,
  reply: Uint8Array,
  map: Uint8Array,
): void {
  const place = [...places.values()].find(({ node }) => node.memory === map) as Place;
  const process = processes.find((one) => one.place === place && one.channel.index === channel);
  if (process?.request?.kind !== Kind.FENCE || reply[At.kind] !== Kind.REPLY) return;
  // It may not have taken the next entry into account.
  order.follow(place);
  if (reply[ReplyAt.status] === Status.OK && place.applied < process.request.after) {
    throw new Violation("a fence is answered before all that was queued before it is applied");
  }
}

/** Nothing moves any more: nothing is left in a ring, and all maps are the same. */
export function checkEnd({ processes, places, cluster }: World): void {
  for (const { state, request } of processes) {
    if (state !== "running" || request === null || (request.parts?.length ?? 0) > 0) continue;
    // Who has the lock may keep it.
    if (request.sleeps !== true && request.kind !== Kind.LOCK)
      throw new Violation(`a request of kind ${request.kind} has no answer`);
  }
  for (const { node, queued, ordered, memory } of places.values()) {
    if (node.lost || node.done) continue;
    if (ordered !== queued.length) throw new Violation(`${node.name} leaves stores in its ring`);
    if (Buffer.compare(node.memory, memory) !== 0) throw new Violation(`${node.name} ends with another map`);
    if (Buffer.compare(node.memory, cluster.memory) !== 0) throw new Violation("two maps end different");
  }
}
