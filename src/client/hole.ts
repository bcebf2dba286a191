import { invalid } from "./config.ts";
import type { SessionHandle } from "./session-handle.ts";
import { promised } from "./stack.ts";

/**
 * A part of the map whose writes stay private to this process until it is filled. Filling publishes exactly the bytes
 * that changed, as one log entry: other processes see all of them or none.
 *
 * A hole declared with `using` or `await using` is filled at the end of its scope, also when an error ends the scope. A
 * hole that is open when the process leaves the session is discarded without being published.
 */
export class Hole {
  /** First byte of the hole in the map. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  readonly #handle: SessionHandle;
  readonly #id: number;
  #filled = false;

  /** @internal Use `session.hole()`. */
  constructor(handle: SessionHandle, offset: number, length: number) {
    this.#handle = handle;
    this.offset = offset;
    this.length = length;
    const { library, info, pointer } = handle;
    const address = info.address + BigInt(offset);
    this.#id = library.result((out) => library.symbols.holeDig(pointer, address, length, out));
  }

  /**
   * Publishes the changes, and ends the hole. Do not write to it while it is being filled. A second time:
   * DSM_INVALID.
   */
  fill(): Promise<void> {
    return promised(async () => {
      this.#end();
      await this.#handle.call((pointer) => this.#handle.library.holeFillAsync(pointer, this.#id));
    });
  }

  /** Like fill(), but blocks the thread. */
  fillSync(): void {
    this.#end();
    const { library, pointer } = this.#handle;
    library.check(library.symbols.holeFill(pointer, this.#id));
  }

  #end(): void {
    this.#handle.check();
    if (this.#filled) throw invalid("this hole was filled before");
    this.#filled = true;
  }

  /** Fills it, if it was not filled. */
  [Symbol.dispose](): void {
    if (!this.#filled) this.fillSync();
  }

  /** Fills it, if it was not filled. */
  [Symbol.asyncDispose](): Promise<void> {
    return promised(async () => {
      if (!this.#filled) await this.fill();
    });
  }
}
