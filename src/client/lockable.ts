/** What all locks have in common: scopes, and the promise and Sync forms over the calls of each kind. */
import { DsmError } from "../core/base/errors.ts";
import { invalid } from "./config.ts";
import type { LockOutcome } from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { promised } from "./stack.ts";
import { timeoutOf, type WaitOptions } from "./waiting.ts";

/** How to unlock. */
export interface UnlockOptions {
  /** False: the protected data is still inconsistent after "owner-died". Default: true. */
  mended?: boolean | undefined;
}

/** The calls of one kind of lock. `inconsistent`: the next owner gets "owner-died", if this one did. */
export interface LockCalls {
  /** It, for messages, such as `lock "a"`. */
  readonly label: string;
  lock(options: WaitOptions): Promise<LockOutcome>;
  lockSync(timeoutMs: number | undefined): LockOutcome;
  tryLock(): Promise<LockOutcome | false>;
  tryLockSync(): LockOutcome | false;
  unlock(inconsistent: boolean): Promise<void>;
  unlockSync(inconsistent: boolean): void;
  /** Locks without a request. False, or an error: nothing was done, and lock() says why. */
  lockAtOnce(): LockOutcome | false;
  /** Unlocks without a request. False: nothing was done, or unlock() must do the rest. */
  unlockAtOnce(): boolean;
}

/** A lock: `Lock`, `MapMutex`, or a side of a `MapRwlock`. */
export class Lockable {
  readonly #handle: SessionHandle;
  readonly #calls: LockCalls;

  /** @internal */
  constructor(handle: SessionHandle, calls: LockCalls) {
    this.#handle = handle;
    this.#calls = calls;
  }

  /** Takes the lock, waiting until it is free. DSM_TIMEOUT after `timeoutMs`. An aborted call does not take it. */
  lock(options: WaitOptions = {}): Promise<LockOutcome> {
    const outcome = this.#lockAtOnce(options);
    return outcome === false ? promised(() => this.#calls.lock(options)) : this.#handle.turn(outcome);
  }

  /** Locks if that needs no request. False also where the call is wrong: the ordinary way says so. */
  #lockAtOnce(options: WaitOptions): LockOutcome | false {
    try {
      timeoutOf(options);
      // An abort before the promise resolves must find nothing taken.
      return options.signal === undefined && this.#calls.lockAtOnce();
    } catch (error) {
      if (error instanceof DsmError) return false;
      throw error;
    }
  }

  /** Like lock(), but blocks the thread. */
  lockSync(options: Pick<WaitOptions, "timeoutMs"> = {}): LockOutcome {
    return this.#calls.lockSync(timeoutOf(options));
  }

  /** Takes the lock if it is free, else false. */
  tryLock(): Promise<LockOutcome | false> {
    const outcome = this.#lockAtOnce({});
    return outcome === false ? promised(() => this.#calls.tryLock()) : this.#handle.turn(outcome);
  }

  /** Like tryLock(), but blocks the thread for the time of one round trip. */
  tryLockSync(): LockOutcome | false {
    return this.#calls.tryLockSync();
  }

  /**
   * Gives the lock to the first process that waits. `mended: false`: if locking returned "owner-died", the next owner
   * gets it, too. DSM_NOT_OWNER for a lock that is not held.
   */
  unlock({ mended = true }: UnlockOptions = {}): Promise<void> {
    return mended && this.#unlockAtOnce() ? this.#handle.turn(undefined) : promised(() => this.#calls.unlock(!mended));
  }

  #unlockAtOnce(): boolean {
    try {
      return this.#calls.unlockAtOnce();
    } catch (error) {
      if (error instanceof DsmError) return false;
      throw error;
    }
  }

  /** Like unlock(), but blocks the thread for the time of one round trip. */
  unlockSync({ mended = true }: UnlockOptions = {}): void {
    this.#calls.unlockSync(!mended);
  }

  /**
   * Locks, runs `scope` (which may return a promise) with the outcome of locking, and unlocks in any case. Returns the
   * value of `scope`. If `scope` throws, use() rejects with its error, and if the outcome was "owner-died", the next
   * owner gets it, too.
   */
  use<Value>(scope: (outcome: LockOutcome) => Value, options: WaitOptions = {}): Promise<Awaited<Value>> {
    const outcome = this.#lockAtOnce(options);
    return outcome === false
      ? promised(() => this.#run(scope, this.#calls.lock(options)))
      : this.#run(scope, this.#handle.turn(outcome));
  }

  async #run<Value>(scope: (outcome: LockOutcome) => Value, locked: Promise<LockOutcome>): Promise<Awaited<Value>> {
    const outcome = await locked;
    let value: Awaited<Value>;
    try {
      value = await scope(outcome);
    } catch (error) {
      await this.#calls.unlock(true).catch(() => {});
      throw error;
    }
    if (!this.#unlockAtOnce()) await promised(() => this.#calls.unlock(false));
    return value;
  }

  /** Like use(), but blocks the thread while it waits, and `scope` must not return a promise. */
  useSync<Value>(scope: (outcome: LockOutcome) => Value, options: Pick<WaitOptions, "timeoutMs"> = {}): Value {
    const outcome = this.lockSync(options);
    let value: Value;
    try {
      value = scope(outcome);
      if (typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function") {
        throw invalid(`${this.#calls.label}: useSync() was given an async function; call use()`);
      }
    } catch (error) {
      try {
        this.#calls.unlockSync(true);
      } catch {
        // The error of `scope` says more.
      }
      throw error;
    }
    this.#calls.unlockSync(false);
    return value;
  }

  /**
   * Locks until the end of the scope: `await using held = await lock.hold()`. Like lock(), and unlocks at the end, also
   * when an error ends the scope. If `held.outcome` is "owner-died", call `held.mended()` once the protected data is
   * consistent again; without it the next owner gets "owner-died", too.
   */
  hold(options: WaitOptions = {}): Promise<HeldLock> {
    return promised(async () => {
      const outcome = await this.lock(options);
      return new HeldLock(outcome, (inconsistent) => this.unlock({ mended: !inconsistent }));
    });
  }
}

/** A lock that this process holds until the end of the scope. */
export class HeldLock implements AsyncDisposable {
  /** The outcome of locking. */
  readonly outcome: LockOutcome;
  readonly #unlock: (inconsistent: boolean) => Promise<void>;
  #inconsistent: boolean;
  #released = false;

  /** @internal Use `lock.hold()`. */
  constructor(outcome: LockOutcome, unlock: (inconsistent: boolean) => Promise<void>) {
    this.outcome = outcome;
    this.#unlock = unlock;
    this.#inconsistent = outcome === "owner-died";
  }

  /** Declares the protected data consistent again, after "owner-died". */
  mended(): void {
    this.#inconsistent = false;
  }

  /** The same as `mended()`, under the name that POSIX has for it (`pthread_mutex_consistent`). */
  markConsistent(): void {
    this.mended();
  }

  /** Unlocks, unless it was unlocked before. */
  [Symbol.asyncDispose](): Promise<void> {
    return promised(async () => {
      if (this.#released) return;
      this.#released = true;
      await this.#unlock(this.#inconsistent);
    });
  }
}
