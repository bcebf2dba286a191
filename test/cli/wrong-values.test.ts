/**
 * Values that no command can use, for every option, argument and variable: one line that says so, exit code 2, and nothing
 * was done. An option or argument that is not in the table fails the test.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { COMMANDS } from "../../src/cli/commands/commands.ts";
import { Place, processesWith } from "./dsm.ts";

setDefaultTimeout(120_000);

let place: Place;
beforeAll(() => {
  place = new Place();
});
afterAll(async () => {
  // Nothing has been started that would have to be ended.
  expect(processesWith(place.folder)).toEqual([]);
  await place.close();
});

/** Any value is a value: a file, a folder, an address to listen on, a program. What is wrong with it the machine decides. */
const ANY: readonly Wrong[] = [];

/** A value, what the message says of it, and what else the command line needs so that it is looked at. */
type Wrong = readonly [value: string, says: string, ...more: string[]];

const NAMES = [
  ["a/b", "name has a slash; leave it out"],
  ["", "name is empty"],
] as const satisfies Wrong[];
const ADDRESS = [["a:b:c", 'daemon address "a:b:c" is not HOST:PORT']] as const satisfies Wrong[];

/** By option or argument. */
const WRONG: Record<string, readonly Wrong[]> = {
  processes: [
    ["0", "processes is 0; a session has 1 or more"],
    ["x", '--processes "x" is not a whole number'],
    ["-1", '--processes "-1" is not a whole number'],
    ["1025", "processes is 1025; the limit is 1024"],
  ],
  size: [
    ["foo", 'size "foo" is not a number of bytes'],
    ["0", "size 0 is not possible"],
    ["8GiB", "size 8 GiB is beyond the limit of 4 GiB"],
  ],
  order: [["x", 'there is no order "x"']],
  "on-loss": [["carry", 'invalid on-loss policy "carry"; use fail or continue']],
  session: NAMES,
  node: NAMES,
  daemon: ADDRESS,
  "log-format": [["xml", 'log format "xml" is not possible; use text or json']],
  port: [
    ["http", 'port "http" is not a whole number'],
    ["65536", "port 65536 does not exist"],
  ],
  hosts: [
    ["a:0", "no number of slots; give 1 to 1024"],
    ["a,,b", "has an empty place"],
    ["a:1", "--oversubscribe"],
  ],
  interface: [["nowhere", '"nowhere" is neither an address nor an interface', "--hosts", "127.0.0.1:2"]],
  ssh: [[" ", "--ssh is empty", "--hosts", "127.0.0.1:2"]],
  env: [
    ["=x", '--env "=x" is not NAME or NAME=VALUE'],
    ["DSM_NOT_SET", "there is no such variable here"],
  ],
  instance: [["xyz", 'instance "xyz" is not 16 hex digits']],
  epoch: [["x", 'epoch "x" is not a whole number']],
  predecessor: [["dead", 'predecessor "dead" is not possible; use gone or silent']],
  slot: [
    ["x", 'slot "x" is not a whole number'],
    ["99999999", "slot 99999999 does not exist"],
  ],
  "status-fd": [["x", 'status-fd "x" is not a whole number']],
  interval: [
    ["x", 'interval "x" is not possible; use 0.1 to 60 seconds'],
    ["0", 'interval "0" is not possible'],
  ],
  seconds: [
    ["x", '--seconds is "x"; it must be from 0.1 to'],
    ["0", '--seconds is "0"'],
  ],
  days: [
    ["x", 'days "x" is not a whole number'],
    ["0", "days is 0; it must be from 1 to"],
  ],
  language: [["cobol", 'there is no project for language "cobol"; choose']],
  ...{ hostfile: ANY, restore: ANY, host: ANY, socket: ANY, out: ANY, export: ANY, prefix: ANY },
  ...{
    "tls-ca": ANY,
    "tls-cert": [["a.pem", "give --tls-cert and --tls-key"]],
    "tls-key": [["a.pem", "give --tls-cert"]],
  },
};

/** Arguments, and options that mean something else to one command, as COMMAND NAME. */
const OF_COMMAND: Record<string, readonly Wrong[]> = {
  "run nodes": [
    ["0", "0 nodes for 2 processes; give 1 to 2 nodes"],
    ["x", 'nodes "x" is not a whole number'],
    ["5", "5 nodes for 2 processes; give 1 to 2 nodes"],
    ["1", "--nodes is for simulated nodes", "--hosts", "a,b"],
  ],
  "doctor nodes": [
    ["0", "0 nodes are not possible"],
    ["x", 'nodes "x" is not a whole number'],
  ],
  "run program": ANY,
  "init folder": ANY,
  "sessions name": NAMES,
  "top name": NAMES,
  "why name": NAMES,
  "trace name": NAMES,
  "snapshot name": NAMES,
  "snapshot file": [["", "the name of the file is empty"]],
  "header out": [["", "the name of the file is empty", "state.ts"]],
  "trace out": [["", "the name of the file is empty"]],
  "remove name": NAMES,
  "header module": ANY,
  "cert hosts": [["a_b", '"a_b" is not an address or a host name']],
  "completion shell": [["tcsh", 'there is no completion for shell "tcsh"']],
  "completion words": [["x", 'give the words to complete after "--"', "bash"]],
};

