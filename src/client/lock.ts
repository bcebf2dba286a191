import { checkName } from "../core/base/names.ts";
import { invalid } from "./config.ts";
import { checkUnlock, type LockOutcome, lockOutcome, tryLockOutcome } from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { checkTimeout, replyTo, type WaitOptions } from "./waiting.ts";

/** How to unlock. */
export interface UnlockOptions {
  /** False: what the lock guards is not in order after "owner-died". Default: true. */
  mended?: boolean | undefined;
}

/**
 * A lock, known to the whole session by its name, whatever language its other processes are written in. It is granted
 * first come, first served, across nodes and forms (promise or `Sync`). It belongs to a process: DSM_BUSY where this
 * process has it or waits for it already. A lock passes on when its owner is gone, and the next owner is told.
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

  /** Takes the lock, waiting until it is free. DSM_TIMEOUT after `timeoutMs`. When it is aborted it is not taken. */
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
   * Gives the lock to the first process that waits. `mended: false`: where locking said "owner-died", the next owner is told, too.
   * DSM_NOT_OWNER when this process does not have it.
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
   * Locks, runs `scope` (which may return a promise) with how that went, and unlocks in any case. The value is that of
   * `scope`; if `scope` throws, its error is the one you get, and where it was told "owner-died" the next owner is, too.
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
   * when the scope is left by an error. Where `held.outcome` is "owner-died" call `held.mended()` once what the lock guards
   * is in order again; without it the next owner is told, too.
   */
  async hold(options: WaitOptions = {}): Promise<HeldLock> {
    const outcome = await this.lock(options);
    return new HeldLock(outcome, (inconsistent) => this.#unlock(inconsistent));
  }
}

/** A lock that this process has until the end of the scope. */
export class HeldLock implements AsyncDisposable {
  /** How locking went. */
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

  /** What the lock guards is in order again, after "owner-died". */
  mended(): void {
    this.#inconsistent = false;
  }

  /** The same as `mended()`, under the name that POSIX has for it (`pthread_mutex_consistent`). */
  markConsistent(): void {
    this.mended();
  }

  /** Unlocks, unless that was done. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#unlock(this.#inconsistent);
  }
}
