/**
 * Acks: how far the members have applied the log. What all have applied is dropped here, and they are told, so that they
 * drop it, too.
 */
import type { Activity } from "../observe/activity.ts";
import type { Session } from "../session/session.ts";
import { encode } from "../wire/frame.ts";
import { Kind, PingOp } from "../wire/kinds.ts";
import type { Member, Members } from "./members.ts";
import type { SequencerOutput } from "./output.ts";
import type { RetainedLog } from "./retained-log.ts";

export interface AcksOptions {
  session: Session;
  log: RetainedLog;
  activity: Activity;
  members: Members;
  out: Pick<SequencerOutput, "send">;
}

export class Acks {
  readonly #of: AcksOptions;

  constructor(options: AcksOptions) {
    this.#of = options;
  }

  /** The member says that it has applied the log up to this entry. */
  onAck(member: Member, appliedThrough: number): void {
    const { session, log } = this.#of;
    if (!(appliedThrough > member.appliedThrough && appliedThrough <= session.seq)) return;
    member.appliedThrough = appliedThrough;
    log.flush();
    this.trim();
  }

  /** Drops entries that every member has acknowledged, and now and then tells the members how far all are. */
  trim(): void {
    const { session, log, members } = this.#of;
    if (!log.drop(members.appliedByAll(session.seq))) return;
    for (const member of members.all()) this.sendHeartbeat(member);
  }

  /** Tells the member that the server is alive, and how far all members are; measures how long the answer takes. */
  sendHeartbeat(member: Member): void {
    if (member.link < 0) return;
    const { log, activity, out } = this.#of;
    const op = Number.isNaN(member.askedMs) ? PingOp.ASK : PingOp.BEAT;
    if (op === PingOp.ASK) member.askedMs = activity.now_ms;
    out.send(member.link, encode({ kind: Kind.PING, op, offset: log.base }));
  }

  /** The member has answered what it was asked. */
  onAnswer(member: Member): void {
    if (Number.isNaN(member.askedMs)) return;
    member.roundTripMs = this.#of.activity.now_ms - member.askedMs;
    member.askedMs = Number.NaN;
  }

  /** Pings all members that are not pinged already, so that the next status has fresh round trips. */
  pingIdleMembers(): void {
    for (const member of this.#of.members.all()) if (Number.isNaN(member.askedMs)) this.sendHeartbeat(member);
  }
}
