/** What join() makes of its options and the environment. */
import { describe, expect, test } from "bun:test";
import { type JoinOptions, readConfig } from "../../src/client/config.ts";
import { DsmError } from "../../src/core/base/errors.ts";

const environment = {
  DSM_SESSION: "from-env",
  DSM_PROCESSES: "4",
  DSM_SIZE: "64KiB",
  DSM_NODE: "node-env",
  DSM_DAEMON: "10.0.0.1:5000",
  DSM_RANK: "3",
  DSM_JOIN_TIMEOUT_MS: "1000",
  DSM_AUTOSTART: "0",
  DSM_BIN: "/env/dsm",
  DSM_ORDER: "release",
  DSM_ON_LOSS: "continue",
  DSM_ELASTIC: "1",
  DSM_DIRECT: "0",
};

test("everything from the environment", () => {
  expect(readConfig({}, environment)).toEqual({
    session: "from-env",
    processes: 4,
    size: 65536,
    node: "node-env",
    daemon: "10.0.0.1:5000",
    rank: 3,
    joinTimeoutMs: 1000,
    autostart: false,
    binary: "/env/dsm",
    order: "release",
    onLoss: "continue",
    elastic: true,
    direct: false,
  });
});

test("what the code says wins", () => {
  const options: JoinOptions = {
    session: "from-code",
    processes: 2,
    size: "1MiB",
    node: "node-code",
    daemon: "[::1]:4300",
    rank: 0,
    joinTimeoutMs: 5,
    autostart: true,
    binary: "/code/dsm",
    order: "sequential",
    onLoss: "fail",
    elastic: false,
    direct: true,
  };
  expect<object>(readConfig(options, environment)).toEqual({ ...options, size: 2 ** 20 });
});

describe("in a task of Slurm's srun", () => {
  const task = {
    SLURM_JOB_ID: "17",
    SLURM_STEP_ID: "2",
    SLURM_STEP_NUM_TASKS: "4",
    SLURM_STEP_NUM_NODES: "2",
    SLURM_PROCID: "3",
    SLURMD_NODENAME: "n2",
    SLURM_LAUNCH_NODE_IPADDR: "10.0.0.9",
  };

  test("the step is the session, and its daemon where srun was called", () => {
    expect(readConfig({}, task)).toMatchObject({
      ...{ session: "slurm-17.2", processes: 4, rank: 3, node: "n2", daemon: "10.0.0.9:4200" },
    });
    expect(readConfig({}, { ...task, SLURM_STEP_NUM_NODES: "1" }).daemon).toBeNull();
    expect(readConfig({}, { ...task, SLURM_LAUNCH_NODE_IPADDR: "fd00::9" }).daemon).toBe("[fd00::9]:4200");
  });

  test("an explicit value wins, and a process that names a session gives its settings too", () => {
    expect(readConfig({ processes: 8 }, { ...task, DSM_DAEMON: "10.0.0.1:1", DSM_NODE: "own" })).toMatchObject({
      ...{ session: "slurm-17.2", processes: 8, rank: 3, node: "own", daemon: "10.0.0.1:1" },
    });
    for (const named of [readConfig({ session: "s" }, task), readConfig({}, { ...task, DSM_SESSION: "s" })]) {
      expect(named).toMatchObject({ session: "s", processes: 0, rank: -1, node: null, daemon: null });
    }
  });

  test("a batch script is not a process of a job", () => {
    const { SLURM_STEP_ID, SLURM_STEP_NUM_TASKS, ...batch } = task;
    expect(() => readConfig({}, batch)).toThrow("no session named");
  });
});

test("settings that are left out are decided by the library or the session", () => {
  expect(readConfig({ session: "s" }, {})).toEqual({
    session: "s",
    processes: 0,
    size: 0,
    node: null,
    daemon: null,
    rank: -1,
    joinTimeoutMs: 300_000,
    autostart: true,
    binary: null,
    order: null,
    onLoss: null,
    elastic: false,
    direct: true,
  });
});

test("a variable set to nothing, and an option that is undefined, count as not given", () => {
  expect(readConfig({ processes: undefined, session: undefined }, { DSM_SESSION: "s", DSM_SIZE: "" })).toMatchObject({
    session: "s",
    processes: 0,
    size: 0,
  });
});

test("a daemon without a port has the usual one", () => {
  expect(readConfig({ session: "s", daemon: "host" }, {}).daemon).toBe("host:4200");
});

