import { Status } from "../core/base/errors.ts";
import { SEMAPHORE_VALUE_MAX } from "../core/base/limits.ts";
import { checkName } from "../core/base/names.ts";
import type { Channel, Reply, Request } from "./channel.ts";
import { invalid } from "./config.ts";
import { type SemaphoreCalls, SemaphoreForms } from "./semaphore-forms.ts";
import type { SessionHandle } from "./session-handle.ts";

/**
 * A counting semaphore, identified in the whole session by its name. Waits are granted first come, first served, across
 * nodes and forms (promise or `Sync`); in direct mode a `Sync` wait may be overtaken for its first 0.2 s.
 *
 * Every method fails with DSM_LEFT after leaving, DSM_LOST when a process of the session died without leaving (posting
 * stays possible) and DSM_UNREACHABLE when this node's arbiter has ended. The `Sync` forms block the whole thread,
 * timers and promises included: never use them to wait for work of this thread itself.
 *
 * Waiting and posting are synchronising operations: under the order `release` each first publishes what this process
 * has stored, for which the promise forms block the thread as `session.fence()` does.
 */
export class Semaphore extends SemaphoreForms {
  /** Its name in the session. */
  readonly name: string;

  /** @internal Use `session.semaphore()`. */
  constructor(handle: SessionHandle, name: string, initial: number) {
    const wrong = checkName("semaphore", name);
    if (wrong !== null) throw invalid(wrong);
    if (!Number.isSafeInteger(initial) || initial < 0 || initial > SEMAPHORE_VALUE_MAX) {
      throw invalid(`semaphore "${name}": initial value ${initial}; give 0 to ${SEMAPHORE_VALUE_MAX}`);
    }
    super(handle, new NamedSemaphoreCalls(handle, name, initial));
    this.name = name;
  }

  /** @internal What console.log() shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `Semaphore ${JSON.stringify(this.name)}`;
  }
}

class NamedSemaphoreCalls implements SemaphoreCalls {
  readonly label: string;
  readonly #handle: SessionHandle;
  readonly #name: string;
  readonly #initial: number;

  constructor(handle: SessionHandle, name: string, initial: number) {
    this.label = `semaphore "${name}"`;
    this.#handle = handle;
    this.#name = name;
    this.#initial = initial;
  }

  request(channel: Channel, tryOnly: boolean): Request {
    return channel.semaphoreWait(this.#name, this.#initial, tryOnly);
  }

  requestPost(channel: Channel): Promise<Reply> {
    return channel.semaphorePost(this.#name, this.#initial);
  }

  waitSync(timeoutMs: number | undefined): number {
    const { library, pointer } = this.#handle;
    const { semaphoreWait, semaphoreTimed } = library.symbols;
    return timeoutMs === undefined
      ? semaphoreWait(pointer, this.#name, this.#initial)
      : semaphoreTimed(pointer, this.#name, this.#initial, timeoutMs);
  }

  tryWaitSync(): number {
    const { library, pointer } = this.#handle;
    return library.symbols.semaphoreTry(pointer, this.#name, this.#initial);
  }

  postSync(): number {
    const { library, pointer } = this.#handle;
    return library.symbols.semaphorePost(pointer, this.#name, this.#initial);
  }

  waitAtOnce(): boolean {
    const { library, pointer } = this.#handle;
    return library.symbols.semaphoreAtOnce(pointer, this.#name) === Status.OK;
  }

  postAtOnce(): boolean {
    const { library, pointer } = this.#handle;
    return library.symbols.semaphorePostAtOnce(pointer, this.#name) === Status.OK;
  }

  learn(cell: number): void {
    const { library, info } = this.#handle;
    library.symbols.semaphoreGranted(info.pointer, this.#name, cell);
  }
}
