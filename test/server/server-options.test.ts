/** The session that a server's options describe, and options that describe none. */
import { expect, test } from "bun:test";
import { addressOf } from "../../src/core/base/addresses.ts";
import type { DsmError } from "../../src/core/base/errors.ts";
import { ADDRESS_SLOTS, ADDRESS_WIDE_SLOTS, PROCESSES_MAX, SIZE_MAX } from "../../src/core/base/limits.ts";
import { check } from "../../src/core/messages/schema.ts";
import { SessionConfigSchema } from "../../src/core/messages/session-state.ts";
import { type ServerOptions, sessionConfig, slotOf } from "../../src/server/server-options.ts";

const plain: ServerOptions = { session: "s", processes: 2, host: "127.0.0.1", port: 0, directory: null };

test("defaults are those of the settings; the size is whole pages; a name has its own slot and each run an instance", () => {
  const config = sessionConfig(plain);
  expect(config).toEqual({
    ...{ name: "s", instance: config.instance, processes: 2, size: 1 << 20, order: "sequential", onLoss: "fail" },
    base: addressOf(slotOf(plain)),
  });
  expect(config.instance).toMatch(/^[0-9a-f]{16}$/);
  expect(sessionConfig(plain).instance).not.toBe(config.instance);
  expect(sessionConfig({ ...plain, size: 4097 }).size).toBe(8192);
  expect(slotOf(plain)).toBe(slotOf({ ...plain, processes: 3 }));
  expect(slotOf(plain)).toBeLessThan(ADDRESS_WIDE_SLOTS);
  expect(check(SessionConfigSchema, config).fault).toBeNull();
});

test("what is given is taken", () => {
  const given = { size: 4096, order: "release", onLoss: "continue", elastic: true, slot: 3, instance: "i" } as const;
  expect(sessionConfig({ ...plain, ...given })).toEqual({
    ...{ name: "s", instance: "i", processes: 2, size: 4096, order: "release", onLoss: "continue", elastic: true },
    base: addressOf(3),
  });
});

const image = { ...{ seq: 0, semaphores: [], locks: [], rwLocks: [], blocks: [] }, config: sessionConfig(plain) };
test.each([
  ["DSM_INVALID", "the session name has a slash", { session: "a/b" }],
  ["DSM_INVALID", `the limit is ${PROCESSES_MAX}`, { processes: PROCESSES_MAX + 1 }],
  ["DSM_INVALID", "a session has 1 or more", { processes: 0 }],
  ["DSM_INVALID", "is beyond the limit", { size: SIZE_MAX + 1 }],
  ["DSM_INVALID", `slot ${ADDRESS_SLOTS} is not possible`, { slot: ADDRESS_SLOTS }],
  ["DSM_INVALID", "slot -1 is not possible", { slot: -1 }],
  ["DSM_INVALID", "there is no token to ask of them", { host: "192.0.2.1" }],
  ["DSM_MISMATCH", "has a map of 4 KiB, not 8 KiB", { size: 8192, restore: { image, map: new Uint8Array(4096) } }],
] satisfies [string, string, Partial<ServerOptions>][])("%s: %s", (code, words, change) => {
  let error: DsmError | undefined;
  try {
    sessionConfig({ ...plain, ...change });
  } catch (thrown) {
    error = thrown as DsmError;
  }
  expect(error?.code).toBe(code as never);
  expect(error?.message).toContain(words);
});
