/** Replies: sends the replies of a session to its owner, without an allocation for each. */
import { Status } from "../base/errors.ts";
import type { Requester } from "../messages/session-state.ts";
import type { Effects, Reply } from "./effects.ts";

export class Replies {
  readonly #effects: Effects;
  readonly #reply: Reply = { status: Status.OK, aux: 0, value: 0, old: null };

  constructor(effects: Effects) {
    this.#effects = effects;
  }

  /** The request succeeded, with `value` as its result. */
  ok(node: number, tag: number, value = 0): void {
    this.#send(node, tag, Status.OK, 0, value, null);
  }

  /** The atomic operation was executed; `old` is the value before it. */
  atomic(node: number, tag: number, old: DataView): void {
    this.#send(node, tag, Status.OK, 0, 0, old);
  }

  /** The request ended with `status`. */
  status(to: Pick<Requester, "node" | "tag">, status: Status, aux = 0, value = 0): void {
    this.#send(to.node, to.tag, status, aux, value, null);
  }

  #send(node: number, tag: number, status: Status, aux: number, value: number, old: DataView | null): void {
    const reply = this.#reply;
    reply.status = status;
    reply.aux = aux;
    reply.value = value;
    reply.old = old;
    this.#effects.onReply(node, tag, reply);
  }
}
