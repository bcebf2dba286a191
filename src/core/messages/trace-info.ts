/** The server's answer to a TRACE frame, before the records. */
import type * as v from "valibot";
import { PROCESSES_MAX } from "../base/limits.ts";
import { flag, list, name, parseMessage, reasoned, record, WORD_MAX, whole } from "./schema.ts";

const TraceInfoSchema = record({
  session: name("session"),
  /** Beginning of the trace, in milliseconds since 1970. */
  time_ms: reasoned<number>((ms) => (Number.isFinite(ms) ? null : "is not a time")),
  direct: flag,
  ranks: list(
    PROCESSES_MAX,
    record({ rank: whole(0, PROCESSES_MAX - 1), node: name("node"), pid: whole(0, WORD_MAX) }),
  ),
});
export type TraceInfo = v.InferOutput<typeof TraceInfoSchema>;

/** Parses a TraceInfo. Throws ProtocolError. */
export function parseTraceInfo(text: string): TraceInfo {
  return parseMessage(TraceInfoSchema, text, "the beginning of the trace");
}
