/** The daemon's HTTP API, with real servers behind it. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { HTTP_PROOF_HEADER, readChallenge } from "../../src/core/access/auth.ts";
import { ADDRESS_SLOTS, ADDRESS_WIDE_SLOTS, PROTOCOL_VERSION, VERSION } from "../../src/core/base/limits.ts";
import type { SessionAddress, SessionDetail, SessionSummary } from "../../src/core/messages/daemon-api.ts";
import { type Daemon, type DaemonOptions, startDaemon } from "../../src/daemon/daemon.ts";
import { signed, signedFetch } from "../support/signed-fetch.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(60_000);

const SERVER_COMMAND = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts"), "server"];

const TEXT = "0123456789abcdef";
const TOKEN = new TextEncoder().encode(TEXT);
const SECURITY = { token: TOKEN, always: true, tls: null };

interface Running {
  daemon: Daemon;
  url: string;
  /** Resolves when the daemon has logged a line that has `text` in it. */
  logged(text: string): Promise<string>;
}

const running: Running[] = [];

function start(options: Partial<DaemonOptions> = {}): Running {
  const lines: string[] = [];
  let waiting: Array<{ text: string; resolve: (line: string) => void }> = [];
  const daemon = startDaemon({
    host: "127.0.0.1",
    port: 0,
    serverCommand: SERVER_COMMAND,
    autostarted: false,
    log(line) {
      lines.push(line);
      for (const { text, resolve } of waiting) if (line.includes(text)) resolve(line);
      waiting = waiting.filter(({ text }) => !line.includes(text));
    },
    ...options,
  });
  const started: Running = {
    daemon,
    url: `http://127.0.0.1:${daemon.port}/v1`,
    logged(text) {
      const line = lines.find((one) => one.includes(text));
      if (line !== undefined) return Promise.resolve(line);
      return new Promise((resolve) => waiting.push({ text, resolve }));
    },
  };
  running.push(started);
  return started;
}

/** Ends every session and the daemons: no server outlives its test. */
async function stopAll(): Promise<void> {
  for (const { daemon, url } of running.splice(0)) {
    let ask = (method: string, at: string): Promise<Response> => fetch(at, { method });
    if ((await ask("GET", `${url}/health`).catch(() => null))?.status === 401) {
      ask = (method, at) => signedFetch(TOKEN, method, at);
    }
    const answer = await ask("GET", `${url}/sessions`).catch(() => null);
    const { sessions } = answer ? ((await answer.json()) as { sessions: SessionSummary[] }) : { sessions: [] };
    for (const { name } of sessions) await ask("DELETE", `${url}/sessions/${encodeURIComponent(name)}`);
    daemon.stop();
    await daemon.ended;
  }
}

async function send(method: string, url: string, body?: unknown): Promise<{ status: number; body: unknown }> {
  const response = await fetch(url, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text) };
}

function problem(body: unknown): { code: string; message: string } {
  return (body as { error: { code: string; message: string } }).error;
}

const alive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

let daemon: Running;
beforeEach(() => {
  daemon = start();
});
afterEach(stopAll);

describe("health", () => {
  test("reports version and process", async () => {
    const { status, body } = await send("GET", `${daemon.url}/health`);
    expect(status).toBe(200);
    expect(body).toEqual({
      ...{ service: "dsm", version: VERSION, protocol: PROTOCOL_VERSION, pid: process.pid, autostarted: false },
    });
  });
});

