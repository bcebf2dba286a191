/**
 * The nodes that belong to the session, connected or not.
 *
 *     admitted ──connection breaks──▶ disconnected ──comes back──▶ connected
 *                                          └──away too long, or its process ended──▶ evicted
 *
 * A node keeps its place while its connection is broken. An evicted node can never rejoin under the same number, so a
 * loss that was reported is final.
 */
import type { NodeHello } from "../messages/node-handshake.ts";
import { ProtocolError } from "../wire/frame.ts";
import type { DisconnectedMember } from "./sequencer-output.ts";

export interface Member extends Omit<DisconnectedMember, "leaseMs"> {
  node: number;
  name: string;
  secret: string;
  /** -1 while it is disconnected. */
  link: number;
  /** The last entry that it is known to have applied. */
  appliedThrough: number;
  /** Number of the last proposal that was accepted from it. */
  lastProposal: number;
  /** When the outstanding ping was sent; NaN: none is outstanding. */
  askedMs: number;
  /** NaN: not measured. */
  roundTripMs: number;
}

export class Members {
  /** By node number. */
  readonly #members = new Map<number, Member>();
  #nextNode = 1;

  /** Number of the next new node. */
  get nextNode(): number {
    return this.#nextNode;
  }

  get size(): number {
    return this.#members.size;
  }

  get(node: number): Member | undefined {
    return this.#members.get(node);
  }

  all(): IterableIterator<Member> {
    return this.#members.values();
  }

  byName(name: string): Member | undefined {
    for (const member of this.#members.values()) if (member.name === name) return member;
    return undefined;
  }

  /** Admits a new member on a connection. */
  admit(hello: NodeHello, link: number, appliedThrough: number): Member {
    const member = this.#add(this.#nextNode, hello, link, appliedThrough);
    this.#nextNode += 1;
    return member;
  }

  /** Restores a member of the previous server, which has not connected yet. */
  restore(node: number, hello: NodeHello, appliedThrough: number): void {
    this.#add(node, hello, -1, appliedThrough);
    this.reserve(node);
  }

  /** Reserves the node numbers up to `node`: they have been assigned. */
  reserve(node: number): void {
    this.#nextNode = Math.max(this.#nextNode, node + 1);
  }

  #add(node: number, hello: NodeHello, link: number, appliedThrough: number): Member {
    const { node: name, secret, reconnectMs, process } = hello;
    const member: Member = {
      node,
      name,
      secret,
      reconnectMs,
      process,
      link,
      appliedThrough,
      lastProposal: 0,
      askedMs: Number.NaN,
      roundTripMs: Number.NaN,
    };
    this.#members.set(node, member);
    return member;
  }

  /**
   * Whether the node's proposal of that number enters the log: not if it is there already. Throws when one is missing.
   */
  acceptProposal(node: number, number: number): boolean {
    const member = this.#members.get(node);
    if (member === undefined || (number > 0 && number <= member.lastProposal)) return false;
    if (number !== member.lastProposal + 1) throw new ProtocolError("an operation is missing");
    member.lastProposal = number;
    return true;
  }

  remove(node: number): void {
    this.#members.delete(node);
  }

  /** Whether a member is disconnected. */
  get anyDisconnected(): boolean {
    for (const { link } of this.#members.values()) if (link < 0) return true;
    return false;
  }

  /** The last entry that all members have applied; `newest` if there are none. */
  appliedByAll(newest: number): number {
    let applied = newest;
    for (const { appliedThrough } of this.#members.values()) applied = Math.min(applied, appliedThrough);
    return applied;
  }
}
