import { DsmError, Status } from "../core/base/errors.ts";
import { checkName } from "../core/base/names.ts";
import { invalid } from "./config.ts";
import { checkUnlock, isGranted, type LockOutcome, lockOutcome, type Outcome, tryLockOutcome } from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { promised } from "./stack.ts";
import { replyTo, Stop, timeoutOf, type WaitOptions } from "./waiting.ts";

/** How to unlock. */
export interface UnlockOptions {
  /** False: the protected data is still inconsistent after "owner-died". Default: true. */
  mended?: boolean | undefined;
}

/**
 * A lock, identified in the whole session by its name, in all languages. It is granted first come, first served, across
 * nodes and forms (promise or `Sync`); in direct mode others may overtake a process that waits, for about 1 ms. Its owner is a process, whose threads take turns for it, in no particular order:
 * DSM_BUSY if this thread holds it or waits for it already. If the owner dies or leaves, the lock passes to the next
 * process, which gets "owner-died". Any thread of the owner may unlock it: do so when a worker has ended that held it.
 *
 * Every method fails with DSM_LEFT after leaving, DSM_LOST when a process died without leaving and the session does not
 * go on without it (unlocking stays possible), and DSM_UNREACHABLE when this node's arbiter has ended. The `Sync` forms
 * block the whole thread, timers and promises included.
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

  /** @internal What console.log() shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `Lock ${JSON.stringify(this.name)}`;
  }

  /** Takes the lock, waiting until it is free. DSM_TIMEOUT after `timeoutMs`. An aborted call does not take it. */
  lock(options: WaitOptions = {}): Promise<LockOutcome> {
    return promised(() => this.#lock(options));
  }

  async #lock(options: WaitOptions): Promise<LockOutcome> {
    const timeoutMs = timeoutOf(options);
    const stop = new Stop(this.#handle, options.signal);
    stop.check();
    const { threads } = this.#handle;
    // Without a wait in between, if it can be: the request is then sent before this returns.
    const leftMs = threads.tryTurn(this.name)
      ? timeoutMs
      : await this.#handle.wait(() => threads.turn(this.name, timeoutMs, stop));
    const reply = await this.#inTurn(() =>
      replyTo(
        this.#handle,
        (channel) => channel.lock(this.name, false),
        { ...options, timeoutMs: leftMs },
        async () => void (await this.#handle.synchronise().unlock(this.name, true)),
      ),
    );
    return lockOutcome(reply, this.name, timeoutMs);
  }

  /** Like lock(), but blocks the thread. */
  lockSync(options: Pick<WaitOptions, "timeoutMs"> = {}): LockOutcome {
    const timeoutMs = timeoutOf(options);
    const { library, pointer, threads } = this.#handle;
    const { lock, lockTimed } = library.symbols;
    const leftMs = threads.turnSync(this.name, timeoutMs);
    const outcome = this.#inTurnSync(() =>
      library.outcome(leftMs === undefined ? lock(pointer, this.name) : lockTimed(pointer, this.name, leftMs)),
    );
    return lockOutcome(outcome, this.name, timeoutMs);
  }

  /** Takes the lock if it is free, else false. */
  tryLock(): Promise<LockOutcome | false> {
    return promised(async () => {
      this.#handle.check();
      if (!this.#handle.threads.tryTurn(this.name)) return false;
      const reply = await this.#inTurn(() => replyTo(this.#handle, (channel) => channel.lock(this.name, true)));
      return tryLockOutcome(reply, this.name);
    });
  }

  /** Like tryLock(), but blocks the thread for the time of one round trip. */
  tryLockSync(): LockOutcome | false {
    const { library, pointer, threads } = this.#handle;
    if (!threads.tryTurn(this.name)) return false;
    const outcome = this.#inTurnSync(() => library.outcome(library.symbols.lockTry(pointer, this.name)));
    return tryLockOutcome(outcome, this.name);
  }

  /** Asks for the lock, while this thread has the turn for it, and ends the turn unless the lock was granted. */
  async #inTurn<Value extends Outcome>(ask: () => Promise<Value>): Promise<Value> {
    let granted = false;
    try {
      const outcome = await ask();
      granted = isGranted(outcome);
      return outcome;
    } finally {
      if (!granted) this.#handle.threads.giveTurn(this.name);
    }
  }

  #inTurnSync(ask: () => Outcome): Outcome {
    let granted = false;
    try {
      const outcome = ask();
      granted = isGranted(outcome);
      return outcome;
    } finally {
      if (!granted) this.#handle.threads.giveTurn(this.name);
    }
  }

  /**
   * Gives the lock to the first process that waits. `mended: false`: if locking returned "owner-died", the next owner
   * gets it, too. DSM_NOT_OWNER if this process does not hold the lock.
   */
  unlock({ mended = true }: UnlockOptions = {}): Promise<void> {
    return promised(() => this.#unlock(!mended));
  }

  async #unlock(inconsistent: boolean): Promise<void> {
    this.#handle.check();
    const { threads } = this.#handle;
    const channel = this.#handle.synchronise();
    threads.beginUnlock(this.name);
    let isOver = false;
    try {
      const reply = await channel.unlock(this.name, inconsistent);
      isOver = reply.status === Status.OK;
      checkUnlock(reply, this.name);
    } catch (error) {
      isOver ||= isGone(error);
      throw error;
    } finally {
      threads.endUnlock(this.name, isOver);
    }
  }

  /** Like unlock(), but blocks the thread for the time of one round trip. */
  unlockSync({ mended = true }: UnlockOptions = {}): void {
    this.#unlockSync(!mended);
  }

  #unlockSync(inconsistent: boolean): void {
    const { library, pointer, threads } = this.#handle;
    const { unlock, unlockInconsistent } = library.symbols;
    const outcome = library.outcome((inconsistent ? unlockInconsistent : unlock)(pointer, this.name));
    if (outcome.status === Status.OK || outcome.status === Status.UNREACHABLE) threads.giveTurn(this.name);
    checkUnlock(outcome, this.name);
  }

  /**
   * Locks, runs `scope` (which may return a promise) with the outcome of locking, and unlocks in any case. Returns the
   * value of `scope`. If `scope` throws, use() rejects with its error, and if the outcome was "owner-died", the next
   * owner gets it, too.
   */
  use<Value>(scope: (outcome: LockOutcome) => Value, options: WaitOptions = {}): Promise<Awaited<Value>> {
    return promised(() => this.#use(scope, options));
  }

  async #use<Value>(scope: (outcome: LockOutcome) => Value, options: WaitOptions): Promise<Awaited<Value>> {
    const outcome = await this.#lock(options);
    let value: Awaited<Value>;
    try {
      value = await scope(outcome);
    } catch (error) {
      await this.#unlock(true).catch(() => {});
      throw error;
    }
    await this.#unlock(false);
    return value;
  }

  /** Like use(), but blocks the thread while it waits, and `scope` must not return a promise. */
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
  hold(options: WaitOptions = {}): Promise<HeldLock> {
    return promised(async () => {
      const outcome = await this.#lock(options);
      return new HeldLock(outcome, (inconsistent) => this.#unlock(inconsistent));
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

/** Whether nothing can be locked any more: threads that wait for their turn shall hear of it. */
const isGone = (error: unknown): boolean =>
  error instanceof DsmError && (error.code === "DSM_UNREACHABLE" || error.code === "DSM_LEFT");
