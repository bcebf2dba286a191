/**
 * Admission: which nodes may become members, and which may come back. Each check throws ProtocolError with the reason
 * for the node.
 */
import { Status } from "../base/errors.ts";
import { NODE_NUMBER_MAX, NODES_MAX } from "../base/limits.ts";
import { type NodeHello, nodeInUse, type ResumeRequest } from "../messages/node-handshake.ts";
import { describeMismatch } from "../messages/session-settings.ts";
import { EVICTED, type SessionConfig } from "../messages/session-state.ts";
import type { Session } from "../session/session.ts";
import { JoinAt, StatusAt } from "../wire/at.ts";
import { bodyText, ProtocolError } from "../wire/frame.ts";
import type { Member, Members } from "./members.ts";

/** Advice for a second arbiter of one node: its processes did not find the socket of the first one. */
const ANOTHER_ARBITER =
  "set DSM_NODE to another name, or let containers of one node share /dev/shm and /tmp (or XDG_RUNTIME_DIR)";

/** Throws unless the node may become a new member. */
export function checkNewMember(session: Session, members: Members, hello: NodeHello): void {
  const { config } = session;
  if (hello.session !== config.name) {
    throw new ProtocolError(`this server has session "${config.name}", not "${hello.session}"`, Status.REFUSED);
  }
  if (session.phase === "ended") throw new ProtocolError(`session "${config.name}" has ended`, Status.ENDED);
  const mismatch = describeMismatch(config, hello);
  if (mismatch !== null) throw new ProtocolError(mismatch, Status.MISMATCH);
  const other = members.byName(hello.node);
  if (other !== undefined) throw nameInUse(session, other);
  if (members.size >= NODES_MAX) {
    throw new ProtocolError(`the session has ${NODES_MAX} nodes, the limit`, Status.LIMIT);
  }
  if (members.nextNode > NODE_NUMBER_MAX) {
    throw new ProtocolError("the session has had too many nodes", Status.LIMIT);
  }
}

function nameInUse(session: Session, { node, name, link }: Member): ProtocolError {
  const isThere = nodeInUse(name, session.config.name);
  // A node whose processes have all left is only closing its connection. In direct mode the server learns of that last.
  if (session.direct || session.presentOn(node).length === 0 || link < 0) {
    return new ProtocolError(`${isThere}, or just leaving it; ${ANOTHER_ARBITER}`, Status.AGAIN);
  }
  return new ProtocolError(`${isThere}; ${ANOTHER_ARBITER}`, Status.REFUSED);
}

/** The epochs of the session, as a server knows them. */
export interface Epochs {
  /** Which server of the session this is, from 1. */
  epoch: number;
  /** The last entry before each epoch. */
  starts: number[];
}

/** Returns the member that comes back, which continues after the entries that it has. Throws if it cannot. */
export function checkReturning(
  session: Session,
  members: Members,
  { epoch, starts }: Epochs,
  hello: NodeHello,
  resume: ResumeRequest,
): Member {
  if (resume.instance !== session.config.instance) {
    throw new ProtocolError(`session "${session.config.name}" has ended`, Status.ENDED);
  }
  const member = members.get(resume.node);
  if (member === undefined || member.secret === "" || member.secret !== hello.secret) {
    throw new ProtocolError(`node "${hello.node}" was away too long; its processes count as lost`, Status.UNREACHABLE);
  }
  // The node's log must be a prefix of the server's; in direct mode it may be ahead by entries that it decided itself.
  const decides = session.direct && session.presentOn(resume.node).length > 0;
  const newest = resume.epoch < epoch ? (starts[resume.epoch] as number) : session.seq;
  const isPrefix = resume.epoch <= epoch && resume.seq <= newest && (resume.applied <= newest || decides);
  if (session.entriesOf(resume.node) === EVICTED || resume.seq < member.appliedThrough || !isPrefix) {
    throw new ProtocolError(`node "${hello.node}" has another order than the server`);
  }
  return member;
}

/** Throws ProtocolError if the STATUS at `at`, which asks for the end of a session, names another run of it. */
export function checkEnd(view: DataView, at: number, bytes: Uint8Array, { name, instance }: SessionConfig): void {
  const meant = bodyText(bytes, at + StatusAt.instance, view.getUint32(at + StatusAt.instanceLength, true));
  if (meant !== instance) throw new ProtocolError(`this is another run of session "${name}"`, Status.REFUSED);
}

/**
 * Throws ProtocolError unless the name in a JOIN is the member's. The name is shown to users, and only the member's was
 * checked.
 */
export function checkNodeName(member: Member | undefined, view: DataView, at: number, bytes: Uint8Array): void {
  const name = bodyText(bytes, at + JoinAt.name, view.getUint32(at + JoinAt.nameLength, true));
  if (name !== member?.name) throw new ProtocolError("a process of a node of another name");
}