describe("create or find", () => {
  test("starts a server for a new name, and finds it at the next request", async () => {
    const created = await send("POST", `${daemon.url}/sessions`, { name: "a b", processes: 2, size: 5000 });
    expect(created.status).toBe(201);
    const address = created.body as SessionAddress;
    expect(address).toMatchObject({ name: "a b", host: "127.0.0.1", processes: 2, size: 8192 });
    expect(address.instance).toMatch(/^[0-9a-f]{16}$/);

    expect(await send("POST", `${daemon.url}/sessions`, { name: "a b" })).toEqual({ status: 200, body: address });
    const same = { name: "a b", processes: 2, size: 8192 };
    expect(await send("POST", `${daemon.url}/sessions`, same)).toEqual({ status: 200, body: address });

    const list = await send("GET", `${daemon.url}/sessions`);
    const [summary] = (list.body as { sessions: SessionSummary[] }).sessions;
    expect(summary).toEqual({ ...address, pid: expect.any(Number), spawned: true });

    const detail = (await send("GET", `${daemon.url}/sessions/a%20b`)).body as SessionDetail;
    expect(detail).toMatchObject({ ...summary, answered: true, started: false, present: 0, entries: 0, ranks: [] });
  });

  test("starts one server for many concurrent requests", async () => {
    const request = { name: "crowd", processes: 3 };
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => send("POST", `${daemon.url}/sessions`, request)),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(11);
    expect(new Set(answers.map(({ body }) => (body as SessionAddress).instance)).size).toBe(1);
  });

  test("gives every session its own address slot", async () => {
    const names = ["one", "two", "three"];
    await Promise.all(names.map((name) => send("POST", `${daemon.url}/sessions`, { name, processes: 1 })));
    const { sessions } = (await send("GET", `${daemon.url}/sessions`)).body as { sessions: SessionSummary[] };
    const slots = sessions.map(({ pid }) => /--slot=(\d+)/.exec(readFileSync(`/proc/${pid}/cmdline`, "utf8"))?.[1]);
    expect(slots.sort()).toEqual([0, 1, 2].map((slot) => String(ADDRESS_WIDE_SLOTS + slot)));
  });

  test("refuses other numbers than the session has", async () => {
    await send("POST", `${daemon.url}/sessions`, { name: "s", processes: 2, size: 4096 });
    const processes = await send("POST", `${daemon.url}/sessions`, { name: "s", processes: 3 });
    expect(processes.status).toBe(409);
    expect(problem(processes.body).code).toBe("DSM_MISMATCH");
    expect(problem(processes.body).message).toContain("is for 2 processes, not 3");
    const size = await send("POST", `${daemon.url}/sessions`, { name: "s", size: 4097 });
    expect(size.status).toBe(409);
    expect(problem(size.body).message).toContain("4 KiB, not 8 KiB");
  });

  test("does not start a session without a number of processes", async () => {
    const { status, body } = await send("POST", `${daemon.url}/sessions`, { name: "nobody" });
    expect(status).toBe(404);
    expect(problem(body).message).toContain('no session "nobody"');
  });

  test("replaces an instance that is known to have ended, once", async () => {
    const request = { name: "again", processes: 1 };
    const first = (await send("POST", `${daemon.url}/sessions`, request)).body as SessionAddress;
    const { pid } = (await send("GET", `${daemon.url}/sessions/again`)).body as SessionDetail;
    const after = { ...request, after: first.instance };
    const next = await Promise.all([1, 2, 3].map(() => send("POST", `${daemon.url}/sessions`, after)));
    process.kill(pid, "SIGTERM");
    const instances = new Set(next.map(({ body }) => (body as SessionAddress).instance));
    expect(instances.size).toBe(1);
    expect(instances.has(first.instance)).toBe(false);
    expect(next.map(({ status }) => status).sort()).toEqual([200, 200, 201]);
  });

  test("says why a server did not start", async () => {
    const broken = start({ serverCommand: ["sh", "-c", "echo first >&2; echo 'dsm: no luck today' >&2; exit 1"] });
    const { status, body } = await send("POST", `${broken.url}/sessions`, { name: "x", processes: 1 });
    expect(status).toBe(503);
    expect(problem(body).message).toContain("no luck today");
    expect((await send("GET", `${broken.url}/sessions`)).body).toEqual({ sessions: [] });
    const missing = start({ serverCommand: ["/nonexistent/dsm"] });
    const other = await send("POST", `${missing.url}/sessions`, { name: "x", processes: 1 });
    expect(other.status).toBe(503);
    expect(problem(other.body).message).toContain("ENOENT");
  });
});

