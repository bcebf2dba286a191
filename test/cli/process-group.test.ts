/** Groups of processes: whether any of one still lives. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { anyLives, isEnding } from "../../src/cli/run/process-group.ts";
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
    expect([isEnding(inner), isEnding(child.pid), anyLives([child.pid])]).toEqual([false, false, true]);
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
