/** When a broken connection to the server is tried again, and when the arbiter gives up. */
import { expect, test } from "bun:test";
import { RetryPolicy } from "../../src/arbiter/retry-policy.ts";
import { ConnectionLost } from "../../src/arbiter/server-connection.ts";
import { type DsmCode, DsmError } from "../../src/core/base/errors.ts";
import { RECONNECT_PAUSE_MAX_MS, RECONNECT_PAUSE_MIN_MS } from "../../src/core/base/limits.ts";

const LOST = new ConnectionLost("closed the connection");

test("pauses double up to the longest one", () => {
  const policy = new RetryPolicy(60_000, 0);
  const pauses: (number | null)[] = [];
  for (let i = 0; i < 20; i += 1) pauses.push(policy.pauseAfter(LOST, i));
  expect(pauses.slice(0, 2)).toEqual([RECONNECT_PAUSE_MIN_MS, 2 * RECONNECT_PAUSE_MIN_MS]);
  for (const [i, pause] of pauses.slice(1).entries()) {
    expect(pause).toBe(Math.min(2 * (pauses[i] as number), RECONNECT_PAUSE_MAX_MS));
  }
  expect(pauses.at(-1)).toBe(RECONNECT_PAUSE_MAX_MS);
});

test("attempts end when the time is over, from the moment at which they began", () => {
  const policy = new RetryPolicy(1000, 5000);
  expect(policy.pauseAfter(LOST, 5999)).not.toBeNull();
  expect(policy.pauseAfter(LOST, 6000)).toBeNull();
});

test("of what a server refuses a node with, only DSM_AGAIN may pass", () => {
  const codes: DsmCode[] = ["DSM_ENDED", "DSM_REFUSED", "DSM_PROTOCOL", "DSM_UNREACHABLE", "DSM_MISMATCH"];
  for (const code of codes) expect(new RetryPolicy(1000, 0).pauseAfter(new DsmError(code, "no"), 0)).toBeNull();
  expect(new RetryPolicy(1000, 0).pauseAfter(new DsmError("DSM_AGAIN", "no"), 0)).toBe(RECONNECT_PAUSE_MIN_MS);
});
