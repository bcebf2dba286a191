/** What semaphores have in common: the promise and Sync forms over the calls of each kind. */
import { DsmError, Status } from "../core/base/errors.ts";
import type { Channel, Reply, Request } from "./channel.ts";
import { invalid } from "./config.ts";
import { check, checkSemaphore, isTaken } from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { promised } from "./stack.ts";
import { replyTo, timeoutOf, type WaitOptions } from "./waiting.ts";

/** The calls of one kind of semaphore. The Sync forms return a status of libdsm. */
export interface SemaphoreCalls {
  /** It, for messages, such as `semaphore "a"`. */
  readonly label: string;
  request(channel: Channel, tryOnly: boolean): Request;
  requestPost(channel: Channel): Promise<Reply>;
  waitSync(timeoutMs: number | undefined): number;
  tryWaitSync(): number;
  postSync(): number;
  /** Without a request. False: nothing was done. */
  waitAtOnce(): boolean;
  postAtOnce(): boolean;
  /** An answer says which cell the node uses for it. */
  learn(cell: number): void;
}

/** A semaphore: `Semaphore` or `MapSemaphore`. */
export class SemaphoreForms {
  readonly #handle: SessionHandle;
  readonly #calls: SemaphoreCalls;

  /** @internal */
  constructor(handle: SessionHandle, calls: SemaphoreCalls) {
    this.#handle = handle;
    this.#calls = calls;
  }

  /**
   * Takes 1 from the semaphore, waiting until it is above 0. DSM_TIMEOUT after `timeoutMs`. When it is aborted the
   * semaphore is not taken. (If it was granted at the same moment, it is posted again before the promise rejects.)
   */
  wait(options: WaitOptions = {}): Promise<void> {
    return this.#waitAtOnce(options) ? this.#handle.turn(undefined) : promised(() => this.#wait(options));
  }

  /** Waits if that needs no request. False also where the call is wrong: the ordinary way says so. */
  #waitAtOnce(options: WaitOptions): boolean {
    try {
      timeoutOf(options);
      // An abort before the promise resolves must find nothing taken.
      return options.signal === undefined && this.#calls.waitAtOnce();
    } catch (error) {
      if (error instanceof DsmError) return false;
      throw error;
    }
  }

  async #wait(options: WaitOptions): Promise<void> {
    const reply = await replyTo(
      this.#handle,
      (channel) => this.#calls.request(channel, false),
      options,
      () => this.#post(),
    );
    this.#learn(reply);
    checkSemaphore(reply, this.#calls.label, options.timeoutMs);
  }

  #learn({ status, value }: Reply): void {
    if (status === Status.OK && value > 0 && !this.#handle.left) this.#calls.learn(value);
  }

  /** Like wait(), but blocks the thread. */
  waitSync(options: Pick<WaitOptions, "timeoutMs"> = {}): void {
    const timeoutMs = timeoutOf(options);
    const outcome = this.#handle.library.outcome(this.#calls.waitSync(timeoutMs));
    checkSemaphore(outcome, this.#calls.label, timeoutMs);
  }

  /** Takes 1 from the semaphore if it is above 0: true, else false. */
  tryWait(): Promise<boolean> {
    if (this.#waitAtOnce({})) return this.#handle.turn(true);
    return promised(async () => {
      const reply = await replyTo(this.#handle, (channel) => this.#calls.request(channel, true));
      this.#learn(reply);
      return isTaken(reply);
    });
  }

  /** Like tryWait(), but blocks the thread for the time of one round trip. */
  tryWaitSync(): boolean {
    return isTaken(this.#handle.library.outcome(this.#calls.tryWaitSync()));
  }

  /**
   * Adds 1, or ends the first wait. Fails with DSM_OVERFLOW above 2147483647. The post has been sent when the call
   * returns; the promise resolves when it is ordered.
   */
  post(): Promise<void> {
    if (this.#postAtOnce()) return this.#handle.turn(undefined);
    return promised(async () => {
      this.#handle.check();
      await this.#post();
    });
  }

  #postAtOnce(): boolean {
    try {
      return this.#calls.postAtOnce();
    } catch (error) {
      if (error instanceof DsmError) return false;
      throw error;
    }
  }

  /** Also while this thread is leaving: it gives back what it was granted. */
  async #post(): Promise<void> {
    const reply = await this.#calls.requestPost(this.#handle.synchronise());
    this.#learn(reply);
    check(reply);
  }

  /** Like post(), but blocks the thread for the time of one round trip. */
  postSync(): void {
    this.#handle.library.check(this.#calls.postSync());
  }

  /**
   * Waits, runs `scope` (which may return a promise), and posts in any case. Returns the value of `scope`; if `scope`
   * throws, use() rejects with its error.
   */
  use<Value>(scope: () => Value, options: WaitOptions = {}): Promise<Awaited<Value>> {
    return this.#waitAtOnce(options)
      ? this.#run(scope, this.#handle.turn(undefined))
      : promised(() => this.#run(scope, this.#wait(options)));
  }

  async #run<Value>(scope: () => Value, taken: Promise<void>): Promise<Awaited<Value>> {
    await taken;
    let value: Awaited<Value>;
    try {
      value = await scope();
    } catch (error) {
      await this.#post().catch(() => {});
      throw error;
    }
    if (!this.#postAtOnce()) await promised(() => this.#post());
    return value;
  }

  /** Like use(), but blocks the thread while it waits, and `scope` must not return a promise. */
  useSync<Value>(scope: () => Value, options: Pick<WaitOptions, "timeoutMs"> = {}): Value {
    this.waitSync(options);
    let value: Value;
    try {
      value = scope();
      if (typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function") {
        throw invalid(`${this.#calls.label}: useSync() was given an async function; call use()`);
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
