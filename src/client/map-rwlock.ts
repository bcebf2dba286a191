/** Reader-writer locks that lie in the map. */
import { Status } from "../core/base/errors.ts";
import type { Channel, Reply, Request } from "./channel.ts";
import { Lockable, type LockCalls } from "./lockable.ts";
import { MapPlace, type ObjectPlace } from "./map-place.ts";
import {
  asksForObject,
  checkObjectUnlock,
  hasObject,
  type LockOutcome,
  lacksObject,
  type Outcome,
  objectOutcome,
  tryObjectOutcome,
} from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { replyTo, type WaitOptions } from "./waiting.ts";

/**
 * A reader-writer lock that lies in the map: 64 bytes at a multiple of 64, `dsm_rwlock` in C. Any number of readers have
 * it, or one writer. Readers do not overtake a writer that waits, but for those of a process that reads already. Zero
 * bytes are a free one.
 *
 * ```ts
 * const value = await shared.table.read.use(() => lookUp(key));
 * await shared.table.write.use(() => insert(key, value));
 * ```
 *
 * A thread may read several times, and each needs an unlock. DSM_BUSY: this thread writes, or asks to write, already. Code
 * that reads must not wait for the write lock: it would wait for itself; `write.lockSync()` is refused then (DSM_BUSY).
 *
 * "owner-died": a writer's process died or left while it had the lock; all owners, readers too, hear of it until a writer
 * unlocks that was told and has mended the data. The reads of a process that dies end. Fails as `Lock` does, and with
 * DSM_INVALID where its block was freed while the call waited.
 */
export class MapRwlock {
  /** The lock for reading. */
  readonly read: Lockable;
  /** The lock for writing. */
  readonly write: Lockable;
  /** Its first byte in the map. */
  readonly offset: number;

  /** @internal Use `session.rwlockAt()`. */
  constructor(handle: SessionHandle, where: ObjectPlace) {
    const place = new MapPlace(handle, "reader-writer lock", where);
    this.offset = place.offset;
    if (handle.mayLeaveAlone) handle.objects.rwlocks.add(place.offset);
    this.read = new Lockable(handle, new ReadCalls(place));
    this.write = new Lockable(handle, new WriteCalls(place));
  }

  /** @internal What console.log() shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `MapRwlock at ${this.offset}`;
  }
}

/** What both sides share. Nothing is done at once: each operation is a request. */
abstract class Side {
  readonly place: MapPlace;
  readonly handle: SessionHandle;
  readonly label: string;
  readonly #isWriter: boolean;

  constructor(place: MapPlace, isWriter: boolean) {
    this.place = place;
    this.handle = place.handle;
    this.label = place.label;
    this.#isWriter = isWriter;
  }

  /** Whether this thread writes. */
  get writes(): boolean {
    return this.handle.library.symbols.objectCheck(this.place.address) === Status.BUSY;
  }

  /** Whether a promise of this thread waits to write. */
  get isAsked(): boolean {
    return this.handle.objects.asked.has(this.place.offset);
  }