describe("servers that end", () => {
  test("a killed server is forgotten, and its name is free", async () => {
    const first = (await send("POST", `${daemon.url}/sessions`, { name: "k", processes: 1 })).body as SessionAddress;
    const { pid } = (await send("GET", `${daemon.url}/sessions/k`)).body as SessionDetail;
    process.kill(pid, "SIGKILL");
    await daemon.logged('"k" has ended');
    expect((await send("GET", `${daemon.url}/sessions/k`)).status).toBe(404);
    const again = await send("POST", `${daemon.url}/sessions`, { name: "k", processes: 5 });
    expect(again.status).toBe(201);
    expect((again.body as SessionAddress).instance).not.toBe(first.instance);
  });

  test("removing a session ends its server", async () => {
    await send("POST", `${daemon.url}/sessions`, { name: "r", processes: 1 });
    const { pid } = (await send("GET", `${daemon.url}/sessions/r`)).body as SessionDetail;
    expect((await send("DELETE", `${daemon.url}/sessions/r`)).status).toBe(204);
    expect(alive(pid)).toBe(false);
    expect((await send("DELETE", `${daemon.url}/sessions/r`)).status).toBe(404);
  });

  test("only the instance that has the name can take itself off", async () => {
    const { instance } = (await send("POST", `${daemon.url}/sessions`, { name: "o", processes: 1 }))
      .body as SessionAddress;
    const { pid } = (await send("GET", `${daemon.url}/sessions/o`)).body as SessionDetail;
    expect((await send("DELETE", `${daemon.url}/sessions/o?instance=0123456789abcdef`)).status).toBe(404);
    expect((await send("GET", `${daemon.url}/sessions/o`)).status).toBe(200);
    expect((await send("DELETE", `${daemon.url}/sessions/o?instance=${instance}`)).status).toBe(204);
    expect((await send("GET", `${daemon.url}/sessions/o`)).status).toBe(404);
    expect(alive(pid)).toBe(true);
    process.kill(pid, "SIGTERM");
  });
});

describe("a successor", () => {
  const made = async (name: string): Promise<SessionAddress & { slot: number }> => {
    const { body } = await send("POST", `${daemon.url}/sessions`, { name, processes: 1 });
    return { ...(body as SessionAddress), slot: 0 };
  };
  const ask = (request: SessionAddress): Promise<{ status: number; body: unknown }> =>
    send("POST", `${daemon.url}/sessions/${request.name}/successor`, request);

  test("is not started for a server that is there", async () => {
    const first = await made("there");
    expect(await ask(first)).toMatchObject({ status: 200, body: { epoch: 1, port: first.port } });
  });

  test("is started once for a server that has ended, and its predecessor cannot return", async () => {
    const first = await made("gone");
    const { pid } = (await send("GET", `${daemon.url}/sessions/gone`)).body as SessionDetail;
    process.kill(pid, "SIGKILL");
    const [one, other] = await Promise.all([ask(first), ask(first)]);
    expect(one).toMatchObject({ status: 200, body: { instance: first.instance, epoch: 2 } });
    expect(other.body).toEqual(one.body);
    const detail = (await send("GET", `${daemon.url}/sessions/gone`)).body as SessionDetail;
    // No node comes that could hand over the session.
    expect(detail).toMatchObject({ answered: false, phase: "recovering", epoch: 2, present: 0 });
    const { name: _, ...registration } = first;
    // The old one, and another one of the same epoch.
    for (const epoch of [1, 2]) {
      const late = await send("PUT", `${daemon.url}/sessions/gone`, { ...registration, epoch, pid: process.pid });
      expect([late.status, problem(late.body).code]).toEqual([410, "DSM_ENDED"]);
    }
    expect((await send("DELETE", `${daemon.url}/sessions/gone`)).status).toBe(204);
    const over = await ask(first);
    expect([over.status, problem(over.body).code]).toEqual([410, "DSM_ENDED"]);
  });

  test("is started by a daemon that never knew the session, if no server is at its address", async () => {
    const lost = { ...(await made("unknown")), instance: "00000000000000cc", name: "other" };
    // Another session's server has that port now.
    expect(await ask(lost)).toMatchObject({ status: 200, body: { instance: "00000000000000cc", epoch: 2 } });
    expect((await send("DELETE", `${daemon.url}/sessions/other`)).status).toBe(204);
  });

  test("of another run of the name is not started", async () => {
    const first = await made("later");
    const over = await ask({ ...first, instance: "00000000000000dd" });
    expect([over.status, problem(over.body).code]).toEqual([410, "DSM_ENDED"]);
  });
});

