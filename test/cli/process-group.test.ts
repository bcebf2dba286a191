/** Sessions and groups of processes: which of them live. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { isEnding, livingRanks, signalRank } from "../../src/cli/run/process-group.ts";
import { eventually } from "../support/eventually.ts";

test("a process that has ended is known for it, collected or not", async () => {
  // The second program never collects what the first has started.
  const child = Bun.spawn({
    cmd: ["sh", "-c", "sh -c 'read _' <&3 & echo $!; exec tail -f /dev/null"],
    stdio: ["ignore", "pipe", "ignore", "pipe"],
    detached: true,
  });
  const reader = child.stdout.getReader();
  const inner = Number(new TextDecoder().decode((await reader.read()).value));
  try {
    // The shell would collect it.
    await eventually("tail runs", () => readFileSync(`/proc/${child.pid}/comm`, "utf8") === "tail\n");
    expect([isEnding(inner), isEnding(child.pid), livingRanks([child.pid]).has(child.pid)]).toEqual([
      false,
      false,
      true,
    ]);
    process.kill(inner, "SIGKILL");
    await eventually("the killed shell is ending", () => isEnding(inner));
    expect(process.kill(inner, 0)).toBe(true);
    expect(isEnding(child.pid)).toBe(false);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
  expect(isEnding(child.pid)).toBe(true);
});

test("a rank lives as long as one of its session does, and only what ends reaches other groups of that", async () => {
  // Two children in groups of their own, one of which does not handle SIGTERM.
  const child = Bun.spawn({
    cmd: ["bash", "-c", "set -m; sleep 1000 & (trap '' TERM; echo up; while :; do sleep 0.1; done) & exit 0"],
    stdio: ["ignore", "pipe", "ignore"],
    detached: true,
  });
  await child.stdout.getReader().read();
  await child.exited;
  const living = (): boolean => livingRanks([child.pid]).has(child.pid);
  try {
    expect(living()).toBe(true);
    signalRank(child.pid, "SIGUSR1");
    signalRank(child.pid, "SIGTERM");
    expect(living()).toBe(true);
  } finally {
    signalRank(child.pid, "SIGKILL");
  }
  await eventually("nothing of it lives", () => !living());
});
