import { checkName } from "../core/base/names.ts";
import { invalid } from "./config.ts";
import { checkUnlock, type LockOutcome, lockOutcome, tryLockOutcome } from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { checkTimeout, replyTo, type WaitOptions } from "./waiting.ts";

/** How to unlock. */
export interface UnlockOptions {
  /** False: the protected data is still inconsistent after "owner-died". Default: true. */
  mended?: boolean | undefined;
}

/**
 * A lock, identified in the whole session by its name, in all languages. It is granted first come, first served, across
 * nodes and forms (promise or `Sync`). Its owner is a process: DSM_BUSY if this process holds it or waits for it
 * already. If the owner dies or leaves, the lock passes to the next process, which gets "owner-died".
 *
 * Every method fails with DSM_LEFT after leaving, DSM_LOST when a process died without leaving and the session does not
 * go on without it (unlocking stays possible), and DSM_UNREACHABLE when this node's arbiter has ended. The `Sync` forms
 * block the whole program, timers and promises included.
 *
 * Locking and unlocking are synchronising operations: under the order `release` each first publishes what this process
 * has stored.
 */
export class Lock {
  /** Its name in the session. */
  readonly name: string;
  readonly #handle: SessionHandle;

  /** @internal Use `session.lock()`. */
  constructor(handle: SessionHandle, name: string) {
    const wrong = checkName("lock", name);
    if (wrong !== null) throw invalid(wrong);
    this.name = name;
    this.#handle = handle;
  }

  /** Takes the lock, waiting until it is free. DSM_TIMEOUT after `timeoutMs`. An aborted call does not take it. */
  async lock(options: WaitOptions = {}): Promise<LockOutcome> {
    const reply = await replyTo(
      this.#handle,
      (channel) => channel.lock(this.name, false),
      options,
      () => this.#unlock(true),
    );
    return lockOutcome(reply, this.name, options.timeoutMs);
  }

  /** Like lock(), but blocks the program. */
  lockSync(options: Pick<WaitOptions, "timeoutMs"> = {}): LockOutcome {
    const timeoutMs = checkTimeout(options.timeoutMs);
    const { library, pointer } = this.#handle;
    const { lock, lockTimed } = library.symbols;
    const status = timeoutMs === undefined ? lock(pointer, this.name) : lockTimed(pointer, this.name, timeoutMs);
    return lockOutcome(library.outcome(status), this.name, timeoutMs);
  }

  /** Takes the lock if it is free, else false. */
  async tryLock(): Promise<LockOutcome | false> {
    const reply = await replyTo(this.#handle, (channel) => channel.lock(this.name, true));
    return tryLockOutcome(reply, this.name);
  }

  /** Like tryLock(), but blocks the program for the time of one round trip. */
  tryLockSync(): LockOutcome | false {
    const { library, pointer } = this.#handle;
    return tryLockOutcome(library.outcome(library.symbols.lockTry(pointer, this.name)), this.name);
  }

  /**
   * Gives the lock to the first process that waits. `mended: false`: if locking returned "owner-died", the next owner
   * gets it, too. DSM_NOT_OWNER if this process does not hold the lock.
   */
  async unlock({ mended = true }: UnlockOptions = {}): Promise<void> {
    await this.#unlock(!mended);
  }

  async #unlock(inconsistent: boolean): Promise<void> {
    checkUnlock(await this.#handle.synchronise().unlock(this.name, inconsistent), this.name);
  }

  /** Like unlock(), but blocks the program for the time of one round trip. */
  unlockSync({ mended = true }: UnlockOptions = {}): void {
    this.#unlockSync(!mended);
  }

  #unlockSync(inconsistent: boolean): void {
    const { library, pointer } = this.#handle;
    const { unlock, unlockInconsistent } = library.symbols;
    checkUnlock(library.outcome((inconsistent ? unlockInconsistent : unlock)(pointer, this.name)), this.name);
  }

  /**
   * Locks, runs `scope` (which may return a promise) with the outcome of locking, and unlocks in any case. Returns the
   * value of `scope`. If `scope` throws, use() rejects with its error, and if the outcome was "owner-died", the next
   * owner gets it, too.
   */
  async use<Value>(scope: (outcome: LockOutcome) => Value, options: WaitOptions = {}): Promise<Awaited<Value>> {
    const outcome = await this.lock(options);
    let value: Awaited<Value>;
    try {
      value = await scope(outcome);
    } catch (error) {
      await this.#unlock(true).catch(() => {});
      throw error;
    }
    await this.unlock();
    return value;
  }

  /** Like use(), but blocks the program while it waits, and `scope` must not return a promise. */
  useSync<Value>(scope: (outcome: LockOutcome) => Value, options: Pick<WaitOptions, "timeoutMs"> = {}): Value {
    const outcome = this.lockSync(options);
    let value: Value;
    try {
      value = scope(outcome);
      if (typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function") {
        throw invalid(`lock "${this.name}": useSync() was given an async function; call use()`);
      }
    } catch (error) {
      try {
        this.#unlockSync(true);
      } catch {
        // The error of `scope` says more.
      }
      throw error;
    }
    this.unlockSync();
    return value;
  }

  /**
   * Locks until the end of the scope: `await using held = await lock.hold()`. Like lock(), and unlocks at the end, also
   * when an error ends the scope. If `held.outcome` is "owner-died", call `held.mended()` once the protected data is
   * consistent again; without it the next owner gets "owner-died", too.
   */
  async hold(options: WaitOptions = {}): Promise<HeldLock> {
    const outcome = await this.lock(options);
    return new HeldLock(outcome, (inconsistent) => this.#unlock(inconsistent));
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
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#unlock(this.#inconsistent);
  }
}
