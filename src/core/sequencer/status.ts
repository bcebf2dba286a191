/** The answer to a STATUS frame, from the session, its activity and its members. */
import { SHOWN_MAX, WAITERS_SHOWN_MAX } from "../base/limits.ts";
import type { LockStatus, ObjectStatus, RankStatus, SemaphoreStatus, ServerStatus } from "../messages/daemon-api.ts";
import type { StatusReport } from "../messages/status-report.ts";
import type { Activity } from "../observe/activity.ts";
import type { Session } from "../session/session.ts";
import type { Members } from "./members.ts";

/** Makes the report. `withHeat`: includes where the map was written. */
export function reportStatus(
  session: Session,
  activity: Activity,
  members: Members,
  log: { epoch: number; bytes: number },
  withHeat: boolean,
): StatusReport {
  const { name, instance, size, base, processes, order, onLoss, elastic } = session.config;
  const ranks = reportRanks(session, activity, members);
  const named = session.blocks.filter((block) => block.name !== "");
  const truncator = new StatusTruncator();
  return {
    name,
    instance,
    epoch: log.epoch,
    phase: session.phase,
    started: session.phase !== "joining",
    order,
    onLoss,
    elastic: elastic === true,
    direct: session.direct,
    size,
    base: `0x${base.toString(16)}`,
    processes,
    present: ranks.filter(({ state }) => state !== "left" && state !== "lost").length,
    entries: session.seq,
    bytes: session.bytesWritten,
    nodes: [...members.all()].map((member) => member.name),
    ranks,
    time_ms: Math.floor(activity.now_ms),
    started_ms: Math.round(activity.running_ms),
    ...(activity.knownMs === null ? {} : { knownMs: Math.round(activity.knownMs) }),
    barriers: session.barriers,
    logBytes: log.bytes,
    ...truncator.semaphores(session.semaphores()),
    ...truncator.locks(session.locks().map((lock) => ({ ...lock, owner: lock.owner < 0 ? null : lock.owner }))),
    ...truncator.objects(session.objects()),
    blocks: named.slice(0, SHOWN_MAX).map((block) => ({ name: block.name, offset: block.offset, size: block.size })),
    blocksLeftOut: Math.max(0, named.length - SHOWN_MAX),
    ...(withHeat ? { heat: activity.heat() } : {}),
  };
}

function reportRanks(session: Session, activity: Activity, members: Members): RankStatus[] {
  const roundTrips = new Map([...members.all()].map(({ name, roundTripMs }) => [name, roundTripMs]));
  return session.report().map((report) => {
    const { rank, node, state, on } = report;
    const roundTripMs = roundTrips.get(node) ?? Number.NaN;
    const lastWriteMs = activity.lastWriteMs(rank);
    return {
      ...report,
      stateMs: Math.round(activity.stateMs(rank, state, on)),
      entries: activity.entries[rank] as number,
      bytes: activity.bytes[rank] as number,
      lastWriteMs: lastWriteMs === null ? null : Math.round(lastWriteMs),
      roundTripUs: Number.isNaN(roundTripMs) ? null : Math.round(roundTripMs * 1000),
    };
  });
}

/** StatusTruncator: cuts lists to the size of a frame: if not all items fit, those with waiting requests come first. */
class StatusTruncator {
  #waitersLeft = WAITERS_SHOWN_MAX;

  semaphores(all: SemaphoreStatus[]): Pick<ServerStatus, "semaphores" | "semaphoresLeftOut"> {
    return { semaphores: this.#cut(all), semaphoresLeftOut: Math.max(0, all.length - SHOWN_MAX) };
  }

  locks(all: LockStatus[]): Pick<ServerStatus, "locks" | "locksLeftOut"> {
    return { locks: this.#cut(all), locksLeftOut: Math.max(0, all.length - SHOWN_MAX) };
  }

  objects(all: ObjectStatus[]): Pick<ServerStatus, "objects" | "objectsLeftOut"> {
    return { objects: this.#cut(all), objectsLeftOut: Math.max(0, all.length - SHOWN_MAX) };
  }

  #cut<Queue extends { waiters: number[] }>(all: Queue[]): Queue[] {
    const waitedFor = all.filter(({ waiters }) => waiters.length > 0);
    const others = all.filter(({ waiters }) => waiters.length === 0);
    const shown = all.length <= SHOWN_MAX ? all : [...waitedFor, ...others].slice(0, SHOWN_MAX);
    return shown.map((queue) => {
      // Several threads of a process may wait in the same queue.
      const waiters = [...new Set(queue.waiters)].slice(0, this.#waitersLeft);
      this.#waitersLeft -= waiters.length;
      return { ...queue, waiters };
    });
  }
}
