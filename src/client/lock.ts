import { DsmError, Status } from "../core/errors.ts";
import { checkName } from "../core/names.ts";
import { invalid } from "./config.ts";
import { checkReply, type Membership } from "./membership.ts";
import { checkTimeout, replyTo, type WaitOptions } from "./waiting.ts";

/** "owner-died": locked, but the last owner died or left while it had the lock: put in order what the lock guards. */
export type LockOutcome = "ok" | "owner-died";

/** How to unlock. */
export interface UnlockOptions {
  /** False: what the lock guards is not in order after "owner-died". Default: true. */
  mended?: boolean | undefined;
}

/**
 * A lock, known to the whole session by its name, whatever language its other processes are written in. Who waits first is served first, whichever node and whichever form
 * (promise or `Sync`) the wait has. It belongs to a process: DSM_BUSY where this process has it or waits for it already.
 * A lock passes on when its owner is gone, and whoever gets it is told.
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
  readonly #membership: Membership;

  /** @internal Use `session.lock()`. */
  constructor(membership: Membership, name: string) {
    const wrong = checkName("lock", name);
    if (wrong !== null) throw invalid(wrong);
    this.name = name;
    this.#membership = membership;
  }

  /** Takes the lock, waiting until it is free. DSM_TIMEOUT after `timeoutMs`. When it is aborted it is not taken. */
  async lock(options: WaitOptions = {}): Promise<LockOutcome> {
    const reply = await replyTo(
      this.#membership,
      (channel) => channel.lock(this.name, false),
      options,
      () => this.#unlock(true),
    );
    if (reply.status === Status.OWNER_DIED) return "owner-died";
    if (reply.status === Status.BUSY) throw this.#isOurs();
    checkReply(reply, this.#timedOut(options.timeoutMs));
    return "ok";
  }

  /** Like lock(), but blocks the program. */
  lockSync(options: Pick<WaitOptions, "timeoutMs"> = {}): LockOutcome {
    const timeoutMs = checkTimeout(options.timeoutMs);
    const { library, pointer } = this.#membership;
    try {
      return library.lock(pointer, this.name, timeoutMs);
    } catch (error) {
      if (error instanceof DsmError && error.code === "DSM_TIMEOUT") {
        throw new DsmError("DSM_TIMEOUT", this.#timedOut(timeoutMs));
      }
      throw error;
    }
  }

  /** Takes the lock if it is free, else false. */
  async tryLock(): Promise<LockOutcome | false> {
    const reply = await replyTo(this.#membership, (channel) => channel.lock(this.name, true));
    if (reply.status === Status.AGAIN) return false;
    if (reply.status === Status.OWNER_DIED) return "owner-died";
    if (reply.status === Status.BUSY) throw this.#isOurs();
    checkReply(reply, "");
    return "ok";
  }

  /** Like tryLock(), but blocks the program for the time of one round trip. */
  tryLockSync(): LockOutcome | false {
    return this.#membership.library.lockTry(this.#membership.pointer, this.name);
  }

  /**
   * Gives the lock to the first who waits. `mended: false`: where locking said "owner-died", the next owner is told, too.
   * DSM_NOT_OWNER when this process does not have it.
   */
  async unlock({ mended = true }: UnlockOptions = {}): Promise<void> {
    await this.#unlock(!mended);
  }

  async #unlock(unmended: boolean): Promise<void> {
    checkReply(await this.#membership.synchronise().unlock(this.name, unmended), "");
  }

  /** Like unlock(), but blocks the program for the time of one round trip. */
  unlockSync({ mended = true }: UnlockOptions = {}): void {
    this.#unlockSync(!mended);
  }

  #unlockSync(unmended: boolean): void {
    this.#membership.library.unlock(this.#membership.pointer, this.name, unmended);
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
    return new HeldLock(outcome, (unmended) => this.#unlock(unmended));
  }

  #isOurs(): DsmError {
    return new DsmError("DSM_BUSY", `this process has lock "${this.name}", or waits for it, already`);
  }

  #timedOut(timeoutMs: number | undefined): string {
    return `lock "${this.name}" was not free within ${timeoutMs} ms`;
  }
}

/** A lock that this process has until the end of the scope. */
export class HeldLock implements AsyncDisposable {
  /** How locking went. */
  readonly outcome: LockOutcome;
  readonly #unlock: (unmended: boolean) => Promise<void>;
  #unmended: boolean;
  #released = false;

  /** @internal Use `lock.hold()`. */
  constructor(outcome: LockOutcome, unlock: (unmended: boolean) => Promise<void>) {
    this.outcome = outcome;
    this.#unlock = unlock;
    this.#unmended = outcome === "owner-died";
  }

  /** What the lock guards is in order again, after "owner-died". */
  mended(): void {
    this.#unmended = false;
  }

  /** Unlocks, unless that was done. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#unlock(this.#unmended);
  }
}
