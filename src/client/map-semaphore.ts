/** Semaphores that lie in the map. */
import { Status } from "../core/base/errors.ts";
import { SEMAPHORE_VALUE_MAX } from "../core/base/limits.ts";
import { objectName } from "../core/base/names.ts";
import type { Channel, Reply, Request } from "./channel.ts";
import { invalid } from "./config.ts";
import { MapPlace, type ObjectPlace } from "./map-place.ts";
import { type SemaphoreCalls, SemaphoreForms } from "./semaphore-forms.ts";
import type { SessionHandle } from "./session-handle.ts";

/**
 * A counting semaphore that lies in the map: 64 bytes at a multiple of 64, `dsm_semaphore` in C. Zero bytes are one of the
 * value 0. Its order, its failures and what it publishes are those of a `Semaphore`; DSM_INVALID, too, where its block was
 * freed while the call waited.
 */
export class MapSemaphore extends SemaphoreForms {
  readonly #place: MapPlace;

  /** @internal Use `session.semaphoreAt()`. */
  constructor(handle: SessionHandle, where: ObjectPlace) {
    const place = new MapPlace(handle, "semaphore", where);
    super(handle, new MapSemaphoreCalls(place));
    this.#place = place;
  }

  /** Its first byte in the map. */
  get offset(): number {
    return this.#place.offset;
  }

  /**
   * Gives it a value, 0 to 2147483647: once, before others use it, or again. Blocks the thread for the time of one round
   * trip. DSM_BUSY: a thread waits for it.
   */
  init(value: number): void {
    this.#place.handle.check();
    if (!Number.isSafeInteger(value) || value < 0 || value > SEMAPHORE_VALUE_MAX) {
      throw invalid(`${this.#place.label}: value ${value}; give 0 to ${SEMAPHORE_VALUE_MAX}`);
    }
    const { library } = this.#place.handle;
    library.check(library.symbols.mapSemaphoreInit(this.#place.address, value));
  }

  /** @internal What console.log() shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `MapSemaphore at ${this.offset}`;
  }
}

class MapSemaphoreCalls implements SemaphoreCalls {
  readonly label: string;
  readonly #place: MapPlace;
  readonly #name: string;

  constructor(place: MapPlace) {
    this.label = place.label;
    this.#place = place;
    this.#name = objectName("semaphore", place.offset);
  }

  get #symbols(): SessionHandle["library"]["symbols"] {
    this.#place.handle.check();
    return this.#place.handle.library.symbols;
  }

  request(channel: Channel, tryOnly: boolean): Request {
    return channel.semaphoreWait(this.#name, 0, tryOnly);
  }

  requestPost(channel: Channel): Promise<Reply> {
    return channel.semaphorePost(this.#name, 0);
  }

  waitSync(timeoutMs: number | undefined): number {
    const { mapSemaphoreWait, mapSemaphoreTimed } = this.#symbols;
    const { address } = this.#place;
    return timeoutMs === undefined ? mapSemaphoreWait(address) : mapSemaphoreTimed(address, timeoutMs);
  }

  tryWaitSync(): number {
    return this.#symbols.mapSemaphoreTry(this.#place.address);
  }

  postSync(): number {
    return this.#symbols.mapSemaphorePost(this.#place.address);
  }

  waitAtOnce(): boolean {
    return this.#symbols.mapSemaphoreAtOnce(this.#place.address) === Status.OK;
  }

  postAtOnce(): boolean {
    return this.#symbols.mapSemaphorePostAtOnce(this.#place.address) === Status.OK;
  }

  learn(cell: number): void {
    this.#place.handle.library.symbols.mapSemaphoreGranted(this.#place.address, cell);
  }
}
