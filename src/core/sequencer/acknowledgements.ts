/**
 * Acknowledgements: how far the members have applied the log. Handles their acknowledgements, sends the heartbeats that
 * announce the progress of all, and drops the entries that no member needs any more.
 */
import type { Activity } from "../observe/activity.ts";
import type { Session } from "../session/session.ts";
import { encode } from "../wire/frame.ts";
import { Kind, PingOp } from "../wire/kinds.ts";
import type { Member, Members } from "./members.ts";
import type { RetainedLog } from "./retained-log.ts";
import type { SequencerOutput } from "./sequencer-output.ts";

export interface AcknowledgementsOptions {
  session: Session;
  members: Members;
  log: RetainedLog;
  activity: Activity;
  out: SequencerOutput;
}

export class Acknowledgements {
  readonly #of: AcknowledgementsOptions;

  constructor(options: AcknowledgementsOptions) {
    this.#of = options;
  }

  /** Records that the member has applied the log up to `appliedThrough`. */
  onAck(member: Member, appliedThrough: number): void {
    if (!(appliedThrough > member.appliedThrough && appliedThrough <= this.#of.session.seq)) return;
    member.appliedThrough = appliedThrough;
    this.#of.log.flush();
    this.trim();
  }

  /** Drops entries that every member has acknowledged, and occasionally announces to the members how far all are. */
  trim(): void {
    const { members, log, session } = this.#of;
    if (!log.drop(members.appliedByAll(session.seq))) return;
    for (const member of members.all()) if (member.link >= 0) this.sendHeartbeat(member);
  }

  /** Sends a heartbeat, which announces how far all members are; measures the round trip. */
  sendHeartbeat(member: Member): void {
    const { log, activity, out } = this.#of;
    const op = Number.isNaN(member.askedMs) ? PingOp.ASK : PingOp.BEAT;
    if (op === PingOp.ASK) member.askedMs = activity.now_ms;
    out.send(member.link, encode({ kind: Kind.PING, op, offset: log.base }));
  }

  /** Answers the node's question whether it still has its place. */
  answerRenewal({ link }: Member, askedAt: number): void {
    this.#of.out.send(link, encode({ kind: Kind.PING, op: PingOp.RENEWED, offset: this.#of.log.base, aux: askedAt }));
  }

  /** Pings all members without an outstanding ping, so that the next status has fresh round trips. */
  pingIdleMembers(): void {
    for (const member of this.#of.members.all()) {
      if (member.link >= 0 && Number.isNaN(member.askedMs)) this.sendHeartbeat(member);
    }
  }
}
