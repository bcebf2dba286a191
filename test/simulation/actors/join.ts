/** A process joins: it gets a rank that no other has, or is told that the session is full or over. */
import { Status } from "../../../src/core/base/errors.ts";
import { HEADER_SIZE, ReplyAt } from "../../../src/core/wire/at.ts";
import { JOINED } from "../../../src/core/wire/process-hello.ts";
import { type Node, processHello, Violation } from "../../support/core-cluster.ts";
import { openThread } from "../conversation.ts";
import { SIZE } from "../plan.ts";
import { newProcess, type Process, type Thread } from "../process.ts";
import type { World } from "../world.ts";

export function join(world: World, node: Node): void {
  const { random, plan, processes, order } = world;
  const pid = processes.length + 1;
  const process = newProcess(pid, node, SIZE);
  processes.push(process);
  const thread = openThread(world, process, true);
  thread.request = {
    what: "join",
    tag: 0,
    canceled: false,
    statuses: [Status.FULL, Status.ENDED],
    outlives: true,
    refused: (status) => isRefused(world, process, status),
    answered: ({ status, view }) => {
      process.state = status === Status.OK ? "running" : "refused";
      if (status === Status.OK) joined(world, thread, view);
    },
    waits: () => order.session.phase !== "ended" && (process.state === "joining" || process.state === "dead"),
  };
  const rank = random.between(-1, plan.config.processes + plan.ranksBeyond);
  const late = plan.elastic && order.session.phase === "running";
  const refuses = (plan.mode === "any" && random.oneIn(4)) || (late && random.oneIn(plan.barriers ? 40 : 6));
  const noDirect = plan.mode === "ordered" || refuses;
  world.trace?.(`process ${pid} joins on ${node.name}, channel ${thread.channel.index}, and wishes rank ${rank}`);
  thread.channel.up.push(processHello("simulated", pid, { rank, noDirect }));
}

function isRefused({ order }: World, process: Process, status: Status): boolean {
  if (status !== Status.ENDED && (status !== Status.FULL || !order.session.direct)) return false;
  process.state = "refused";
  return true;
}

function joined(world: World, thread: Thread, view: DataView): void {
  const { order, processes, plan } = world;
  const { process } = thread;
  process.rank = view.getUint32(ReplyAt.relatedRank, true);
  process.direct = view.getUint32(HEADER_SIZE + JOINED.direct[0], true) === 1;
  checkMode(world, process);
  process.token = new Uint8Array(view.buffer, view.byteOffset + HEADER_SIZE + JOINED.token[0], 8).slice();
  process.barriersPassed = order.barriersBefore(process.node.number, thread.channel.index);
  process.barriersEntered = process.barriersPassed;
  // In an elastic session others get the ranks of those that have gone.
  const keepsRank = ({ rank, state }: Process): boolean =>
    rank === process.rank && (!plan.elastic || state === "running");
  if (processes.some((other) => other !== process && keepsRank(other))) {
    throw new Violation(`rank ${process.rank} is given twice`);
  }
}

/** In an elastic session a process may trap beside others that write, until that ends. */
function checkMode({ order, plan }: World, process: Process): void {
  const { session } = order;
  process.unheard = plan.elastic && process.direct;
  process.traps = plan.elastic && !process.direct;
  if (plan.elastic ? process.direct && !session.direct : process.direct !== session.direct)
    throw new Violation("a process gets the wrong mode");
}
