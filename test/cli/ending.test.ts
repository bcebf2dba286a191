import { afterEach, expect, test } from "bun:test";
import { Ending } from "../../src/cli/ending.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP", "SIGCONT", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;
const before = new Map(SIGNALS.map((signal) => [signal, process.listeners(signal)]));
const endings: Ending[] = [];

function start(): { ending: Ending; sent: string[] } {
  const sent: string[] = [];
  const ending = new Ending({ send: (signal) => sent.push(signal), interruptedMs: 1_000_000 });
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

test("who fails because another got the signal first does not give the exit code", () => {
  const { ending, sent } = start();
  process.emit("SIGTERM", "SIGTERM");
  ending.ended("process 1", 1, null);
  ending.ended("process 0", null, "SIGTERM");
  ending.ended("process 2", 5, null);
  expect([ending.failure, sent]).toEqual([143, ["SIGTERM", "SIGTERM"]]);
});

test("what had failed before somebody asked for the end does", () => {
  const { ending } = start();
  ending.ended("process 1", 1, null);
  process.emit("SIGINT", "SIGINT");
  ending.ended("process 0", null, "SIGINT");
  expect(ending.failure).toBe(1);
});

test("a program that ends in its own way when it is asked gives its own code", () => {
  const { ending } = start();
  process.emit("SIGINT", "SIGINT");
  ending.ended("process 0", 7, null);
  ending.ended("process 1", null, "SIGKILL");
  expect(ending.failure).toBe(7);
});
