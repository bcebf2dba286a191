/** The text for Prometheus. */
import { expect, test } from "bun:test";
import { NOTHING_KNOWN, type SessionDetail } from "../../src/core/messages/daemon-api.ts";
import { metricsText } from "../../src/core/observe/metrics.ts";

const session = (name: string, more: Partial<SessionDetail> = {}): SessionDetail => ({
  ...NOTHING_KNOWN,
  ...{ name, instance: "1", epoch: 2, host: "127.0.0.1", port: 1, pid: 7, spawned: true, answered: true },
  ...{ processes: 4, size: 4096, order: "sequential", onLoss: "fail", elastic: false, started: true, present: 3 },
  ...{ started_ms: 1500, entries: 12, bytes: 80, barriers: 5, logBytes: 640 },
  ranks: [
    {
      ...{ rank: 0, node: "a", pid: 9, state: "barrier", stateMs: 2300, entries: 10, bytes: 80 },
      ...{ lastWriteMs: 250, roundTripUs: 85 },
    },
    {
      ...{ rank: 1, node: "b", pid: 8, state: "running", stateMs: 10, entries: 2, bytes: 0 },
      ...{ lastWriteMs: null, roundTripUs: null },
    },
  ],
  semaphores: [{ name: "gate", value: 3, waiters: [0, 1] }],
  locks: [
    { name: "queue", owner: 1, waiters: [0] },
    { name: "free", owner: null, waiters: [] },
  ],
  objects: [
    { object: "rwlock", offset: 64, holders: [0, 1], isWritten: false, count: 0, waiting: 3, waiters: [1] },
    { object: "barrier", offset: 128, holders: [], isWritten: false, count: 4, waiting: 1, waiters: [0] },
  ],
  ...more,
});

interface Family {
  type: string;
  help: string;
  samples: Map<string, number>;
}

/** Reads the format as its definition has it, and refuses what it does not allow. */
function parse(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  expect(text.endsWith("\n")).toBe(true);
  let current = "";
  for (const line of text.slice(0, -1).split("\n")) {
    const about = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/.exec(line);
    if (about !== null) {
      const [, what, name, rest] = about as unknown as [string, string, string, string];
      if (what === "HELP") {
        // All of a family stands together.
        expect(families.has(name)).toBe(false);
        families.set(name, { type: "", help: rest, samples: new Map() });
        current = name;
      } else {
        expect([name, rest]).toEqual([current, expect.stringMatching(/^(counter|gauge)$/)]);
        (families.get(name) as Family).type = rest;
      }
      continue;
    }
    const label = '[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\[\\\\"n])*"';
    const sample = new RegExp(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\\{(${label}(?:,${label})*)\\})? (-?[0-9.e+-]+)$`).exec(
      line,
    );
    expect([line, sample === null]).toEqual([line, false]);
    const [, name, labels = "", value] = sample as unknown as [string, string, string | undefined, string];
    expect(name).toBe(current);
    const { type, samples } = families.get(name) as Family;
    expect(name.endsWith("_total")).toBe(type === "counter");
    expect(samples.has(labels)).toBe(false);
    samples.set(labels, Number(value));
  }
  return families;
}

test("every figure has its family, with its labels", () => {
  const families = parse(metricsText("1.2.3", [session("s"), session("silent", { answered: false })]));
  const of = (name: string): object => Object.fromEntries(families.get(name)?.samples ?? []);
  expect(of("dsm_build_info")).toEqual({ 'version="1.2.3"': 1 });
  expect(of("dsm_sessions")).toEqual({ "": 2 });
  expect(of("dsm_session_up")).toEqual({ 'session="s"': 1, 'session="silent"': 0 });
  expect(of("dsm_session_entries_total")).toEqual({ 'session="s"': 12 });
  expect(of("dsm_session_barriers_total")).toEqual({ 'session="s"': 5 });
  expect(of("dsm_session_running_seconds")).toEqual({ 'session="s"': 1.5 });
  expect(of("dsm_session_present")).toEqual({ 'session="s"': 3 });
  const [first, second] = ['session="s",rank="0",node="a"', 'session="s",rank="1",node="b"'];
  expect(of("dsm_rank_entries_total")).toEqual({ [first]: 10, [second]: 2 });
  expect(of("dsm_rank_written_bytes_total")).toEqual({ [first]: 80, [second]: 0 });
  expect(of("dsm_rank_state_seconds")).toEqual({
    [`${first},state="barrier"`]: 2.3,
    [`${second},state="running"`]: 0.01,
  });
  expect(of("dsm_rank_last_write_seconds")).toEqual({ [first]: 0.25 });
  expect(of("dsm_rank_round_trip_seconds")).toEqual({ [first]: 0.000085 });
  expect(of("dsm_semaphore_value")).toEqual({ 'session="s",semaphore="gate"': 3 });
  expect(of("dsm_semaphore_waiters")).toEqual({ 'session="s",semaphore="gate"': 2 });
  expect(of("dsm_lock_held")).toEqual({ 'session="s",lock="queue"': 1, 'session="s",lock="free"': 0 });
  expect(of("dsm_lock_waiters")).toEqual({ 'session="s",lock="queue"': 1, 'session="s",lock="free"': 0 });
});

test("names with quotes and backslashes are escaped", () => {
  const name = 'a"b\\c\nd{}, e="';
  const families = parse(metricsText("1", [session(name)]));
  expect([...(families.get("dsm_session_up")?.samples.keys() ?? [])]).toEqual(['session="a\\"b\\\\c\\nd{}, e=\\""']);
});

test("without a session there is nothing but that", () => {
  expect([...parse(metricsText("1", [])).keys()]).toEqual(["dsm_build_info", "dsm_sessions"]);
});