describe("is refused, with what was wrong:", () => {
  const wrong: [string, JoinOptions, Record<string, string>][] = [
    ["no session named; start the program with dsm run", {}, {}],
    ["the session name is empty", { session: "" }, {}],
    ["the session name has a slash", { session: "a/b" }, {}],
    ["the session name has 64 bytes", { session: "x".repeat(64) }, {}],
    ["session is 5; give a string", { session: 5 as never }, {}],
    ["the node name is empty", { session: "s", node: "" }, {}],
    ["processes is 0", { session: "s", processes: 0 }, {}],
    ["processes is 1025; the limit is 1024", { session: "s" }, { DSM_PROCESSES: "1025" }],
    ['DSM_PROCESSES is "many"; give a whole number', { session: "s" }, { DSM_PROCESSES: "many" }],
    ["processes is 1.5; give a whole number", { session: "s", processes: 1.5 }, {}],
    ["size 0 is not possible", { session: "s", size: 0 }, {}],
    ['size "1 flock" is not a number of bytes', { session: "s" }, { DSM_SIZE: "1 flock" }],
    ["is beyond the limit of 4 GiB", { session: "s", size: 2 ** 33 }, {}],
    ["size 1e+300 bytes is beyond the limit of 4 GiB", { session: "s", size: 1e300 }, {}],
    ['size "99999999999999999999" is beyond the limit of 4 GiB', { session: "s", size: "99999999999999999999" }, {}],
    ["size NaN is not a whole number of bytes", { session: "s", size: Number.NaN }, {}],
    ["processes is 1e+300; the limit is 1024", { session: "s", processes: 1e300 }, {}],
    ["processes is 1e+22; the limit is 1024", { session: "s" }, { DSM_PROCESSES: "9999999999999999999999" }],
    ['DSM_PROCESSES is "1e3"; give a whole number', { session: "s" }, { DSM_PROCESSES: "1e3" }],
    ["rank is 1e+300; no session", { session: "s", rank: 1e300 }, {}],
    ["joinTimeoutMs is Infinity; give a whole number", { session: "s", joinTimeoutMs: Number.POSITIVE_INFINITY }, {}],
    ["the session name has a control character (U+0085)", { session: "a\u0085" }, {}],
    ["the node name has a control character (U+2066)", { session: "s", node: "a\u2066" }, {}],
    ["size is true; give a number of bytes or a text", { session: "s", size: true as never }, {}],
    ['DSM_DAEMON is "a:b:c"; give HOST:PORT', { session: "s" }, { DSM_DAEMON: "a:b:c" }],
    ["rank is 4; the last of 4 is 3", { session: "s", processes: 4, rank: 4 }, {}],
    ["rank is -1; ranks begin at 0", { session: "s", rank: -1 }, {}],
    ["joinTimeoutMs is 0; give 1 to", { session: "s", joinTimeoutMs: 0 }, {}],
    ['DSM_AUTOSTART is "yes"; give 1 or 0', { session: "s" }, { DSM_AUTOSTART: "yes" }],
    ['DSM_DIRECT is "no"; give 1 or 0', { session: "s" }, { DSM_DIRECT: "no" }],
    ["direct is 0; give true or false", { session: "s", direct: 0 as never }, {}],
    [
      'order: there is no order "eventual"; choose sequential, release or pipelined',
      { session: "s", order: "eventual" as never },
      {},
    ],
    ['DSM_ORDER: there is no order "Release"', { session: "s" }, { DSM_ORDER: "Release" }],
    ['onLoss: invalid on-loss policy "ignore"; use fail or continue', { session: "s", onLoss: "ignore" as never }, {}],
    ['DSM_ON_LOSS: invalid on-loss policy "Fail"; use', { session: "s" }, { DSM_ON_LOSS: "Fail" }],
    ["order is 2; give a string", { session: "s", order: 2 as never }, {}],
    ['join() has no option "proceses"; did you mean processes?', { session: "s", proceses: 4 } as never, {}],
    ['join() has no option "color"; it has session, processes, size,', { session: "s", color: 4 } as never, {}],
    ['the options of join() are "sum"; give an object, such as', "sum" as never, {}],
  ];
  test.each(wrong)("%s", (message, options, environment) => {
    let error: unknown;
    try {
      readConfig(options, environment);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(DsmError);
    expect((error as DsmError).code).toBe("DSM_INVALID");
    expect((error as DsmError).message).toContain(message);
  });
});