describe("servers started by hand", () => {
  const listener = (): Bun.TCPSocketListener => {
    return Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  };
  const registration = (port: number, instance = "00000000000000aa", pid = process.pid): object => {
    return { instance, host: "127.0.0.1", port, pid, processes: 2, size: 4096, slot: 7 };
  };

  test("register, are found, and are dropped once they have ended", async () => {
    const server = listener();
    expect((await send("PUT", `${daemon.url}/sessions/hand`, registration(server.port))).status).toBe(201);
    expect((await send("PUT", `${daemon.url}/sessions/hand`, registration(server.port))).status).toBe(200);
    const found = await send("POST", `${daemon.url}/sessions`, { name: "hand", processes: 2 });
    expect(found).toMatchObject({ status: 200, body: { port: server.port, instance: "00000000000000aa" } });
    const rival = await send("PUT", `${daemon.url}/sessions/hand`, registration(server.port, "00000000000000bb"));
    expect(rival.status).toBe(409);
    expect(problem(rival.body).message).toContain("already running");
    server.stop(true);
    const started = await send("POST", `${daemon.url}/sessions`, { name: "hand", processes: 3 });
    expect(started.status).toBe(201);
  });

  test("a dead one gives way to another", async () => {
    const server = listener();
    await send("PUT", `${daemon.url}/sessions/hand`, registration(server.port));
    server.stop(true);
    const second = listener();
    const taken = await send("PUT", `${daemon.url}/sessions/hand`, registration(second.port, "00000000000000bb"));
    expect(taken.status).toBe(201);
    second.stop(true);
  });

  test("a registration cannot make the daemon signal a process that is no server", async () => {
    const innocent = Bun.spawn(["sleep", "1000"]);
    const server = listener();
    const claim = registration(server.port, "00000000000000aa", innocent.pid);
    expect((await send("PUT", `${daemon.url}/sessions/claim`, claim)).status).toBe(201);
    expect((await send("DELETE", `${daemon.url}/sessions/claim`)).status).toBe(204);
    expect((await send("GET", `${daemon.url}/health`)).status).toBe(200);
    expect(innocent.exitCode).toBeNull();
    expect(innocent.signalCode).toBeNull();
    expect(alive(innocent.pid)).toBe(true);
    innocent.kill();
    await innocent.exited;
    server.stop(true);
  });
});

