/** A connection on which nothing comes is given up, and our own side does not fall silent. */
import { expect, test } from "bun:test";
import { Heartbeat } from "../../src/arbiter/heartbeat.ts";
import { HEARTBEATS } from "../../src/core/base/limits.ts";

function setUp() {
  const calls = { idle: 0, silence: 0 };
  const heartbeat: Heartbeat = new Heartbeat({
    timeoutMs: 1000,
    onIdle: () => {
      calls.idle += 1;
      heartbeat.sent();
    },
    onSilence: () => {
      calls.silence += 1;
    },
  });
  return { calls, heartbeat };
}

test("a sign of life is sent in each period in which nothing else was", () => {
  const { calls, heartbeat } = setUp();
  heartbeat.tick();
  expect(calls.idle).toBe(1);
  heartbeat.sent();
  heartbeat.tick();
  expect(calls.idle).toBe(1);
  heartbeat.tick();
  expect(calls.idle).toBe(2);
});

test("silence is noticed after its periods, and not before; anything that comes begins them anew", () => {
  const { calls, heartbeat } = setUp();
  for (let period = 0; period < HEARTBEATS; period += 1) heartbeat.tick();
  heartbeat.received();
  for (let period = 0; period < HEARTBEATS; period += 1) heartbeat.tick();
  expect(calls.silence).toBe(0);
  heartbeat.tick();
  expect(calls.silence).toBe(1);
});
