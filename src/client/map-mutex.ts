/** Mutexes and condition variables that lie in the map. */
import { Status } from "../core/base/errors.ts";
import { objectName } from "../core/base/names.ts";
import type { Channel, Reply, Request } from "./channel.ts";
import { invalid } from "./config.ts";
import { Lockable, type LockCalls } from "./lockable.ts";
import { MapPlace, type ObjectPlace } from "./map-place.ts";
import {
  asksForObject,
  type CondOutcome,
  check,
  checkObjectUnlock,
  condOutcome,
  hasMutexAfter,
  hasObject,
  type LockOutcome,
  lacksObject,
  objectOutcome,
  tryObjectOutcome,
} from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { promised } from "./stack.ts";
import { replyTo, timeoutOf, type WaitOptions } from "./waiting.ts";

const ALL = 0xffffffff;

let placeOf: (mutex: MapMutex) => MapPlace;

/**
 * A mutex that lies in the map: 64 bytes at a multiple of 64, `dsm_mutex` in C. It needs no name, and a session may have
 * any number. Zero bytes are a free mutex. Its order and what it publishes are those of a `Lock`.
 *
 * It belongs to a thread: DSM_BUSY if this thread has it, or waits for it, already; DSM_NOT_OWNER if another thread
 * unlocks it. A thread that ends does not unlock it; one that leaves alone does. If the owner's process dies or leaves, the mutex
 * passes to the next thread, which gets "owner-died".
 *
 * Fails as `Lock` does, and with DSM_INVALID where its block was freed while the call waited.
 */
export class MapMutex extends Lockable {
  static {
    placeOf = (mutex) => mutex.#place;
  }
  readonly #place: MapPlace;

  /** @internal Use `session.mutexAt()`. */
  constructor(handle: SessionHandle, where: ObjectPlace) {
    const place = new MapPlace(handle, "mutex", where);
    super(handle, new MutexCalls(place));
    this.#place = place;
  }

  /** Its first byte in the map. */
  get offset(): number {
    return this.#place.offset;
  }

