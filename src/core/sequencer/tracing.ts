/** Tracing: the one link that traces the session, and its records. */
import { Status } from "../base/errors.ts";
import type { TraceInfo } from "../messages/trace-info.ts";
import type { Activity } from "../observe/activity.ts";
import type { TraceBuffer } from "../observe/trace.ts";
import type { Session } from "../session/session.ts";
import { encode, encodeJson, ProtocolError } from "../wire/frame.ts";
import { Kind } from "../wire/kinds.ts";

const WORD_MAX = 0xffffffff;

export class Tracing {
  readonly #activity: Activity;
  #trace: { link: number; buffer: TraceBuffer } | null = null;

  constructor(activity: Activity) {
    this.#activity = activity;
  }

  /** Whether the link traces the session. */
  isOn(link: number): boolean {
    return this.#trace?.link === link;
  }

  /** Begins a trace; returns the reply. Throws ProtocolError when there is one already. */
  begin(link: number, session: Session): Uint8Array {
    if (this.#trace !== null) {
      throw new ProtocolError("the session is being traced already; try again", Status.LIMIT);
    }
    const info: TraceInfo = {
      session: session.config.name,
      time_ms: this.#activity.now_ms,
      direct: session.direct,
      ranks: session.report().map(({ rank, node, pid }) => ({ rank, node, pid })),
    };
    this.#trace = { link, buffer: this.#activity.beginTrace() };
    return encode({ kind: Kind.REPLY, body: encodeJson(info) });
  }

  /** Takes the records since the last call, for the link; null: none. `always`: makes a frame even then. */
  take(always: boolean): { link: number; frame: Uint8Array } | null {
    if (this.#trace === null) return null;
    const { link, buffer } = this.#trace;
    const { records, dropped } = buffer.take();
    if (!always && records.length === 0 && dropped === 0) return null;
    return { link, frame: encode({ kind: Kind.TRACE, aux: Math.min(dropped, WORD_MAX), body: records }) };
  }

  /** Ends the trace of a link that is gone. */
  end(link: number): void {
    if (!this.isOn(link)) return;
    this.#trace = null;
    this.#activity.endTrace();
  }
}
