/** Which session a command takes: the named one, or the only one. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import snapshot from "../../src/cli/commands/snapshot.ts";
import why from "../../src/cli/commands/why.ts";
import { findSession } from "../../src/cli/find-session.ts";
import { alignPositionals, LEFT_OUT, UsageError } from "../../src/cli/settings/options.ts";
import { NOTHING_KNOWN, type SessionDetail } from "../../src/core/messages/daemon-api.ts";
import { type Child, Place, until } from "./dsm.ts";

setDefaultTimeout(120_000);

const detail = (name: string): SessionDetail => ({
  ...NOTHING_KNOWN,
  ...{ name, instance: "1", epoch: 1, host: "127.0.0.1", port: 1, pid: 7, spawned: true, answered: true },
  ...{ processes: 1, size: 1 << 20, order: "sequential", onLoss: "fail", elastic: false },
});

function source(...names: string[]): Parameters<typeof findSession>[0] {
  return {
    daemon: {
      list: async () => names.map(detail),
      get: async (name) => (names.includes(name) ? detail(name) : null),
    },
    address: "127.0.0.1:4200",
  };
}

async function problem(given: string | undefined, ...names: string[]): Promise<Error> {
  return await findSession(source(...names), given).then(
    ({ name }) => Promise.reject(new Error(`took ${name}`)),
    (error: Error) => error,
  );
}

describe("findSession", () => {
  test("takes the named one of several", async () => {
    expect((await findSession(source("a", "b"), "b")).name).toBe("b");
  });

  test("says which there are where none is named", async () => {
    const several = await problem(undefined, "b", "a", "c");
    expect(several).toBeInstanceOf(UsageError);
    expect(several.message).toBe('3 sessions run at 127.0.0.1:4200; give the name of one: "a", "b" or "c"');
    const many = await problem(undefined, ...Array.from({ length: 1200 }, (_, i) => `s${1000 + i}`));
    expect(many.message).toStartWith('1,200 sessions run at 127.0.0.1:4200; give the name of one: "s1000", "s1001"');
    expect(many.message).toEndWith('"s1007" and 1,192 more');
  });

  test("says that no session runs, or none with that name", async () => {
    expect((await problem(undefined)).message).toBe("no session runs at 127.0.0.1:4200");
    expect((await problem("x", "a")).message).toBe('there is no session "x" at 127.0.0.1:4200; see "dsm sessions"');
    expect((await problem("", "a")).message).toContain("name");
  });
});

test("an argument that may be left out stands before one that may not", () => {
  const aligned = (...args: string[]): string[] => alignPositionals(args, snapshot.args);
  expect(aligned("heat", "heat.snap")).toEqual(["heat", "heat.snap"]);
  expect(aligned("heat.snap")).toEqual([LEFT_OUT, "heat.snap"]);
  expect(aligned("--daemon", "h:1", "heat.snap", "--json")).toEqual([
    ...["--daemon", "h:1", LEFT_OUT, "heat.snap", "--json"],
  ]);
  expect(aligned("--json", "--", "-file")).toEqual(["--json", "--", LEFT_OUT, "-file"]);
  expect(aligned()).toEqual([]);
  expect(alignPositionals(["--json"], why.args)).toEqual(["--json"]);
  expect(alignPositionals(["heat"], why.args)).toEqual(["heat"]);
});

describe("commands without a name", () => {
  let place: Place;
  const children: Child[] = [];
  beforeAll(() => {
    place = new Place();
    writeFileSync(
      join(place.folder, "wait.ts"),
      `import { join } from "dsm";
const session = await join({ direct: false });
session.view(Int32Array)[5] = 7;
console.log("up");
await new Promise(() => setInterval(() => {}, 1e9));
`,
    );
  });
  afterAll(async () => {
    for (const child of children) child.kill();
    await Promise.all(children.map((child) => child.exited));
    await place.close();
  });
  async function start(...options: string[]): Promise<void> {
    const child = place.spawn(["run", "-n1", ...options, "--", join(place.folder, "wait.ts")]);
    children.push(child);
    await until(child.stdout, "up\n");
  }

  test("take the only session and say which it is; of several they take none", async () => {
    await start();
    const sessions = JSON.parse((await place.dsm(["sessions", "--json"])).stdout) as { sessions: { name: string }[] };
    const name = sessions.sessions[0]?.name as string;
    // dsm run has named it, shortly enough to type.
    expect(name).toMatch(/^run-[0-9a-hjkmnp-tv-z]{8}$/);
    const note = `dsm: session "${name}", the only one at ${place.daemonAddress}\n`;
    const asked = await place.dsm(["why"]);
    expect(asked).toMatchObject({ code: 0, stderr: note });
    expect(asked.stdout).toStartWith("no process waits: 1 process runs");
    const trace = join(place.folder, "trace.json");
    const traced = await place.dsm(["trace", "--out", trace, "--seconds", "0.1"]);
    expect(traced).toMatchObject({ code: 0, stderr: note });
    expect(traced.stdout).toMatch(new RegExp(`^\\d+ events? of session "${name}" in [\\d.]+ m?s: [\\d.]+ \\w+ in `));
    expect(JSON.parse(readFileSync(trace, "utf8"))).toMatchObject({ displayTimeUnit: "ms" });
    const file = join(place.folder, "only.snap");
    const saved = await place.dsm(["snapshot", file, "--daemon", place.daemonAddress]);
    expect(saved).toMatchObject({ code: 0, stderr: note });
    expect(saved.stdout).toMatch(
      new RegExp(`^session "${name}" after [\\d,]+ entr(y|ies): [\\d.]+ \\w+ in ${file}\n$`),
    );
    const meant = await place.dsm(["snapshot", name]);
    expect(meant).toMatchObject({ code: 2, stdout: "" });
    expect(meant.stderr).toBe(
      `dsm: FILE is missing: "${name}" is a session; give a file after it, or ./${name} for that file\n`,
    );

    await start("--session=heat");
    for (const command of [["why"], ["trace", "--out", `${trace}2`], ["snapshot", `${file}2`]]) {
      const refused = await place.dsm(command);
      expect({ command, ...refused }).toMatchObject({ code: 2, stdout: "" });
      expect(refused.stderr).toBe(
        `dsm: 2 sessions run at ${place.daemonAddress}; give the name of one: "heat" or "${name}"\n`,
      );
    }
    expect([existsSync(`${trace}2`), existsSync(`${file}2`)]).toEqual([false, false]);
  });
});
