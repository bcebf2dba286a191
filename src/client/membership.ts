/** What the session, its semaphores and its holes share: one process's place in one session. */
import { DsmError, Status, statusCode } from "../core/base/errors.ts";
import type { Channel, Reply } from "./channel.ts";
import type { Library, Opened, SessionPointer } from "./native.ts";

export class Membership {
  readonly library: Library;
  readonly facts: Opened;
  readonly #channel: Channel;
  #left = false;
  /** Those of the session when this process left: libdsm's handle may be another session's some time after that. */
  #lastProcesses = 0;
  /** Calls on other threads that still use the session. */
  readonly #calls = new Set<Promise<void>>();

  constructor(library: Library, facts: Opened, channel: Channel) {
    this.library = library;
    this.facts = facts;
    this.#channel = channel;
  }

  /** Whether the session is in direct mode, which of an elastic one may end. */
  get direct(): boolean {
    const { direct, changes, pointer } = this.facts;
    if (this.#left || !changes) return direct;
    return this.library.isDirect(pointer);
  }

  /** Stores are kept back until the next synchronising operation. */
  get #keepsStores(): boolean {
    return this.facts.order === "release" && !this.direct;
  }

  get left(): boolean {
    return this.#left;
  }

  get processes(): number {
    return this.#left ? this.#lastProcesses : this.library.processes(this.facts.pointer);
  }

  /** For a call of libdsm. Throws DSM_LEFT. */
  get pointer(): SessionPointer {
    this.check();
    return this.facts.pointer;
  }

  /**
   * The channel, for a synchronising operation: under `release` what this process has stored is published first, and is
   * in place when this returns. Throws DSM_LEFT, DSM_UNREACHABLE.
   */
  synchronise(): Channel {
    this.check();
    if (this.#keepsStores) this.library.fence(this.facts.pointer);
    return this.#channel;
  }

  /**
   * For the end of a wait. What the program stored meanwhile, under `release`, is on private copies of pages that lack
   * what others published before they let us go on: the copies are given up, and what was stored is published.
   */
  catchUp(): void {
    if (this.#keepsStores && !this.#left) this.library.fence(this.facts.pointer);
  }

  check(): void {
    if (this.#left) throw this.#hasLeft();
  }

  #hasLeft(): DsmError {
    return new DsmError("DSM_LEFT", `this process has left session "${this.facts.name}"`);
  }

  /** Runs a call on another thread, which the session must outlive. */
  call(start: (pointer: SessionPointer) => Promise<void>): Promise<void> {
    const call = start(this.pointer).finally(() => this.#calls.delete(call));
    this.#calls.add(call);
    return call;
  }

  #setLeft(): void {
    this.#lastProcesses = this.processes;
    this.#left = true;
  }

  async leave(): Promise<void> {
    this.check();
    this.#setLeft();
    await Promise.allSettled(this.#calls);
    try {
      await this.library.closeLater(this.facts.pointer);
    } finally {
      this.#channel.close(this.#hasLeft());
    }
  }

  leaveSync(): void {
    this.check();
    if (this.#calls.size > 0) {
      throw new DsmError("DSM_BUSY", "a hole is being filled; await its fill() before leaveSync(), or call leave()");
    }
    this.#setLeft();
    try {
      this.library.close(this.facts.pointer);
    } finally {
      this.#channel.close(this.#hasLeft());
    }
  }
}

/** Throws unless the reply is OK; `text` is for those statuses that say it all. */
export function checkReply(reply: Reply, text: string): void {
  if (reply.status !== Status.OK) throw new DsmError(statusCode(reply.status), reply.text || text);
}