describe("bad requests", () => {
  const cases: Array<[string, string, string, unknown, number, string]> = [
    ["an unknown path", "GET", "/nothing", undefined, 404, "nothing at /v1/nothing"],
    ["an unknown session", "GET", "/sessions/none", undefined, 404, 'no session "none"'],
    ["no name", "POST", "/sessions", { processes: 1 }, 400, "name is missing"],
    ["an empty name", "POST", "/sessions", { name: "", processes: 1 }, 400, "name is empty"],
    ["a slash", "POST", "/sessions", { name: "a/b", processes: 1 }, 400, "slash"],
    ["a long name", "POST", "/sessions", { name: "x".repeat(64), processes: 1 }, 400, "limit is 63"],
    ["an encoded slash", "GET", "/sessions/a%2Fb", undefined, 400, "slash"],
    ["a broken encoding", "GET", "/sessions/a%ZZ", undefined, 400, "URL encoding"],
    ["no processes", "POST", "/sessions", { name: "a", processes: 0 }, 400, "1 or more"],
    ["half a process", "POST", "/sessions", { name: "a", processes: 1.5 }, 400, "give a whole number"],
    [
      "more processes than any number counts",
      "POST",
      "/sessions",
      { name: "a", processes: 1e300 },
      400,
      "limit is 1024",
    ],
    ["a C1 control character", "POST", "/sessions", { name: "a\u0085", processes: 1 }, 400, "(U+0085)"],
    ["a mark of direction", "GET", "/sessions/a%E2%80%AE", undefined, 400, "(U+202E)"],
    ["a lone surrogate", "POST", "/sessions", { name: "a\ud800", processes: 1 }, 400, "not valid UTF-8"],
    ["an invalid epoch", "DELETE", `/sessions/a?instance=${"0".repeat(16)}&epoch=1e3`, undefined, 400, "epoch is"],
    [
      "an epoch too large",
      "DELETE",
      `/sessions/a?instance=${"0".repeat(16)}&epoch=9007199254740993`,
      undefined,
      400,
      "too large",
    ],
    [
      "a size of 1e300",
      "POST",
      "/sessions",
      { name: "a", processes: 1, size: 1e300 },
      400,
      "size 1e+300 bytes is beyond the limit",
    ],
    ["half a byte", "POST", "/sessions", { name: "a", processes: 1, size: 4096.5 }, 400, "not a whole number of bytes"],
    ["too many processes", "POST", "/sessions", { name: "a", processes: 1025 }, 400, "limit is 1024"],
    ["a word for a number", "POST", "/sessions", { name: "a", processes: "2" }, 400, "not a number"],
    ["size 0", "POST", "/sessions", { name: "a", processes: 1, size: 0 }, 400, "1 byte or more"],
    ["too large a size", "POST", "/sessions", { name: "a", processes: 1, size: 2 ** 36 + 1 }, 400, "beyond the limit"],
    ["a bad instance", "POST", "/sessions", { name: "a", processes: 1, after: "x" }, 400, "16 hex digits"],
    ["a list", "POST", "/sessions", [], 400, "not a JSON object"],
    ["a bare registration", "PUT", "/sessions/a", {}, 400, "host"],
    [
      "a slot out of range",
      "PUT",
      "/sessions/a",
      {
        ...{ instance: "0".repeat(16), host: "127.0.0.1", port: 1, pid: 1, processes: 1, size: 1 },
        slot: ADDRESS_SLOTS,
      },
      400,
      "slot",
    ],
  ];
  test.each(cases)("%s", async (_title, method, path, body, status, message) => {
    const answer = await send(method, `${daemon.url}${path}`, body);
    expect(answer.status).toBe(status);
    expect(problem(answer.body).message).toContain(message);
    expect(problem(answer.body).code).toMatch(/^DSM_/);
    expect((await send("GET", `${daemon.url}/sessions`)).body).toEqual({ sessions: [] });
  });

  test("other methods, with what is allowed", async () => {
    for (const [path, allow] of [
      ["/health", "GET"],
      ["/sessions", "GET, POST"],
      ["/sessions/x", "GET, PUT, DELETE"],
    ] as const) {
      const response = await fetch(`${daemon.url}${path}`, { method: "PATCH" });
      expect(response.status).toBe(405);
      expect(response.headers.get("allow")).toBe(allow);
      expect(problem(await response.json()).message).toContain("PATCH");
    }
  });

  test("bodies that are too large, not JSON, or not said to be", async () => {
    const post = (body: string | Uint8Array<ArrayBuffer>, type = "application/json"): Promise<Response> =>
      fetch(`${daemon.url}/sessions`, { method: "POST", body, headers: { "content-type": type } });
    const large = await post(JSON.stringify({ name: "a", processes: 1, filler: "x".repeat(64 << 10) }));
    expect(large.status).toBe(413);
    expect(problem(await large.json()).message).toContain("64 KiB");
    const broken = await post("{");
    expect(broken.status).toBe(400);
    expect(problem(await broken.json()).message).toContain("not JSON");
    const plain = await post('{"name":"a","processes":1}', "text/plain");
    expect(plain.status).toBe(415);
    const latin = await post(new Uint8Array([0x22, 0xff, 0x22]));
    expect(latin.status).toBe(400);
  });

  test("what a web page asks for", async () => {
    const response = await fetch(`${daemon.url}/sessions`, { headers: { origin: "http://example.com" } });
    expect(response.status).toBe(403);
  });

  test("an invalid Host, or several", async () => {
    const ask = (head: string): Promise<string> =>
      new Promise((resolve, reject) => {
        let answer = "";
        const socket = connect(daemon.daemon.port, "127.0.0.1", () => socket.write(`${head}\r\n\r\n`));
        socket.on("data", (chunk) => {
          answer += chunk;
          if (answer.includes("\r\n\r\n")) socket.destroy();
        });
        socket.on("close", () => resolve(answer));
        socket.on("error", reject);
      });
    for (const host of ["", "a b", "127.0.0.1:99999", "[::1", "user@127.0.0.1", "127.0.0.1/x", "a\nHost: b"]) {
      const answer = await ask(`GET /v1/health HTTP/1.1\r\nHost: ${host}`);
      expect([host, answer.split("\r\n")[0]]).toEqual([host, "HTTP/1.1 400 Bad Request"]);
    }
    expect(await ask("GET /v1/health HTTP/1.0")).toStartWith("HTTP/1.1 400 ");
    expect(await ask("GET /v1/health HTTP/1.1\r\nHost: localhost")).toStartWith("HTTP/1.1 200 ");
  });

  test("a path that means another one than it matches", async () => {
    const status = (path: string): Promise<string> =>
      new Promise((resolve, reject) => {
        let answer = "";
        const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
        const socket = connect(daemon.daemon.port, "127.0.0.1", () => socket.write(request));
        socket.on("data", (chunk) => {
          answer += chunk;
        });
        socket.on("close", () => resolve(answer.split("\r\n")[0] as string));
        socket.on("error", reject);
      });
    for (const path of ["/v1/sessions/../watch", "/v1/sessions/%2e%2e/memory", "/v1/sessions/..", "/v1/./health"]) {
      expect([path, await status(path)]).toEqual([path, "HTTP/1.1 404 Not Found"]);
    }
    expect(await status("/v1/sessions/.")).toStartWith("HTTP/1.1 400 ");
    expect(await status("/v1/sessions?x=/../y")).toStartWith("HTTP/1.1 200 ");
  });

  test("garbage ends its connection only", async () => {
    await new Promise<void>((resolve, reject) => {
      const socket = connect(daemon.daemon.port, "127.0.0.1", () => socket.end("\0\x01garbage\r\n\r\n"));
      socket.on("data", () => {});
      socket.on("close", () => resolve());
      socket.on("error", reject);
    });
    expect((await send("GET", `${daemon.url}/health`)).status).toBe(200);
  });
});

