/** However a run ends, nothing of it stays: no process, socket, map or session. And `dsm doctor`. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import { daemonClient } from "../../src/cli/user-daemon-client.ts";
import { arbiterKey, arbiterSocketPath } from "../../src/core/base/names.ts";
import { type Child, gone, outcome, Place, processesWith, until } from "./dsm.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(60_000);

const SESSION = "leftover";
const NODES = [`${hostname()}-0`, `${hostname()}-1`];

let place: Place;
let script: string;
beforeEach(() => {
  place = new Place();
  script = join(place.folder, "script.ts");
});
afterEach(() => place.close());

/** Starts the program text as two processes on two nodes. */
function start(program: string): Child {
  writeFileSync(script, program);
  return place.spawn(["run", "-n2", "--nodes=2", "--session", SESSION, "--tag", script]);
}

async function expectNothingLeft(): Promise<void> {
  const directory = daemonClient({ address: place.daemonAddress, autostart: false });
  const keys = NODES.map((node) => arbiterKey(place.daemonAddress, SESSION, node));
  const maps = (): string[] => readdirSync("/dev/shm").filter((name) => keys.some((key) => name.includes(key)));
  const sockets = NODES.map((node) => arbiterSocketPath(join(place.folder, "dsm"), place.daemonAddress, SESSION, node));
  expect(processesWith(script)).toEqual([]);
  // Arbiters and server end on their own, once they have seen the last process go.
  await gone(() => sockets.some((path) => existsSync(path)) || maps().length > 0);
  await gone(() => processesWith(place.daemonAddress).some((pid) => processesWith(SESSION).includes(pid)));
  expect(await directory.get(SESSION)).toBeNull();
}

const JOINED = `import { join } from "dsm";
const session = await join();
session.view(Float64Array)[session.rank] = 1;
await session.barrier();
`;
const WAIT = 'console.log("up");\nawait session.semaphore("never", 0).wait();\n';

describe("nothing is left", () => {
  test("when all goes well", async () => {
    const { code, stdout } = await outcome(start(`${JOINED}console.log(session.view(Float64Array)[1]);\n`));
    expect(stdout.trimEnd().split("\n").sort()).toEqual(["[0] 1", "[1] 1"]);
    expect(code).toBe(0);
    await expectNothingLeft();
  });

  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    test(`after ${signal}`, async () => {
      const child = start(JOINED + WAIT);
      await until(child.stdout, "[0] up", "[1] up");
      child.kill(signal);
      expect(await child.exited).toBe(code);
      await expectNothingLeft();
    });
  }

  test("when one process dies", async () => {
    const { code } = await outcome(start(`${JOINED}if (session.rank === 1) process.kill(process.pid, 9);\n${WAIT}`));
    expect(code).toBe(137);
    await expectNothingLeft();
  });

  test("when one fails before the session has begun", async () => {
    const joined = join(place.folder, "joining");
    const program = `import { existsSync, writeFileSync } from "node:fs";
if (process.env.DSM_RANK === "1") {
  for (let looks = 0; !existsSync(${JSON.stringify(joined)}) && looks < 12_000; looks++) await Bun.sleep(5);
  process.exit(existsSync(${JSON.stringify(joined)}) ? 3 : 4);
}
const { join } = await import("dsm");
const joining = join();
writeFileSync(${JSON.stringify(joined)}, "");
await joining;
`;
    expect((await outcome(start(program))).code).toBe(3);
    await expectNothingLeft();
  });
});

describe("dsm doctor", () => {
  test("finds that this machine can run dsm", async () => {
    const { code, stdout } = await place.dsm(["doctor", "--json"]);
    const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: Array<{ check: string; state: string }> };
    expect(findings.filter(({ state }) => state === "failure")).toEqual([]);
    expect(findings).toContainEqual(expect.objectContaining({ check: "trapped store", state: "ok" }));
    expect(ok).toBe(true);
    expect(code).toBe(0);
    const text = await place.dsm(["doctor"]);
    expect(text.stdout).toMatch(/^ok +trapped store +captured/m);
    expect(text.code).toBe(0);
  });

  test("says what to do about each thing that is wrong", async () => {
    const stranger = createServer((socket) =>
      socket.on("data", () => socket.end("nonsense\r\n")).on("error", () => {}),
    );
    await new Promise<void>((resolve) => stranger.listen(4200, place.host, resolve));
    const { code, stdout } = await place.dsm(["doctor", "--json"], { XDG_RUNTIME_DIR: `/${"x".repeat(200)}` });
    stranger.close();
    const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: Array<Record<string, string>> };
    expect(ok).toBe(false);
    expect(code).toBe(1);
    const daemon = findings.find(({ check }) => check === "daemon");
    expect(daemon?.state).toBe("failure");
    expect(daemon?.found).toContain("something other than a dsm daemon");
    expect(findings.filter(({ state, advice }) => state !== "ok" && !advice)).toEqual([]);
  });
});
