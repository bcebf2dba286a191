/** Whether something is what viewers of trace events take: Google's "Trace Event Format", as far as we use it. */
import { expect } from "bun:test";
import type { TraceEvent } from "../../src/core/observe/trace.ts";

export function checkTraceEvents(events: TraceEvent[]): void {
  const isTime = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  const lanes = new Set<string>();
  for (const event of events) {
    const { name, ph, pid, tid, ts, dur, s, cat, args } = event;
    const lane = `${pid} ${tid}`;
    const wrong: string[] = [];
    if (typeof name !== "string" || name === "") wrong.push("name");
    if (!Number.isSafeInteger(pid) || !Number.isSafeInteger(tid) || pid < 0 || tid < 0) wrong.push("pid, tid");
    if (ph === "M") {
      if (!["process_name", "thread_name"].includes(name) || typeof args?.name !== "string") wrong.push("metadata");
      if (name === "thread_name") lanes.add(lane);
    } else if (!isTime(ts)) wrong.push("ts");
    if (ph === "X") {
      if (!isTime(dur) || cat === undefined) wrong.push("span");
    } else if (ph === "i") {
      if (s !== "t" || cat === undefined) wrong.push("instant");
    } else if (ph === "C") {
      const values = Object.values(args ?? {});
      if (values.length === 0 || values.some((value) => typeof value !== "number")) wrong.push("counter");
    } else if (ph !== "M") wrong.push("ph");
    // A lane has a name before anything is in it.
    if ((ph === "X" || ph === "i") && !lanes.has(lane)) wrong.push("no such lane");
    expect({ event, wrong }).toEqual({ event, wrong: [] });
  }
  // Spans of one lane do not overlap.
  const spans = Map.groupBy(
    events.filter(({ ph }) => ph === "X"),
    ({ pid, tid }) => `${pid} ${tid}`,
  );
  for (const some of spans.values()) {
    const sorted = some.sort((a, b) => (a.ts as number) - (b.ts as number));
    for (const [index, span] of sorted.entries()) {
      const next = sorted[index + 1];
      if (next !== undefined) expect((span.ts as number) + (span.dur as number)).toBeLessThanOrEqual(next.ts as number);
    }
  }
}