describe("a daemon that was started by itself", () => {
  test("ends when no session ever came", async () => {
    await start({ autostarted: true, idleMs: 20 }).daemon.ended;
  });

  test("stays while there is a session, and ends after the last", async () => {
    // Timers that are set and not cancelled, and end only when the test says so.
    const timers = new Set<() => void>();
    let armed = Promise.withResolvers<void>();
    const setTimer = (act: () => void, ms: number): (() => void) => {
      expect(ms).toBe(1000);
      timers.add(act);
      armed.resolve();
      return () => timers.delete(act);
    };
    const idle = start({ autostarted: true, idleMs: 1000, setTimer });
    expect(timers.size).toBe(1);
    armed = Promise.withResolvers();
    expect((await send("POST", `${idle.url}/sessions`, { name: "stay", processes: 1 })).status).toBe(201);
    expect(timers.size).toBe(0);
    const { pid } = (await send("GET", `${idle.url}/sessions/stay`)).body as SessionDetail;
    process.kill(pid, "SIGTERM");
    await armed.promise;
    expect(timers.size).toBe(1);
    for (const act of timers) act();
    await idle.daemon.ended;
  });
});

test("a taken port and a foreign address are errors in one line", () => {
  const taken = { host: "127.0.0.1", port: daemon.daemon.port };
  expect(() => start(taken)).toThrow("port is taken");
  expect(() => start({ host: "192.0.2.1", security: SECURITY })).toThrow(/cannot listen on 192\.0\.2\.1.*--host/);
});

