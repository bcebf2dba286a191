/** How a `dsm run` ends: whose exit code counts, what signals do, and when processes are killed. */
import { afterEach, expect, test } from "bun:test";
import { type ProcessEnd, ProcessTerminator } from "../../src/cli/run/termination.ts";
import type { OnLoss } from "../../src/core/base/loss-policy.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP", "SIGCONT", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;
const before = new Map(SIGNALS.map((signal) => [signal, process.listeners(signal)]));
const endings: ProcessTerminator[] = [];

function start(
  underway: () => Promise<unknown> | undefined = () => undefined,
  onLoss: OnLoss = "fail",
): {
  ending: ProcessTerminator;
  sent: string[];
} {
  const sent: string[] = [];
  const send = (signal: string): unknown => sent.push(signal);
  const ending = new ProcessTerminator({ send, interruptedMs: 1_000_000, underway, onLoss });
  ending.passSignals();
  endings.push(ending);
  return { ending, sent };
}

const exited = (code: number, joined = true): ProcessEnd => ({ code, signal: null, joined, why: null });
const killed = (signal: NodeJS.Signals): ProcessEnd => ({ code: null, signal, joined: true, why: null });

afterEach(() => {
  for (const ending of endings.splice(0)) ending.stop();
  for (const signal of SIGNALS) {
    for (const listener of process.listeners(signal)) {
      if (!before.get(signal)?.includes(listener)) process.off(signal, listener);
    }
  }
});

test("the first that fails gives the exit code and ends the rest", () => {
  const { ending, sent } = start();
  ending.ended("process 0", exited(0));
  expect([ending.failure, sent]).toEqual([0, []]);
  ending.ended("process 1", exited(3));
  ending.ended("process 2", killed("SIGTERM"));
  ending.ended("process 3", exited(4));
  expect([ending.failure, sent]).toEqual([3, ["SIGTERM"]]);
});

test("who fails because another was killed does not give the exit code, whichever is seen first", async () => {
  const seen = Promise.withResolvers<void>();
  const { ending, sent } = start(() => seen.promise);
  const failed = ending.ended("process 1", exited(1));
  void ending.ended("process 2", exited(5));
  expect([ending.failure, sent]).toEqual([0, []]);
  void ending.ended("process 0", killed("SIGTERM"));
  seen.resolve();
  await failed;
  expect([ending.failure, sent]).toEqual([143, ["SIGTERM"]]);
});

test("who fails while others end well gives the exit code", async () => {
  const seen = Promise.withResolvers<void>();
  const { ending } = start(() => seen.promise);
  const failed = ending.ended("process 1", exited(3));
  void ending.ended("process 0", exited(0));
  seen.resolve();
  await failed;
  expect(ending.failure).toBe(3);
});

test("a host that does not tell of its processes holds up nothing for ever", async () => {
  const { ending } = start(() => new Promise(() => {}));
  await ending.ended("process 1", exited(3));
  expect(ending.failure).toBe(3);
});

test("what had failed before somebody asked for the end does", () => {
  const { ending } = start();
  ending.ended("process 1", exited(1));
  process.emit("SIGINT", "SIGINT");
  ending.ended("process 0", killed("SIGINT"));
  expect(ending.failure).toBe(1);
});

test("a program that ends in its own way when it is asked gives its own code", () => {
  const { ending } = start();
  process.emit("SIGINT", "SIGINT");
  ending.ended("process 0", exited(7));
  ending.ended("process 1", killed("SIGKILL"));
  expect(ending.failure).toBe(7);
});

test("where a session continues, those that fail end nobody else; the first gives the exit code", () => {
  const { ending, sent } = start(() => new Promise(() => {}), "continue");
  ending.ended("process 0", killed("SIGKILL"));
  ending.ended("process 1", exited(3));
  ending.ended("process 2", exited(0));
  expect([ending.failure, ending.over, sent]).toEqual([137, false, []]);
  ending.fail(1);
  expect([ending.failure, ending.over, sent]).toEqual([137, true, ["SIGTERM"]]);
});

test("where a session continues, one that never joined ends the others, which wait for it", async () => {
  const { ending, sent } = start(() => undefined, "continue");
  ending.ended("process 0", killed("SIGKILL"));
  await ending.ended("process 1", exited(3, false));
  expect([ending.failure, ending.over, sent]).toEqual([137, true, ["SIGTERM"]]);
});
