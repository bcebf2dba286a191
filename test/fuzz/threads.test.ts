/** The library's own threads, channels, holes and releases under ThreadSanitizer: native/fuzz/threads.c. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { buildThreads } from "../../scripts/fuzz-native.ts";
import { outcome } from "../support/e2e-child.ts";

test("several threads in all of the library at once: no data race", async () => {
  const program = await buildThreads();
  // Short: a socket will lie in it.
  const folder = mkdtempSync("/tmp/dsm-threads-");
  try {
    const env = { ...process.env, XDG_RUNTIME_DIR: folder, TSAN_OPTIONS: "halt_on_error=0" };
    const child = Bun.spawn([program], { env, stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    const { stderr, ...others } = await outcome(child);
    // It stores one by one, thousands of times a second: where it is fast it is told so, by one of its threads.
    const rest = stderr.replace(/^dsm: rank 0 makes \d+ single stores a second [^\n]*\n/, "");
    expect({ ...others, stderr: rest }).toEqual({ code: 0, signal: null, stdout: "ok\n", stderr: "" });
  } finally {
    rmSync(folder, { recursive: true });
  }
}, 240_000);