/** What each command needs so that it looks at the values of its options, and what stands behind its arguments. */
const NEEDED: Record<string, { before?: string[]; behind?: string[] }> = {
  run: { before: ["-n", "2"], behind: ["--", "true"] },
  trace: { before: ["--out", "t.json"] },
  snapshot: { behind: ["s.snap"] },
  remove: { behind: ["s"] },
  server: { before: ["--session=s", "--processes=1"] },
  arbiter: { before: ["--session=s", "--processes=1"] },
  cert: { behind: ["a"] },
};

async function refused(args: string[], says: string, variables: Record<string, string> = {}): Promise<void> {
  const { code, stdout, stderr } = await place.dsm(args, variables);
  // An arbiter also tells the library that has started it.
  const told = args[0] === "arbiter" ? stdout.replace(/^error DSM_INVALID [^\n]*\n/, "") : stdout;
  const line = stderr.replace(/\n$/, "");
  expect({ args, code, told, lines: line.split("\n").length }).toEqual({ args, code: 2, told: "", lines: 1 });
  expect(line).toStartWith("dsm: ");
  expect(line).toContain(says);
}

for (const [name, load] of Object.entries(COMMANDS)) {
  test(`dsm ${name}`, async () => {
    const { before = [], behind = [] } = NEEDED[name] ?? {};
    const { args } = await load();
    for (const [option, { type }] of Object.entries(args as Record<string, { type: string }>)) {
      if (type === "boolean") continue;
      const wrong = OF_COMMAND[`${name} ${option}`] ?? WRONG[option];
      expect({ name, option, wrong }).toMatchObject({ wrong: expect.any(Array) });
      for (const [value, says, ...more] of wrong ?? []) {
        const given =
          type === "positional"
            ? [...more, value, ...(name === "snapshot" && option === "name" ? behind : [])]
            : [`--${option}=${value}`, ...more, ...behind];
        await refused([name, ...before, ...given], says);
      }
    }
  });
}

test("-n, as --processes", async () => {
  for (const value of ["0", "x", "1025"]) await refused(["run", "-n", value, "--", "true"], value);
});

test("variables, as the options that they stand for", async () => {
  for (const [variable, value, says] of [
    ["DSM_SIZE", "foo", 'size "foo" is not a number of bytes'],
    ["DSM_ORDER", "x", 'there is no order "x"'],
    ["DSM_ON_LOSS", "carry", "invalid on-loss policy"],
    ["DSM_ELASTIC", "yes", 'DSM_ELASTIC is "yes"; it must be 0 or 1'],
    ["DSM_TLS_OFF", "yes", 'DSM_TLS_OFF is "yes"; it must be 0 or 1'],
    // Those that dsm run itself does not need, and its processes do.
    ["DSM_DIRECT", "yes", 'DSM_DIRECT is "yes"; it must be 0 or 1'],
    ["DSM_QUIET", "yes", 'DSM_QUIET is "yes"; it must be 0 or 1'],
    ["DSM_PRELOAD", "no", 'DSM_PRELOAD is "no"; it must be 0 or 1'],
    ["DSM_BURST", "no", 'DSM_BURST is "no"; it must be 0 or 1'],
    ["DSM_AUTOSTART", "no", 'DSM_AUTOSTART is "no"; it must be 0 or 1'],
    ["DSM_JOIN_TIMEOUT_MS", "2s", 'DSM_JOIN_TIMEOUT_MS "2s" is not a whole number of milliseconds'],
    ["DSM_JOIN_TIMEOUT_MS", "0", "DSM_JOIN_TIMEOUT_MS is 0; give 1 to 4294967295"],
    ["DSM_RECONNECT_TIMEOUT_MS", "1.5", "not a whole number of milliseconds"],
    ["DSM_HEARTBEAT_TIMEOUT_MS", "5", "DSM_HEARTBEAT_TIMEOUT_MS is 5; give 100 to 3600000"],
    ["DSM_SESSION", "a/b", "has a slash"],
    ["DSM_DAEMON", "a:b:c", "is not HOST:PORT"],
  ] as const) {
    await refused(["run", "-n", "2", "--", "true"], says, { [variable]: value });
  }
  await refused(["sessions"], "DSM_TOKEN cannot be used", { DSM_TOKEN: "short" });
});

test("a file that cannot be used is no wrong command line", async () => {
  const absent = join(place.folder, "absent");
  for (const args of [
    ["run", "-n", "1", "--restore", absent, "--", "true"],
    ["run", "-n", "1", "--hostfile", absent, "--", "true"],
    ["server", "--restore", absent],
    ["header", absent],
    ["uninstall", "--prefix", absent],
  ]) {
    const { code, stderr } = await place.dsm(args);
    expect({ args, code }).toEqual({ args, code: 1 });
    expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
  }
  expect(existsSync(absent)).toBe(false);
});
