/** Barriers that lie in the map. */
import { ARRIVALS_MAX } from "../core/base/limits.ts";
import { invalid } from "./config.ts";
import { MapPlace, type ObjectPlace } from "./map-place.ts";
import { check, isLastIn } from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { promised } from "./stack.ts";
import { replyTo, timeoutOf, type WaitOptions } from "./waiting.ts";

/**
 * A barrier that lies in the map: 64 bytes at a multiple of 64, `struct dsm_barrier` in C. It waits for as many calls as
 * `init()` said, of any threads and promises of any processes; zero bytes are a barrier of as many as the session has
 * processes.
 */
export class MapBarrier {
  readonly #place: MapPlace;
  readonly #count: Uint32Array<ArrayBuffer>;

  /** @internal Use `session.barrierAt()`. */
  constructor(handle: SessionHandle, where: ObjectPlace) {
    this.#place = new MapPlace(handle, "barrier", where);
    this.#count = new Uint32Array(handle.info.buffer, this.#place.offset, 1);
  }

  /** Its first byte in the map. */
  get offset(): number {
    return this.#place.offset;
  }

  /** @internal What console.log() shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `MapBarrier at ${this.offset}`;
  }

  /**
   * Sets how many calls it waits for, 1 to 65536; 0: as many as the session has processes. Blocks the thread for the time
   * of one round trip. DSM_BUSY: a thread waits in it.
   */
  init(count: number): void {
    this.#place.handle.check();
    if (!Number.isSafeInteger(count) || count < 0 || count > ARRIVALS_MAX) {
      throw invalid(`${this.#place.label}: count ${count}; give 0 to ${ARRIVALS_MAX}`);
    }
    const { library } = this.#place.handle;
    library.check(library.symbols.mapBarrierInit(this.#place.address, count));
  }

  /**
   * Waits until so many calls are in it. Resolves to true in one of them, the last, else false. DSM_TIMEOUT after
   * `timeoutMs`: this call is out of the barrier again, also when it is aborted. (If the barrier was passed at the same
   * moment, the promise resolves.) A process that dies is still waited for, unless the session ends all waits then
   * (DSM_LOST). DSM_MISMATCH: others wait there for another count. DSM_INVALID: its block was freed. DSM_LIMIT.
   */
  wait(options: WaitOptions = {}): Promise<boolean> {
    return promised(() => this.#wait(options));
  }

  async #wait(options: WaitOptions): Promise<boolean> {
    const { handle, offset, label } = this.#place;
    handle.check();
    const count = (this.#count[0] as number) || handle.processes;
    if (count > ARRIVALS_MAX) {
      throw invalid(
        `there is no barrier at ${label.slice(label.indexOf("0x"))}: its count is beyond the limit of ${ARRIVALS_MAX}`,
      );
    }
    const reply = await replyTo(handle, (channel) => channel.arrive(offset, count), options, null);
    return isLastIn(reply, label, count, options.timeoutMs);
  }

  /** Like wait(), but blocks the whole thread, timers and promises included. */
  waitSync(options: Pick<WaitOptions, "timeoutMs"> = {}): boolean {
    const timeoutMs = timeoutOf(options);
    const { handle, address } = this.#place;
    handle.check();
    const { library } = handle;
    const { mapBarrierWait, mapBarrierTimed } = library.symbols;
    const isLast = [0];
    const status =
      timeoutMs === undefined ? mapBarrierWait(address, isLast) : mapBarrierTimed(address, timeoutMs, isLast);
    check(library.outcome(status));
    return isLast[0] === 1;
  }
}
