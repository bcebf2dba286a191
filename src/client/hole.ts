import { invalid } from "./config.ts";
import type { Membership } from "./membership.ts";

/**
 * A part of the map whose writes stay this process's own until it is filled. Filling publishes exactly the bytes that
 * changed, as one entry of the order: others see all of them or none.
 *
 * A hole declared with `using` or `await using` is filled at the end of its scope, also when the scope is left by an
 * error. A hole that is open when the process leaves the session is dropped unpublished.
 */
export class Hole {
  /** First byte of the hole in the map. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  readonly #membership: Membership;
  readonly #id: number;
  #filled = false;

  /** @internal Use `session.hole()`. */
  constructor(membership: Membership, offset: number, length: number) {
    this.#membership = membership;
    this.offset = offset;
    this.length = length;
    this.#id = membership.library.dig(membership.pointer, membership.facts.address + BigInt(offset), length);
  }

  /** Publishes what changed, and ends the hole. Do not write to it while it is being filled. A second time: DSM_INVALID. */
  async fill(): Promise<void> {
    this.#end();
    await this.#membership.call((pointer) => this.#membership.library.fillLater(pointer, this.#id));
  }

  /** Like fill(), but blocks the program. */
  fillSync(): void {
    this.#end();
    this.#membership.library.fill(this.#membership.pointer, this.#id);
  }

  #end(): void {
    this.#membership.check();
    if (this.#filled) throw invalid("this hole was filled before");
    this.#filled = true;
  }

  /** Fills it, if it was not filled. */
  [Symbol.dispose](): void {
    if (!this.#filled) this.fillSync();
  }

  /** Fills it, if it was not filled. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#filled) await this.fill();
  }
}
