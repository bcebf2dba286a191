/** readSetting(): options before variables, and one line for what cannot be used, with the name it was given by. */
import { afterEach, expect, test } from "bun:test";
import {
  readAutostart,
  readDaemon,
  readElastic,
  readSessionSettings,
  readSetting,
} from "../../src/cli/settings/options.ts";
import { inheritedEnvironment, travellingEnvironment } from "../../src/core/launch/environment.ts";

const set = new Set<string>();
function environment(variables: Record<string, string>): void {
  for (const [name, value] of Object.entries(variables)) {
    set.add(name);
    process.env[name] = value;
  }
}
afterEach(() => {
  for (const name of set) delete process.env[name];
  set.clear();
});

test("an option wins over its variable, and a variable that is empty is not set", () => {
  environment({ DSM_SIZE: "64KiB", DSM_ORDER: "", DSM_PROCESSES: "3" });
  expect(readSetting("size", "1GiB")).toBe(2 ** 30);
  expect(readSetting("size")).toBe(65536);
  expect(readSetting("order")).toBeUndefined();
  expect(readSetting("processes")).toBe(3);
  expect(readSetting("onLoss", "continue")).toBe("continue");
});

test("flags: both ways by option, 0 or 1 as a variable, and what holds without either", () => {
  expect([readElastic(undefined), readAutostart(undefined)]).toEqual([false, true]);
  environment({ DSM_ELASTIC: "1", DSM_AUTOSTART: "0" });
  expect([readElastic(undefined), readElastic(false)]).toEqual([true, false]);
  // An option that is on by default comes as true when it was not given.
  expect([readAutostart(undefined), readAutostart(true), readAutostart(false)]).toEqual([false, false, false]);
  environment({ DSM_ELASTIC: "0", DSM_AUTOSTART: "1" });
  expect([readElastic(undefined), readElastic(true)]).toEqual([false, true]);
  expect([readAutostart(undefined), readAutostart(false)]).toEqual([true, false]);
});

test("the settings of a session: options, variables, then the saved session", () => {
  const saved = { processes: 4, size: 4096, order: "release", onLoss: "continue", elastic: true } as const;
  expect(readSessionSettings({})).toEqual({});
  expect(readSessionSettings({}, saved)).toEqual(saved);
  environment({ DSM_SIZE: "64KiB", DSM_PROCESSES: "3", DSM_ELASTIC: "0" });
  expect(readSessionSettings({ processes: "2", "on-loss": "fail" }, saved)).toEqual({
    ...{ processes: 2, size: 65536, order: "release", onLoss: "fail", elastic: true },
  });
  expect(readSessionSettings({ elastic: true })).toEqual({ processes: 3, size: 65536, elastic: true });
  expect(() => readSessionSettings({ order: "weak" })).toThrow('there is no order "weak"');
});

test("a daemon's address without a port has the usual one", () => {
  expect(readDaemon("far")).toEqual({ host: "far", port: 4200, address: "far:4200" });
  environment({ DSM_DAEMON: "[::1]:9" });
  expect(readDaemon(undefined)).toEqual({ host: "::1", port: 9, address: "[::1]:9" });
});

for (const [variables, read, message] of [
  [{ DSM_ELASTIC: "yes" }, () => readElastic(undefined), 'DSM_ELASTIC is "yes"; it must be 0 or 1'],
  [{ DSM_AUTOSTART: "no" }, () => readAutostart(undefined), 'DSM_AUTOSTART is "no"; it must be 0 or 1'],
  [{ DSM_PROCESSES: "two" }, () => readSetting("processes"), 'DSM_PROCESSES "two" is not a whole number'],
  [{}, () => readSetting("processes", "two"), '--processes "two" is not a whole number'],
  [{}, () => readSetting("processes", "1025"), "processes is 1025; the limit is 1024"],
  [
    { DSM_HEARTBEAT_TIMEOUT_MS: "99" },
    () => readSetting("heartbeatTimeoutMs"),
    "DSM_HEARTBEAT_TIMEOUT_MS is 99; give 100 to 3600000",
  ],
  [
    { DSM_RECONNECT_TIMEOUT_MS: "3600001" },
    () => readSetting("reconnectTimeoutMs"),
    "DSM_RECONNECT_TIMEOUT_MS is 3600001; give 0 to 3600000",
  ],
  [{ DSM_TLS_CA: "ca.pem" }, () => readSetting("tlsCa"), 'DSM_TLS_CA is "ca.pem"; give an absolute path'],
  [{}, () => readSetting("node", "a/b"), "the node name has a slash; leave it out"],
  [{}, () => readSetting("onLoss", "shrug"), 'invalid on-loss policy "shrug"; use fail or continue'],
] as [Record<string, string>, () => unknown, string][]) {
  test(message, () => {
    environment(variables);
    expect(read).toThrow(message);
  });
}

test("a role that is started inherits what is the user's, and a process on another host what is the session's", () => {
  const all = { PATH: "/bin", DSM_ORDER: "release", DSM_TLS_CA: "/ca", DSM_TOKEN: "t", DSM_RANK: "1", DSM_BIN: "/d" };
  expect(inheritedEnvironment(all)).toEqual({ PATH: "/bin", DSM_TLS_CA: "/ca", DSM_TOKEN: "t" });
  expect(travellingEnvironment(all)).toEqual({ DSM_ORDER: "release", DSM_TLS_CA: "/ca" });
});
