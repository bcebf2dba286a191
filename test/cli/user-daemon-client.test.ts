/** Roles, the directory's client and the reporting commands: autostart, taken ports, strangers on them. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COMMANDS } from "../../src/cli/commands/commands.ts";
import { daemonClient } from "../../src/cli/user-daemon-client.ts";
import { PROTOCOL_VERSION } from "../../src/core/base/limits.ts";
import type { SessionDetail } from "../../src/core/messages/daemon-api.ts";
import { errorOf } from "../support/error-of.ts";
import { type Child, outcome, Place, until } from "./dsm.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(60_000);

let place: Place;
let children: Child[];
let servers: Server[];
beforeEach(() => {
  place = new Place();
  children = [];
  servers = [];
});
afterEach(async () => {
  for (const server of servers) server.close();
  await place.close();
  for (const child of children) {
    child.kill();
    await child.exited;
  }
});

function keep(child: Child): Child {
  children.push(child);
  return child;
}

async function daemon(): Promise<Child> {
  const child = keep(place.spawn(["daemon", "--host", place.host]));
  await until(child.stdout, `listening on ${place.daemonAddress}`);
  return child;
}

/** Something that is no dsm daemon, at the daemon's address. */
async function stranger(answer: string | null): Promise<void> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    if (answer === null) socket.destroy();
    else socket.on("data", () => socket.end(answer));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(4200, place.host, resolve));
}