  /** @internal What console.log() shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `MapMutex at ${this.offset}`;
  }
}

class MutexCalls implements LockCalls {
  readonly label: string;
  readonly #place: MapPlace;
  readonly #handle: SessionHandle;
  readonly #name: string;

  constructor(place: MapPlace) {
    this.label = place.label;
    this.#place = place;
    this.#handle = place.handle;
    this.#name = objectName("mutex", place.offset);
    if (this.#handle.mayLeaveAlone) this.#handle.objects.mutexes.add(place.offset);
  }

  /** Whether a promise of this thread waits for it. */
  get #isAsked(): boolean {
    return this.#handle.objects.asked.has(this.#place.offset);
  }

  async lock(options: WaitOptions): Promise<LockOutcome> {
    const giveBack = async (): Promise<void> => void (await this.#handle.synchronise().unlock(this.#name, true));
    const reply = await this.#ask((channel) => channel.lock(this.#name, false), options, giveBack);
    return this.#granted(reply, objectOutcome(reply, this.label, options.timeoutMs));
  }

  async tryLock(): Promise<LockOutcome | false> {
    const reply = await this.#ask(
      (channel) => channel.lock(this.#name, true),
      {},
      () => {},
    );
    const outcome = tryObjectOutcome(reply, this.label);
    return outcome && this.#granted(reply, outcome);
  }

  async #ask(
    start: (channel: Channel) => Request,
    options: WaitOptions,
    giveBack: () => void | Promise<void>,
  ): Promise<Reply> {
    this.#handle.check();
    const { objects, library } = this.#handle;
    const { address, offset } = this.#place;
    if (library.symbols.objectCheck(address) === Status.BUSY) throw hasObject(this.label);
    if (this.#isAsked) throw asksForObject(this.label);
    objects.asked.add(offset);
    try {
      return await replyTo(this.#handle, start, options, giveBack);
    } finally {
      objects.asked.delete(offset);
    }
  }

  #granted({ value }: Reply, outcome: LockOutcome): LockOutcome {
    const { library } = this.#handle;
    library.check(library.symbols.mutexGranted(this.#place.address, outcome === "ok" ? value : 0));
    return outcome;
  }

  lockSync(timeoutMs: number | undefined): LockOutcome {
    this.#handle.check();
    const { library, objects } = this.#handle;
    const { address, offset } = this.#place;
    // The answer to the promise could not be read meanwhile.
    if (this.#isAsked || objects.conditions.of(offset) > 0) throw asksForObject(this.label);
    const { mutexLock, mutexTimed } = library.symbols;
    const status = timeoutMs === undefined ? mutexLock(address) : mutexTimed(address, timeoutMs);
    return objectOutcome(library.outcome(status), this.label, timeoutMs);
  }

  tryLockSync(): LockOutcome | false {
    this.#handle.check();
    const { library } = this.#handle;
    if (this.#isAsked) throw asksForObject(this.label);
    return tryObjectOutcome(library.outcome(library.symbols.mutexTry(this.#place.address)), this.label);
  }

  lockAtOnce(): LockOutcome | false {
    this.#handle.check();
    if (this.#isAsked) return false;
    const status = this.#handle.library.symbols.mutexAtOnce(this.#place.address);
    return status === Status.OK ? "ok" : status === Status.OWNER_DIED ? "owner-died" : false;
  }

  async unlock(inconsistent: boolean): Promise<void> {
    this.#handle.check();
    const { symbols } = this.#handle.library;
    const channel = this.#handle.synchronise();
    // Before the request: another promise of this thread may have it next.
    if (symbols.objectDisown(this.#place.address) !== Status.OK) throw lacksObject(this.label);
    let reply: Reply;
    try {
      reply = await channel.unlock(this.#name, inconsistent);
    } catch (error) {
      // Also where it was not sent: then this thread has the mutex.
      symbols.objectOwn(this.#place.address);
      throw error;
    }
    checkObjectUnlock(reply, this.label);
  }

  unlockSync(inconsistent: boolean): void {
    this.#handle.check();
    const { library } = this.#handle;
    const { mutexUnlock, mutexUnlockInconsistent } = library.symbols;
    const status = (inconsistent ? mutexUnlockInconsistent : mutexUnlock)(this.#place.address);
    checkObjectUnlock(library.outcome(status), this.label);
  }

  unlockAtOnce(): boolean {
    this.#handle.check();
    return this.#handle.library.symbols.mutexUnlockAtOnce(this.#place.address) === Status.OK;
  }
}

/**
 * A condition variable that lies in the map: 64 bytes at a multiple of 64, `dsm_cond` in C. It wakes those who wait first
 * come, first served, on any node. Zero bytes are one that no thread waits for.
 *
 * ```ts
 * await shared.guard.use(async () => {
 *   while (shared.length === 0) await shared.filled.wait(shared.guard);
 *   shared.length -= 1;
 * });
 * ```
 */
export class MapCond {
  readonly #place: MapPlace;

  /** @internal Use `session.condAt()`. */
  constructor(handle: SessionHandle, where: ObjectPlace) {
    this.#place = new MapPlace(handle, "condition variable", where);
  }

  /** Its first byte in the map. */
  get offset(): number {
    return this.#place.offset;
  }

  /** @internal What console.log() shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `MapCond at ${this.offset}`;
  }

  /**
   * Unlocks the mutex and waits until it is signalled, as one step, and locks the mutex again: "ok"; "timed-out" after
   * `timeoutMs`; "owner-died" if the mutex passed on because its owner died. An aborted call rejects with the signal's
   * reason. In all these cases this thread has the mutex again. Check the condition after each.
   *
   * DSM_NOT_OWNER: this thread does not have the mutex; DSM_LIMIT: too many wait; nothing was done then. With DSM_LOST,
   * DSM_LEFT and DSM_INVALID (a block was freed) this thread does not have the mutex.
   */
  wait(mutex: MapMutex, options: WaitOptions = {}): Promise<CondOutcome> {
    return promised(() => this.#wait(mutex, options));
  }

  async #wait(mutex: MapMutex, options: WaitOptions): Promise<CondOutcome> {
    const guard = this.#guard(mutex);
    const reply = await replyTo(
      this.#place.handle,
      (channel) => this.#begin(channel, guard),
      options,
      // A signal that came when it was aborted would be lost.
      null,
    );
    return condOutcome(reply, guard.label);
  }

  /** The thread has the mutex again as soon as the answer is here, before any promise of it goes on. */
  #begin(channel: Channel, { address, offset, label }: MapPlace): Request {
    const { library, objects } = this.#place.handle;
    const { objectDisown, objectOwn } = library.symbols;
    if (objectDisown(address) !== Status.OK) throw lacksObject(label);
    let request: Request;
    try {
      request = channel.condWait(this.offset, objectName("mutex", offset));
    } catch (error) {
      objectOwn(address);
      throw error;
    }
    objects.conditions.add(offset);
    const reply = request.reply.then((answer) => {
      if (hasMutexAfter(answer)) objectOwn(address);
      return answer;
    });
    return { cancel: request.cancel, reply: reply.finally(() => objects.conditions.remove(offset)) };
  }

  #guard(mutex: MapMutex): MapPlace {
    this.#place.handle.check();
    if (!(mutex instanceof MapMutex)) throw invalid("wait() was given no mutex that lies in the map; give a MapMutex");
    const guard = placeOf(mutex);
    if (guard.handle !== this.#place.handle) {
      throw invalid("the condition variable and the mutex are in maps of different sessions");
    }
    return guard;
  }

  /** Like wait(), but blocks the whole thread, timers and promises included. */
  waitSync(mutex: MapMutex, options: Pick<WaitOptions, "timeoutMs"> = {}): CondOutcome {
    const timeoutMs = timeoutOf(options);
    const guard = this.#guard(mutex);
    const { library } = this.#place.handle;
    const { condWait, condTimed } = library.symbols;
    const { address } = this.#place;
    const status =
      timeoutMs === undefined ? condWait(address, guard.address) : condTimed(address, guard.address, timeoutMs);
    return condOutcome(library.outcome(status), guard.label);
  }

  /** Lets the first that waits go on. The mutex need not be locked. */
  signal(): Promise<void> {
    return promised(() => this.#signal(1));
  }

  /** Lets all that wait go on. */
  broadcast(): Promise<void> {
    return promised(() => this.#signal(ALL));
  }

  async #signal(count: number): Promise<void> {
    this.#place.handle.check();
    check(await this.#place.handle.synchronise().condSignal(this.offset, count));
  }

  /** Like signal(), but blocks the thread for the time of one round trip. */
  signalSync(): void {
    this.#place.handle.check();
    const { library } = this.#place.handle;
    library.check(library.symbols.condSignal(this.#place.address));
  }

  /** Like broadcast(), but blocks the thread for the time of one round trip. */
  broadcastSync(): void {
    this.#place.handle.check();
    const { library } = this.#place.handle;
    library.check(library.symbols.condBroadcast(this.#place.address));
  }
}
