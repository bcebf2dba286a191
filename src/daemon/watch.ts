/** Watchers of sessions: a stream of server-sent events for each client, as long as the client reads it. */

import { DsmError } from "../core/base/errors.ts";
import { WATCH_STALL_MS, WATCHERS_MAX } from "../core/base/limits.ts";
import type { SessionDetail } from "../core/messages/daemon-api.ts";

export class Watchers {
  /** Functions that end the open streams. */
  readonly #open = new Set<() => void>();

  get size(): number {
    return this.#open.size;
  }

  /**
   * Calls `ask` at once and then at each interval, and sends the result: `data:` with a SessionDetail. Null means that
   * the session is over: watch sends `event: end` and ends the stream. It stops when the client is gone. Throws
   * DSM_LIMIT.
   */
  watch(ask: () => Promise<SessionDetail | null>, interval_ms: number, gone: AbortSignal): Response {
    if (this.#open.size >= WATCHERS_MAX) {
      throw new DsmError(
        "DSM_LIMIT",
        `${WATCHERS_MAX} clients watch sessions of this daemon, which is its limit; try again later`,
      );
    }
    let timer: Timer | undefined;
    let over = false;
    let stalled_ms = 0;
    const stop = (): void => {
      over = true;
      clearTimeout(timer);
      gone.removeEventListener("abort", stop);
      this.#open.delete(stop);
    };
    const tell = async (controller: ReadableStreamDefaultController<string>): Promise<void> => {
      // A client that reads slowly gets fewer events, not a queue of old ones.
      stalled_ms = (controller.desiredSize ?? 0) > 0 ? 0 : stalled_ms + interval_ms;
      if (stalled_ms > WATCH_STALL_MS) {
        stop();
        controller.error(new Error("the client does not read"));
        return;
      }
      if (stalled_ms === 0) {
        const detail = await ask();
        if (over) return;
        controller.enqueue(detail === null ? "event: end\ndata: {}\n\n" : `data: ${JSON.stringify(detail)}\n\n`);
        if (detail === null) {
          stop();
          controller.close();
          return;
        }
      }
      timer = setTimeout(() => void tell(controller).catch(stop), interval_ms);
    };
    const stream = new ReadableStream<string>({
      start: (controller) => void tell(controller).catch(stop),
      cancel: stop,
    });
    this.#open.add(stop);
    gone.addEventListener("abort", stop);
    return new Response(stream.pipeThrough(new TextEncoderStream()), {
      headers: { "content-type": EVENT_STREAM, "cache-control": "no-store" },
    });
  }

  stop(): void {
    for (const stop of [...this.#open]) stop();
  }
}

export const EVENT_STREAM = "text/event-stream";