  ask(options: WaitOptions, tryOnly: boolean): Promise<Reply> {
    const { offset } = this.place;
    return replyTo(
      this.handle,
      (channel: Channel): Request => channel.rwLock(offset, this.#isWriter, tryOnly),
      options,
      async () => void (await this.handle.synchronise().rwUnlock(offset, this.#isWriter)),
    );
  }

  async askToUnlock(inconsistent: boolean): Promise<void> {
    checkObjectUnlock(await this.handle.synchronise().rwUnlock(this.place.offset, inconsistent), this.label);
  }

  unlockNow(inconsistent: boolean): void {
    const { library } = this.handle;
    const { rwUnlock, rwUnlockInconsistent } = library.symbols;
    const status = (inconsistent ? rwUnlockInconsistent : rwUnlock)(this.place.address);
    checkObjectUnlock(library.outcome(status), this.label);
  }

  lockAtOnce(): false {
    return false;
  }

  unlockAtOnce(): false {
    return false;
  }
}

class ReadCalls extends Side implements LockCalls {
  constructor(place: MapPlace) {
    super(place, false);
  }

  /** The outcome, and one read more if it is granted. */
  #noted<Granted extends LockOutcome | false>(outcome: Granted): Granted {
    if (outcome !== false) this.handle.objects.reads.add(this.place.offset);
    return outcome;
  }

  async lock(options: WaitOptions): Promise<LockOutcome> {
    this.handle.check();
    if (this.writes) throw hasObject(this.label);
    return this.#noted(objectOutcome(await this.ask(options, false), this.label, options.timeoutMs));
  }

  async tryLock(): Promise<LockOutcome | false> {
    this.handle.check();
    if (this.writes) throw hasObject(this.label);
    return this.#noted(tryObjectOutcome(await this.ask({}, true), this.label));
  }

  lockSync(timeoutMs: number | undefined): LockOutcome {
    this.handle.check();
    // The answer to the promise could not be read meanwhile.
    if (this.isAsked) throw asksForObject(this.label);
    const { library } = this.handle;
    const { readLock, readTimed } = library.symbols;
    const { address } = this.place;
    const status = timeoutMs === undefined ? readLock(address) : readTimed(address, timeoutMs);
    return this.#noted(objectOutcome(library.outcome(status), this.label, timeoutMs));
  }

  tryLockSync(): LockOutcome | false {
    this.handle.check();
    const { library } = this.handle;
    return this.#noted(tryObjectOutcome(library.outcome(library.symbols.readTry(this.place.address)), this.label));
  }

  #endRead(): void {
    this.handle.check();
    const { reads } = this.handle.objects;
    if (reads.of(this.place.offset) === 0) throw lacksObject(this.label);
    reads.remove(this.place.offset);
  }

  async unlock(): Promise<void> {
    this.#endRead();
    await this.askToUnlock(false);
  }

  unlockSync(): void {
    this.#endRead();
    this.unlockNow(false);
  }
}

class WriteCalls extends Side implements LockCalls {
  constructor(place: MapPlace) {
    super(place, true);
  }

  async #ask(options: WaitOptions, tryOnly: boolean): Promise<Reply> {
    this.handle.check();
    if (this.writes) throw hasObject(this.label);
    if (this.isAsked) throw asksForObject(this.label);
    const { asked } = this.handle.objects;
    const { offset } = this.place;
    asked.add(offset);
    try {
      return await this.ask(options, tryOnly);
    } finally {
      asked.delete(offset);
    }
  }

  /** This thread writes from now on. */
  #granted(outcome: LockOutcome): LockOutcome {
    const { library } = this.handle;
    library.check(library.symbols.objectOwn(this.place.address));
    return outcome;
  }

  async lock(options: WaitOptions): Promise<LockOutcome> {
    return this.#granted(objectOutcome(await this.#ask(options, false), this.label, options.timeoutMs));
  }

  async tryLock(): Promise<LockOutcome | false> {
    const outcome = tryObjectOutcome(await this.#ask({}, true), this.label);
    return outcome && this.#granted(outcome);
  }

  lockSync(timeoutMs: number | undefined): LockOutcome {
    this.handle.check();
    // The answer to the promise could not be read meanwhile, and what reads could not end.
    if (this.isAsked) throw asksForObject(this.label);
    if (this.handle.objects.reads.of(this.place.offset) > 0) throw hasObject(this.label);
    const { library } = this.handle;
    const { writeLock, writeTimed } = library.symbols;
    const { address } = this.place;
    const status = timeoutMs === undefined ? writeLock(address) : writeTimed(address, timeoutMs);
    return objectOutcome(library.outcome(status), this.label, timeoutMs);
  }

  tryLockSync(): LockOutcome | false {
    this.handle.check();
    if (this.isAsked) throw asksForObject(this.label);
    const { library } = this.handle;
    const outcome: Outcome = library.outcome(library.symbols.writeTry(this.place.address));
    return tryObjectOutcome(outcome, this.label);
  }

  async unlock(inconsistent: boolean): Promise<void> {
    this.handle.check();
    // Before the request: another thread may write next.
    if (this.handle.library.symbols.objectDisown(this.place.address) !== Status.OK) throw lacksObject(this.label);
    await this.askToUnlock(inconsistent);
  }

  unlockSync(inconsistent: boolean): void {
    this.handle.check();
    if (!this.writes) throw lacksObject(this.label);
    this.unlockNow(inconsistent);
  }
}
