/** What all processes of a session must agree on, as requests to the daemon carry it: all of it from one table. */
import { describe, expect, test } from "bun:test";
import type * as v from "valibot";
import { SETTINGS, type Setting } from "../../src/core/base/settings.ts";
import {
  FindRequestSchema,
  RegistrationSchema,
  SessionAddressSchema,
  SuccessionRequestSchema,
} from "../../src/core/messages/daemon-api.ts";
import { check } from "../../src/core/messages/schema.ts";
import {
  describeMismatch,
  SESSION_SETTINGS,
  settingsOf,
  settingsOfNew,
  wishesOf,
} from "../../src/core/messages/session-settings.ts";
import { SessionConfigSchema } from "../../src/core/messages/session-state.ts";

const session = { name: "s", processes: 3, size: 8192, order: "release", onLoss: "continue", elastic: true } as const;
const fields = SESSION_SETTINGS.map(([, field]) => field);

test("each has an option, a field in every message, and words for a difference", () => {
  expect(fields).toEqual(["processes", "size", "order", "onLoss", "elastic"]);
  for (const [name, field] of SESSION_SETTINGS) {
    const { option, differs }: Setting = SETTINGS[name];
    expect([typeof option, typeof differs]).toEqual(["string", "function"]);
    const schemas: { entries: v.ObjectEntries }[] = [
      ...[FindRequestSchema, RegistrationSchema, SuccessionRequestSchema, SessionAddressSchema, SessionConfigSchema],
    ];
    for (const { entries } of schemas) expect(Object.keys(entries)).toContain(field);
  }
});

test("fields are checked as options and variables are", () => {
  const faultOf = (request: object): string | undefined =>
    check(FindRequestSchema, { name: "s", ...request }).fault?.message;
  expect(faultOf(settingsOf(session))).toBeUndefined();
  expect(faultOf({})).toBeUndefined();
  expect(faultOf({ processes: 0 })).toBe("processes is 0; a session has 1 or more");
  expect(faultOf({ processes: "2" })).toBe("is missing or not a number");
  expect(faultOf({ size: 2 ** 40 })).toMatch(/^size 1024 GiB is beyond the limit of /);
  expect(faultOf({ order: "weak" })).toBe('there is no order "weak"; choose sequential, release or pipelined');
  expect(faultOf({ onLoss: "cry" })).toBe('invalid on-loss policy "cry"; use fail or continue');
  expect(faultOf({ elastic: 1 })).toBe("is not true or false");
  expect(faultOf({ name: "a/b" })).toBe("the session name has a slash; leave it out");
});

test("a new session has what is asked for, and the defaults; its map is of whole pages", () => {
  expect(settingsOfNew({ processes: 2 })).toEqual({
    ...{ processes: 2, size: 1 << 20, order: "sequential", onLoss: "fail", elastic: false },
  });
  const { name: _, ...all } = session;
  expect(settingsOfNew({ ...session, size: 4097 })).toEqual({ ...all, size: 8192 });
  expect(settingsOfNew({ size: 4096, order: "release" })).toBeNull();
});

test("what asks for nothing is left out", () => {
  expect(wishesOf({ processes: 0, size: undefined, order: "", elastic: false, onLoss: "fail" })).toEqual({
    onLoss: "fail",
  });
});

describe("a request that differs from the session", () => {
  test("is none if it asks for nothing, or for what there is", () => {
    for (const wished of [{}, { processes: 0, size: 0, order: "", onLoss: "", elastic: false } as const, session]) {
      expect(describeMismatch(session, wished)).toBeNull();
    }
    expect(describeMismatch({ ...session, elastic: false }, { elastic: false })).toBeNull();
  });

  test.each([
    ['session "s" is for 3 processes, not 2; give all the same number', { processes: 2 }],
    [
      'session "s" has a map of 8 KiB, not 4 KiB; give all processes the same size (--size 8KiB, or DSM_SIZE=8KiB)',
      { size: 4096 },
    ],
    ['session "s" has the order release, not sequential; give all the same order', { order: "sequential" }],
    ['session "s" answers a loss with continue, not fail; give all the same on_loss', { onLoss: "fail" }],
  ] as const)("is described: %s", (words, wished) => {
    expect(describeMismatch(session, { ...session, ...wished })).toBe(words);
  });

  test("is described: elastic", () => {
    const { elastic: _, ...fixed } = session;
    for (const has of [fixed, { ...fixed, elastic: false }]) {
      expect(describeMismatch(has, session)).toBe('session "s" is not elastic; its first process has to ask for that');
    }
  });
});