test("a server that listens on all addresses is given out under the one the client asked at", async () => {
  const wide = start({ host: "0.0.0.0", security: SECURITY, serverEnvironment: { DSM_TOKEN: TEXT } });
  const url = `http://127.0.0.2:${wide.daemon.port}/v1/sessions`;
  const response = await signedFetch(TOKEN, "POST", url, { name: "wide", processes: 1 });
  expect(response.status).toBe(201);
  expect(await response.json()).toMatchObject({ host: "127.0.0.2" });
});

describe("web pages", () => {
  for (const [what, headers] of [
    ["of any origin", { origin: "https://example.org" }],
    ["of a hidden origin", { origin: "null" }],
    ["that load an image", { "sec-fetch-site": "cross-site" }],
    ["of another port here", { "sec-fetch-site": "same-site" }],
    ["whose name was made to lead here", { host: "example.org:4200" }],
  ] as const) {
    test(`${what} are refused without information`, async () => {
      for (const method of ["GET", "POST", "DELETE", "OPTIONS"]) {
        const response = await fetch(`${daemon.url}/sessions/x`, { method, headers: { ...headers } });
        expect([method, response.status]).toEqual([method, 403]);
        expect(problem(await response.json()).code).toBe("DSM_REFUSED");
        expect([...response.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
      }
    });
  }

  test("our own page may read, and do nothing else", async () => {
    const own = { "sec-fetch-site": "same-origin", origin: `http://127.0.0.1:${daemon.daemon.port}` };
    for (const headers of [own, { "sec-fetch-site": "same-origin" }, { origin: own.origin }]) {
      expect((await fetch(`${daemon.url}/sessions`, { headers })).status).toBe(200);
      for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
        const { status } = await fetch(`${daemon.url}/sessions/x`, { method, headers });
        expect([method, status]).toEqual([method, 403]);
      }
    }
    const foreign = { ...own, "sec-fetch-site": "same-site" };
    expect((await fetch(`${daemon.url}/sessions`, { headers: foreign })).status).toBe(403);
  });

  test("a person may open the page: no other site sent the browser there", async () => {
    const headers = { "sec-fetch-site": "none", host: `localhost:${daemon.daemon.port}` };
    expect((await fetch(`${daemon.url}/health`, { headers })).status).toBe(200);
  });
});

describe("with a token", () => {
  let guarded: Running;
  beforeEach(() => {
    guarded = start({ security: SECURITY, serverEnvironment: { DSM_TOKEN: TEXT } });
  });

  test("says nothing of its sessions without a proof, and proves itself at the beginning of a stream", async () => {
    await signedFetch(TOKEN, "POST", `${guarded.url}/sessions`, { name: "s", processes: 1 });
    const root = guarded.url.replace("/v1", "");
    for (const path of ["/metrics", "/v1/sessions/s/watch", "/v1/sessions/s/memory", "/v1/sessions/s?heat=1"]) {
      expect([path, (await fetch(`${root}${path}`)).status]).toEqual([path, 401]);
    }
    const metrics = await signedFetch(TOKEN, "GET", `${root}/metrics`);
    expect(await metrics.text()).toContain('dsm_session_up{session="s"} 1\n');
    const url = `${guarded.url}/sessions/s/watch?interval_ms=100`;
    const { authorization, answer } = await signed(TOKEN, "GET", url);
    const hangUp = new AbortController();
    const response = await fetch(url, { headers: { authorization }, signal: hangUp.signal });
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
    expect(response.headers.get(HTTP_PROOF_HEADER)).toBe(answer(200, ""));
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    const first = new TextDecoder().decode((await reader.read()).value);
    expect(first).toMatch(/^data: \{.*"name":"s".*\}\n\n$/);
    hangUp.abort();
  });

  test("refuses requests without a proof or with a wrong one, and says nothing else", async () => {
    for (const [method, path] of [
      ["GET", "/health"],
      ["GET", "/sessions"],
      ["POST", "/sessions"],
      ["PUT", "/sessions/x"],
      ["DELETE", "/sessions/x"],
      ["GET", "/nothing"],
    ] as const) {
      const url = `${guarded.url}${path}`;
      const plain = await fetch(url, { method });
      expect([method, path, plain.status]).toEqual([method, path, 401]);
      expect(readChallenge(plain.headers.get("www-authenticate"))).not.toBeNull();
      expect(problem(await plain.json())).toEqual({
        ...{ code: "DSM_REFUSED", message: expect.stringContaining("this daemon demands a token; set DSM_TOKEN") },
      });
      const wrong = await signedFetch(Buffer.from("0123456789abcdeF"), method, url);
      expect(wrong.status).toBe(401);
      expect(problem(await wrong.json()).message).toContain("that is not the token of this daemon");
    }
    for (const authorization of [`Bearer ${TEXT}`, "DSM-HMAC-SHA256", 'DSM-HMAC-SHA256 nonce=""', "x".repeat(4000)]) {
      expect((await fetch(`${guarded.url}/health`, { headers: { authorization } })).status).toBe(401);
    }
  });

  test("answers a proven request, and proves itself in the answer, errors too", async () => {
    const url = `${guarded.url}/sessions`;
    expect((await signedFetch(TOKEN, "POST", url, { name: "t ü%?", processes: 1 })).status).toBe(201);
    const path = `${url}/${encodeURIComponent("t ü%?")}`;
    const detail = (await (await signedFetch(TOKEN, "GET", path)).json()) as SessionDetail;
    expect(detail).toMatchObject({ name: "t ü%?", answered: true });
    expect((await signedFetch(TOKEN, "GET", `${url}/other`)).status).toBe(404);
    expect((await signedFetch(TOKEN, "POST", url, { name: 5 })).status).toBe(400);
    // The server has the token in its environment, which only its user can read, and not in its arguments.
    expect(readFileSync(`/proc/${detail.pid}/cmdline`, "latin1")).not.toContain(TEXT);
    expect(readFileSync(`/proc/${detail.pid}/environ`, "latin1")).toContain(`DSM_TOKEN=${TEXT}`);
    expect((await signedFetch(TOKEN, "DELETE", path)).status).toBe(204);
  });

  test("takes a proof once, for its own method, path and body", async () => {
    const url = `${guarded.url}/sessions/nobody`;
    const { authorization } = await signed(TOKEN, "DELETE", url);
    const again = (method: string, at: string): Promise<number> =>
      fetch(at, { method, headers: { authorization } }).then(({ status }) => status);
    expect(await again("GET", url)).toBe(401);
    expect(await again("DELETE", `${url}x`)).toBe(401);
    expect(await again("DELETE", url)).toBe(404);
    expect(await again("DELETE", url)).toBe(401);

    const { authorization: find } = await signed(
      TOKEN,
      "POST",
      `${guarded.url}/sessions`,
      '{"name":"a","processes":1}',
    );
    const other = await fetch(`${guarded.url}/sessions`, {
      ...{ method: "POST", body: '{"name":"b","processes":1}' },
      headers: { authorization: find, "content-type": "application/json" },
    });
    expect(other.status).toBe(401);
    expect(problem(await other.json()).message).toBe("the body is not the one that the request proves");
    const { sessions } = (await (await signedFetch(TOKEN, "GET", `${guarded.url}/sessions`)).json()) as {
      sessions: unknown[];
    };
    expect(sessions).toEqual([]);
  });

  test("listens to other machines only with one", () => {
    for (const host of ["0.0.0.0", "::", "192.0.2.1", "example.org"]) {
      expect(() => start({ host })).toThrow(
        /can be reached from other machines, and there is no token .*set DSM_TOKEN/,
      );
    }
  });
});