describe("dsm daemon", () => {
  test("says where it listens, answers, and ends on SIGTERM; sessions go on", async () => {
    const child = await daemon();
    const directory = daemonClient({ address: place.daemonAddress, autostart: false });
    await directory.find({ name: "goes-on", processes: 2 });
    const { pid } = (await directory.get("goes-on")) as SessionDetail;
    child.kill("SIGTERM");
    await child.exited;
    expect(child.exitCode).toBe(0);
    expect(await child.stderr.text()).toContain("sessions that are running go on");
    expect(process.kill(pid, 0)).toBe(true);
    process.kill(pid, "SIGTERM");
  });

  test("a second one on the port says that the first is there", async () => {
    const { pid } = await daemon();
    const { code, stderr, stdout } = await place.dsm(["daemon", "--host", place.host]);
    expect(code).toBe(1);
    expect(stderr).toContain(`a dsm daemon is already running at ${place.daemonAddress} (process ${pid})`);
    expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
    expect(stdout).toBe("");
  });

  test("a port of another program is reported differently", async () => {
    await stranger("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    const { code, stderr } = await place.dsm(["daemon", "--host", place.host]);
    expect(code).toBe(1);
    expect(stderr).toContain(`something else is listening on ${place.daemonAddress}`);
  });
});

describe("autostart", () => {
  const find = (name: string, notes: string[] = []): Promise<unknown> => {
    const { daemonAddress: address } = place;
    return daemonClient({ address, autostart: true, note: (text) => notes.push(text) }).find({ name, processes: 1 });
  };

  test("starts a daemon and says so", async () => {
    const notes: string[] = [];
    await find("auto", notes);
    expect(notes).toEqual([expect.stringContaining(`started a session daemon at ${place.daemonAddress}`)]);
    const health = await daemonClient({ address: place.daemonAddress, autostart: false }).health();
    expect(health.autostarted).toBe(true);
    await find("more", notes);
    expect(notes).toHaveLength(1);
  });

  test("many at once end up with one daemon", async () => {
    const notes: string[] = [];
    await Promise.all(Array.from({ length: 6 }, (_, index) => find(`many-${index}`, notes)));
    expect(notes).toHaveLength(1);
    const sessions = await daemonClient({ address: place.daemonAddress, autostart: false }).list();
    expect(sessions).toHaveLength(6);
  });

  test("does not happen where it is turned off, or at another host", async () => {
    const off = daemonClient({ address: place.daemonAddress, autostart: false });
    const error = await errorOf(off.find({ name: "a", processes: 1 }));
    expect(error.code).toBe("DSM_UNREACHABLE");
    expect(error.message).toContain(place.daemonAddress);
    expect(error.message).toContain("dsm daemon");
    const far = daemonClient({ address: "dsm.invalid:4200", autostart: true });
    expect((await errorOf(far.health())).message).toContain("dsm.invalid:4200");
  });
});

describe("other programs at the daemon's address", () => {
  for (const [what, answer] of [
    ["a web server", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"],
    ["a web server that knows no such page", "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"],
    ["a JSON service", 'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"service":"db"}'],
    ["something that speaks no HTTP", "SSH-2.0-OpenSSH_9.2\r\n"],
    ["something that hangs up", null],
  ] as const) {
    test(what, async () => {
      await stranger(answer);
      const error = await errorOf(daemonClient({ address: place.daemonAddress, autostart: true }).health());
      expect(error.code).toBe("DSM_PROTOCOL");
      expect(error.message).toContain(`something other than a dsm daemon is listening on ${place.daemonAddress}`);
      expect(error.message).not.toContain("\n");
    });
  }

  describe("a daemon whose answers are damaged", () => {
    const address = {
      ...{ name: "s", instance: "00000000000000aa", epoch: 1, host: "127.0.0.1", port: 9, processes: 1, size: 4096 },
      ...{ order: "sequential", onLoss: "fail", elastic: false },
    };
    const status = {
      ...{ direct: false, started: true, present: 0, entries: 0, bytes: 0, ranks: [], time_ms: 0, started_ms: 0 },
      ...{ barriers: 0, logBytes: 0, semaphores: [], semaphoresLeftOut: 0, locks: [], locksLeftOut: 0 },
      ...{ objects: [], objectsLeftOut: 0, blocks: [], blocksLeftOut: 0 },
    };
    const detail = { ...address, ...status, pid: 1, spawned: true, answered: true };
    const health = { service: "dsm", version: "0.1.0", protocol: PROTOCOL_VERSION, pid: 1, autostarted: false };

    /** Answers calls but the first with `body`. */
    async function liar(body: unknown): Promise<ReturnType<typeof daemonClient>> {
      const server = createServer((socket) => {
        socket.on("error", () => {});
        socket.on("data", (request) => {
          const text = JSON.stringify(String(request).includes("/v1/health") ? health : body);
          socket.end(
            `HTTP/1.1 200 OK\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
          );
        });
      });
      servers.push(server);
      await new Promise<void>((resolve) => server.listen(4200, place.host, resolve));
      return daemonClient({ address: place.daemonAddress, autostart: false });
    }

    test("what is good is taken, and cannot write to a terminal", async () => {
      const directory = await liar({
        ...detail,
        ranks: [],
        semaphores: [{ name: "a\u009b2Jb", value: 0, waiters: [] }],
      });
      expect((await directory.get("s"))?.semaphores).toEqual([{ name: "a 2Jb", value: 0, waiters: [] }]);
      expect(await directory.find({ name: "s" })).toMatchObject(address);
    });

    for (const [field, lie] of [
      ["name", "a/b"],
      ["host", "a b"],
      ["host", null],
      ["port", 1e300],
      ["port", "9"],
      ["processes", 0],
      ["size", null],
      ["order", "any"],
      ["onLoss", 1],
      ["elastic", "no"],
      ["epoch", 0],
      ["instance", {}],
    ] as const) {
      test(`${field} is ${JSON.stringify(lie)}`, async () => {
        const { name, ...rest } = { ...detail, slot: 0 } as never as { name: string } & object;
        const directory = await liar({ ...detail, [field]: lie, sessions: [{ ...detail, [field]: lie }] });
        const request = { name, ...rest } as never;
        for (const call of [
          directory.find({ name: "s" }),
          directory.findOrStartSuccessor(request),
          directory.list(),
          directory.get("s"),
        ]) {
          expect((await errorOf(call)).code).toBe("DSM_PROTOCOL");
        }
      });
    }
  });

  test("a daemon of another version", async () => {
    const body = JSON.stringify({ service: "dsm", version: "9.9.9", protocol: 99, pid: 1, autostarted: false });
    await stranger(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    const error = await errorOf(daemonClient({ address: place.daemonAddress, autostart: true }).list());
    expect(error.code).toBe("DSM_VERSION");
    expect(error.message).toContain("version 99");
  });
});

describe("dsm sessions and dsm remove", () => {
  test("list, show and end", async () => {
    await daemon();
    expect((await place.dsm(["sessions"])).stdout).toBe(`no sessions at ${place.daemonAddress}\n`);
    const directory = daemonClient({ address: place.daemonAddress, autostart: false });
    await directory.find({ name: "shown", processes: 3, size: 65536 });
    const list = await place.dsm(["sessions"]);
    expect(list.stdout).toMatch(/^SESSION +PROCESSES +SIZE/);
    expect(list.stdout).toMatch(/^shown +3 +64 KiB/m);
    const listed = JSON.parse((await place.dsm(["sessions", "--json"])).stdout);
    expect(listed.sessions).toEqual([expect.objectContaining({ name: "shown", processes: 3, size: 65536 })]);
    expect((await place.dsm(["sessions", "shown"])).stdout).toMatch(/^processes +0 of 3$/m);
    const shown = JSON.parse((await place.dsm(["sessions", "shown", "--json"])).stdout);
    expect(shown).toMatchObject({ name: "shown", answered: true, present: 0 });

    expect((await place.dsm(["remove", "shown"])).code).toBe(0);
    for (const command of ["sessions", "remove"]) {
      const { code, stderr } = await place.dsm([command, "shown"]);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^dsm: there is no session "shown" [^\n]+\n$/);
    }
  });

  test("without a daemon that is the error", async () => {
    const { code, stderr } = await place.dsm(["sessions"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^dsm: the session daemon at [^\n]+ cannot be reached: [^\n]+\n$/);
  });
});

describe("dsm server by hand", () => {
  test("registers, refuses a rival, and takes itself off", async () => {
    await daemon();
    const args = ["server", "--session", "hand", "--processes", "2", "--host", place.host];
    const child = keep(place.spawn(args));
    await until(child.stdout, 'session "hand" is listening on');
    const directory = daemonClient({ address: place.daemonAddress, autostart: false });
    expect(await directory.get("hand")).toMatchObject({ pid: child.pid, spawned: false, answered: true });
    const rival = await place.dsm(args);
    expect(rival.code).toBe(1);
    expect(rival.stderr).toContain('"hand" is already running');
    child.kill("SIGTERM");
    await child.exited;
    expect(child.exitCode).toBe(0);
    expect(await directory.get("hand")).toBeNull();
  });

  test("can be ended through the daemon", async () => {
    await daemon();
    const child = keep(place.spawn(["server", "--session=hand", "--processes=2", "--host", place.host]));
    await until(child.stdout, "listening");
    expect((await place.dsm(["remove", "hand"])).code).toBe(0);
    expect(await child.exited).toBe(0);
  });
});

describe("dsm arbiter", () => {
  test("reports its start on its status descriptor, and its errors there too", async () => {
    await daemon();
    const folder = mkdtempSync(join(tmpdir(), "dsm-arbiter-"));
    const socket = join(folder, "socket");
    const args = ["arbiter", "--session", "a", "--node", "n", "--socket", socket, "--status-fd", "1", "--no-autostart"];
    const child = keep(place.spawn([...args, "--processes", "1"]));
    expect(await until(child.stdout, "\n")).toBe("ready\n");
    expect(existsSync(socket)).toBe(true);
    const other = await outcome(place.spawn([...args, "--processes", "2"]));
    expect(other.code).toBe(1);
    expect(other.stdout).toMatch(/^error DSM_MISMATCH [^\n]+\n$/);
    expect(other.stderr).toBe("");
    child.kill("SIGTERM");
    await child.exited;
    expect(existsSync(socket)).toBe(false);
    rmSync(folder, { recursive: true });
  });

  test("starts a daemon if none runs, and says so first", async () => {
    const socket = join(place.folder, "socket");
    const args = ["arbiter", "--session=a", "--node=n", "--processes=1", `--socket=${socket}`, "--status-fd=1"];
    const refused = await place.dsm([...args, "--no-autostart"]);
    expect(refused.stdout).toMatch(/^error DSM_UNREACHABLE [^\n]+\n$/);
    const child = keep(place.spawn(args));
    const said = await until(child.stdout, "ready\n");
    expect(said).toMatch(/^note started a session daemon at [^\n]+\nready\n$/);
  });
});

describe("the command line", () => {
  test("help and version", async () => {
    expect((await place.dsm(["--version"])).stdout).toBe("0.1.0\n");
    const help = await place.dsm(["--help"]);
    expect(help.code).toBe(0);
    for (const command of Object.keys(COMMANDS)) expect(help.stdout).toContain(`\n  ${command} `);
  });

  test("what does not exist is one line with exit code 2", async () => {
    for (const [args, text] of [
      [["frobnicate"], 'unknown command "frobnicate"'],
      [["daemon", "--prot", "1"], "--prot"],
      [["daemon", "--port"], "--port"],
      [["sessions", "a", "b"], 'unexpected argument "b"'],
      [["server"], "--session NAME"],
      [["remove"], "SESSION"],
    ] as const) {
      const { code, stderr } = await place.dsm([...args]);
      expect([args, code]).toEqual([args, 2]);
      expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
      expect(stderr).toContain(text);
    }
    expect((await place.dsm([])).code).toBe(2);
  });
});
