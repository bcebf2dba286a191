/** How a `dsm run` ends: whose exit code counts, what signals do, and when processes are killed. */
import { afterEach, expect, test } from "bun:test";
import { ProcessTerminator } from "../../src/cli/run/termination.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP", "SIGCONT", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;
const before = new Map(SIGNALS.map((signal) => [signal, process.listeners(signal)]));
const endings: ProcessTerminator[] = [];

function start(underway: () => Promise<unknown> | undefined = () => undefined): {
  ending: ProcessTerminator;
  sent: string[];
} {
  const sent: string[] = [];
  const ending = new ProcessTerminator({ send: (signal) => sent.push(signal), interruptedMs: 1_000_000, underway });
  ending.passSignals();
  endings.push(ending);
  return { ending, sent };
}

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
  ending.ended("process 0", 0, null);
  expect([ending.failure, sent]).toEqual([0, []]);
  ending.ended("process 1", 3, null);
  ending.ended("process 2", null, "SIGTERM");
  ending.ended("process 3", 4, null);
  expect([ending.failure, sent]).toEqual([3, ["SIGTERM"]]);
});

test("a process that fails because another was killed does not give the exit code, whichever is seen first", async () => {
  const seen = Promise.withResolvers<void>();
  const { ending, sent } = start(() => seen.promise);
  const failed = ending.ended("process 1", 1, null);
  void ending.ended("process 2", 5, null);
  expect([ending.failure, sent]).toEqual([0, []]);
  void ending.ended("process 0", null, "SIGTERM");
  seen.resolve();
  await failed;
  expect([ending.failure, sent]).toEqual([143, ["SIGTERM"]]);
});

test("a process that fails because another ended as ^C asks does not give the exit code, whichever is seen first", async () => {
  const seen = Promise.withResolvers<void>();
  const { ending } = start(() => seen.promise);
  process.emit("SIGINT", "SIGINT");
  const failed = ending.ended("process 1", 1, null);
  void ending.ended("process 2", 5, null);
  expect(ending.failure).toBe(0);
  void ending.ended("process 0", 130, null);
  seen.resolve();
  await failed;
  expect(ending.failure).toBe(130);
});

test("a process that fails while others succeed gives the exit code", async () => {
  const seen = Promise.withResolvers<void>();
  const { ending } = start(() => seen.promise);
  const failed = ending.ended("process 1", 3, null);
  void ending.ended("process 0", 0, null);
  seen.resolve();
  await failed;
  expect(ending.failure).toBe(3);
});

test("a host that does not tell of its processes holds up nothing for ever", async () => {
  const { ending } = start(() => new Promise(() => {}));
  await ending.ended("process 1", 3, null);
  expect(ending.failure).toBe(3);
});

test("where the others go on a failure ends nothing, and the first gives the exit code", () => {
  const sent: string[] = [];
  let others = 2;
  const ending = new ProcessTerminator({
    ...{ send: (signal) => sent.push(signal), interruptedMs: 0, underway: () => undefined },
    goesOn: () => others > 0,
  });
  endings.push(ending);
  ending.ended("process 1", 3, null);
  ending.ended("process 0", null, "SIGSEGV");
  expect([ending.failure, ending.isEnding, sent]).toEqual([3, false, []]);
  others = 0;
  ending.ended("process 2", 4, null);
  expect([ending.failure, ending.isEnding]).toEqual([3, true]);
});

test("a failure before the request to end does", () => {
  const { ending } = start();
  ending.ended("process 1", 1, null);
  process.emit("SIGINT", "SIGINT");
  ending.ended("process 0", null, "SIGINT");
  expect(ending.failure).toBe(1);
});

test("a program that handles the request to end gives its own code", () => {
  const { ending } = start();
  process.emit("SIGINT", "SIGINT");
  ending.ended("process 0", 7, null);
  ending.ended("process 1", null, "SIGKILL");
  expect(ending.failure).toBe(7);
});
