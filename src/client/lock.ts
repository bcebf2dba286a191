import { DsmError, Status } from "../core/base/errors.ts";
import { checkName } from "../core/base/names.ts";
import { invalid } from "./config.ts";
import { Lockable, type LockCalls } from "./lockable.ts";
import { checkUnlock, isGranted, type LockOutcome, lockOutcome, type Outcome, tryLockOutcome } from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { replyTo, Stop, timeoutOf, type WaitOptions } from "./waiting.ts";

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
export class Lock extends Lockable {
  /** Its name in the session. */
  readonly name: string;

  /** @internal Use `session.lock()`. */
  constructor(handle: SessionHandle, name: string) {
    const wrong = checkName("lock", name);
    if (wrong !== null) throw invalid(wrong);
    super(handle, new NamedLockCalls(handle, name));
    this.name = name;
  }

  /** @internal What console.log() shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `Lock ${JSON.stringify(this.name)}`;
  }
}

class NamedLockCalls implements LockCalls {
  readonly label: string;
  readonly #name: string;
  readonly #handle: SessionHandle;

  constructor(handle: SessionHandle, name: string) {
    this.label = `lock "${name}"`;
    this.#name = name;
    this.#handle = handle;
  }

  async lock(options: WaitOptions): Promise<LockOutcome> {
    const timeoutMs = timeoutOf(options);
    const name = this.#name;
    const stop = new Stop(this.#handle, options.signal);
    stop.check();
    const { threads } = this.#handle;
    // Without a wait in between, if it can be: the request is then sent before this returns.
    const leftMs = threads.tryTurn(name)
      ? timeoutMs
      : await this.#handle.wait(() => threads.turn(name, timeoutMs, stop));
    const reply = await this.#inTurn(() =>
      replyTo(
        this.#handle,
        (channel) => channel.lock(name, false),
        { ...options, timeoutMs: leftMs },
        async () => void (await this.#handle.synchronise().unlock(name, true)),
      ),
    );
    this.#learn(reply);
    return lockOutcome(reply, name, timeoutMs);
  }

  lockSync(timeoutMs: number | undefined): LockOutcome {
    const locked = this.lockAtOnce();
    if (locked !== false) return locked;
    const { library, pointer, threads } = this.#handle;
    const { lock, lockTimed } = library.symbols;
    const name = this.#name;
    const leftMs = threads.turnSync(name, timeoutMs);
    const outcome = this.#inTurnSync(() =>
      library.outcome(leftMs === undefined ? lock(pointer, name) : lockTimed(pointer, name, leftMs)),
    );
    return lockOutcome(outcome, name, timeoutMs);
  }

  async tryLock(): Promise<LockOutcome | false> {
    this.#handle.check();
    if (!this.#handle.threads.tryTurn(this.#name)) return false;
    const reply = await this.#inTurn(() => replyTo(this.#handle, (channel) => channel.lock(this.#name, true)));
    this.#learn(reply);
    return tryLockOutcome(reply, this.#name);
  }

  tryLockSync(): LockOutcome | false {
    const { library, pointer, threads } = this.#handle;
    if (!threads.tryTurn(this.#name)) return false;
    const outcome = this.#inTurnSync(() => library.outcome(library.symbols.lockTry(pointer, this.#name)));
    return tryLockOutcome(outcome, this.#name);
  }

  lockAtOnce(): LockOutcome | false {
    const { library, pointer, threads } = this.#handle;
    // An UNLOCK that is under way keeps the turn until it is answered; a request comes after it.
    if (threads.isUnlocking(this.#name) || !threads.tryTurn(this.#name)) return false;
    const status = library.symbols.lockAtOnce(pointer, this.#name);
    if (status === Status.OK) return "ok";
    if (status === Status.OWNER_DIED) return "owner-died";
    threads.giveTurn(this.#name);
    return false;
  }

  /** An answer says which cell the node uses for the lock: then the next call may need no request. */
  #learn({ status, value }: Outcome & { value: number }): void {
    const { library, pointer } = this.#handle;
    if (status === Status.OK && value > 0) library.symbols.lockGranted(pointer, this.#name, value);
  }

  /** Asks for the lock, while this thread has the turn for it, and ends the turn unless the lock was granted. */
  async #inTurn<Value extends Outcome>(ask: () => Promise<Value>): Promise<Value> {
    let granted = false;
    try {
      const outcome = await ask();
      granted = isGranted(outcome);
      return outcome;
    } finally {
      if (!granted) this.#handle.threads.giveTurn(this.#name);
    }
  }

  #inTurnSync(ask: () => Outcome): Outcome {
    let granted = false;
    try {
      const outcome = ask();
      granted = isGranted(outcome);
      return outcome;
    } finally {
      if (!granted) this.#handle.threads.giveTurn(this.#name);
    }
  }

  async unlock(inconsistent: boolean): Promise<void> {
    const name = this.#name;
    this.#handle.check();
    const { threads } = this.#handle;
    const channel = this.#handle.synchronise();
    threads.beginUnlock(name);
    let isOver = false;
    try {
      const reply = await channel.unlock(name, inconsistent);
      isOver = reply.status === Status.OK;
      checkUnlock(reply, name);
    } catch (error) {
      isOver ||= isGone(error);
      throw error;
    } finally {
      threads.endUnlock(name, isOver);
    }
  }

  unlockSync(inconsistent: boolean): void {
    const { library, pointer, threads } = this.#handle;
    const { unlock, unlockInconsistent } = library.symbols;
    const outcome = library.outcome((inconsistent ? unlockInconsistent : unlock)(pointer, this.#name));
    if (outcome.status === Status.OK || outcome.status === Status.UNREACHABLE) threads.giveTurn(this.#name);
    checkUnlock(outcome, this.#name);
  }

  unlockAtOnce(): boolean {
    const { library, pointer, threads } = this.#handle;
    if (library.symbols.unlockAtOnce(pointer, this.#name) !== Status.OK) return false;
    threads.giveTurn(this.#name);
    return true;
  }
}

/** Whether nothing can be locked any more: threads that wait for their turn shall hear of it. */
const isGone = (error: unknown): boolean =>
  error instanceof DsmError && (error.code === "DSM_UNREACHABLE" || error.code === "DSM_LEFT");
