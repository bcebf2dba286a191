import { SEMAPHORE_VALUE_MAX } from "../core/base/limits.ts";
import { checkName } from "../core/base/names.ts";
import { invalid } from "./config.ts";
import { check, checkSemaphore, isTaken } from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { promised } from "./stack.ts";
import { replyTo, timeoutOf, type WaitOptions } from "./waiting.ts";

/**
 * A counting semaphore, identified in the whole session by its name. Waits are granted first come, first served, across
 * nodes and forms (promise or `Sync`); in direct mode a `Sync` wait may be overtaken for its first 0.2 s.
 *
 * Every method fails with DSM_LEFT after leaving, DSM_LOST when a process of the session died without leaving (posting
 * stays possible) and DSM_UNREACHABLE when this node's arbiter has ended. The `Sync` forms block the whole thread,
 * timers and promises included: never use them to wait for work of this thread itself.
 *
 * Waiting and posting are synchronising operations: under the order `release` each first publishes what this process
 * has stored, for which the promise forms block the thread as `session.fence()` does.
 */
export class Semaphore {
  /** Its name in the session. */
  readonly name: string;
  readonly #handle: SessionHandle;
  readonly #initial: number;

  /** @internal Use `session.semaphore()`. */
  constructor(handle: SessionHandle, name: string, initial: number) {
    const wrong = checkName("semaphore", name);
    if (wrong !== null) throw invalid(wrong);
    if (!Number.isSafeInteger(initial) || initial < 0 || initial > SEMAPHORE_VALUE_MAX) {
      throw invalid(`semaphore "${name}": initial value ${initial}; give 0 to ${SEMAPHORE_VALUE_MAX}`);
    }
    this.name = name;
    this.#handle = handle;
    this.#initial = initial;
  }

  /** @internal What console.log() shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `Semaphore ${JSON.stringify(this.name)}`;
  }

  /**
   * Takes 1 from the semaphore, waiting until it is above 0. DSM_TIMEOUT after `timeoutMs`. When it is aborted the
   * semaphore is not taken. (If it was granted at the same moment, it is posted again before the promise rejects.)
   */
  wait(options: WaitOptions = {}): Promise<void> {
    return promised(() => this.#wait(options));
  }

  async #wait(options: WaitOptions): Promise<void> {
    const reply = await replyTo(
      this.#handle,
      (channel) => channel.semaphoreWait(this.name, this.#initial, false),
      options,
      () => this.#post(),
    );
    checkSemaphore(reply, this.name, options.timeoutMs);
  }

  /** Like wait(), but blocks the thread. */
  waitSync(options: Pick<WaitOptions, "timeoutMs"> = {}): void {
    const timeoutMs = timeoutOf(options);
    const { library, pointer } = this.#handle;
    const { semaphoreWait, semaphoreTimed } = library.symbols;
    const status =
      timeoutMs === undefined
        ? semaphoreWait(pointer, this.name, this.#initial)
        : semaphoreTimed(pointer, this.name, this.#initial, timeoutMs);
    checkSemaphore(library.outcome(status), this.name, timeoutMs);
  }

  /** Takes 1 from the semaphore if it is above 0: true, else false. */
  tryWait(): Promise<boolean> {
    return promised(async () =>
      isTaken(await replyTo(this.#handle, (channel) => channel.semaphoreWait(this.name, this.#initial, true))),
    );
  }

  /** Like tryWait(), but blocks the thread for the time of one round trip. */
  tryWaitSync(): boolean {
    const { library, pointer } = this.#handle;
    return isTaken(library.outcome(library.symbols.semaphoreTry(pointer, this.name, this.#initial)));
  }

  /**
   * Adds 1, or ends the first wait. Fails with DSM_OVERFLOW above 2147483647. The post has been sent when the call
   * returns; the promise resolves when it is ordered.
   */
  post(): Promise<void> {
    return promised(async () => {
      this.#handle.check();
      await this.#post();
    });
  }

  /** Also while this thread is leaving: it gives back what it was granted. */
  async #post(): Promise<void> {
    check(await this.#handle.synchronise().semaphorePost(this.name, this.#initial));
  }

  /** Like post(), but blocks the thread for the time of one round trip. */
  postSync(): void {
    const { library, pointer } = this.#handle;
    library.check(library.symbols.semaphorePost(pointer, this.name, this.#initial));
  }

  /**
   * Waits, runs `scope` (which may return a promise), and posts in any case. Returns the value of `scope`; if `scope`
   * throws, use() rejects with its error.
   */
  use<Value>(scope: () => Value, options: WaitOptions = {}): Promise<Awaited<Value>> {
    return promised(() => this.#use(scope, options));
  }

  async #use<Value>(scope: () => Value, options: WaitOptions): Promise<Awaited<Value>> {
    await this.#wait(options);
    let value: Awaited<Value>;
    try {
      value = await scope();
    } catch (error) {
      await this.#post().catch(() => {});
      throw error;
    }
    await this.#post();
    return value;
  }

  /** Like use(), but blocks the thread while it waits, and `scope` must not return a promise. */
  useSync<Value>(scope: () => Value, options: Pick<WaitOptions, "timeoutMs"> = {}): Value {
    this.waitSync(options);
    let value: Value;
    try {
      value = scope();
      if (typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function") {
        throw invalid(`semaphore "${this.name}": useSync() was given an async function; call use()`);
      }
    } catch (error) {
      try {
        this.postSync();
      } catch {
        // The error of `scope` says more.
      }
      throw error;
    }
    this.postSync();
    return value;
  }
}
