/** What a peer says is never taken for more than it is: nothing of it is signalled, moved or connected to. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import type { SessionDetail } from "../../src/core/messages/daemon-api.ts";
import { type Daemon, type DaemonOptions, startDaemon } from "../../src/daemon/daemon.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { eventually } from "../support/eventually.ts";
import { signedFetch } from "../support/signed-fetch.ts";

setDefaultTimeout(60_000);

const TEXT = "0123456789abcdef";
const TOKEN = new TextEncoder().encode(TEXT);
const SECURITY = { token: TOKEN, always: true, tls: null };
const INSTANCE = "00000000000000aa";

let daemon: Daemon;
let url: string;
const servers: Server[] = [];
const started: Daemon[] = [];

function start(options: Partial<DaemonOptions> = {}): Daemon {
  const one = startDaemon({
    ...{ host: "127.0.0.1", port: 0, serverCommand: ["false"], autostarted: false, log() {} },
    ...options,
  });
  started.push(one);
  return one;
}

beforeEach(() => {
  daemon = start();
  url = `http://127.0.0.1:${daemon.port}/v1/sessions`;
});
afterEach(async () => {
  for (const server of servers.splice(0)) server.stop();
  for (const one of started.splice(0)) {
    one.stop();
    await one.ended;
  }
});

/** A server that no daemon has started, and that registers nowhere by itself. */
async function server(session: string, more: Partial<Parameters<typeof startServer>[0]> = {}): Promise<Server> {
  const one = await startServer({
    ...{ session, processes: 1, size: 4096, host: "127.0.0.1", port: 0, directory: null, instance: INSTANCE, slot: 7 },
    ...more,
  });
  servers.push(one);
  return one;
}

const registration = (port: number, more: object = {}): object => ({
  ...{ instance: INSTANCE, host: "127.0.0.1", port, pid: process.pid, processes: 1, size: 4096, slot: 7 },
  ...more,
});

async function send(method: string, name: string, body?: object): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${url}/${name}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text) };
}

const detail = async (name: string): Promise<SessionDetail> => (await send("GET", name)).body as SessionDetail;

/** Whether `port` of the address gets a connection while `act` goes on. */
async function connectsTo(hostname: string, act: (port: number) => Promise<void>): Promise<boolean> {
  let connected = false;
  const listener = Bun.listen({
    ...{ hostname, port: 0 },
    socket: {
      open(socket) {
        connected = true;
        socket.end();
      },
      data() {},
    },
  });
  await act(listener.port);
  listener.stop(true);
  return connected;
}

for (const [what, words] of [
  ["whose name is the session's", ["exec", "-a", "victim", "sleep", "1000"]],
  ["that has --session=NAME in its arguments", ["exec", "-a", "--session=victim", "sleep", "1000"]],
  [
    "that looks like a server of that session",
    ["exec", "-a", "dsm", "sh", "-c", "read x", "server", "--session", "victim"],
  ],
] as const) {
  test(`a process ${what} is not signalled because a registration names it`, async () => {
    const quoted = words
      .map((word) => `'${word}'`)
      .join(" ")
      .replace("'exec' '-a'", "exec -a");
    const innocent = Bun.spawn(["bash", "-c", quoted], { stdin: "pipe" });
    const commandLine = (): Promise<string> => Bun.file(`/proc/${innocent.pid}/cmdline`).text();
    await eventually("bash has become the other program", async () => (await commandLine()).includes("victim\0"));
    const place = await server("other", { instance: "00000000000000bb" });
    expect((await send("PUT", "victim", registration(place.port, { pid: innocent.pid }))).status).toBe(201);
    expect((await send("DELETE", "victim")).status).toBe(204);
    // A signal that was sent has had its effect once the process has answered another one.
    process.kill(innocent.pid, "SIGSTOP");
    await eventually("it has stopped or ended", async () => /^\d+ \(.*\) [TZX] /.test(await stat(innocent.pid)));
    expect(await stat(innocent.pid)).toMatch(/\) T /);
    innocent.kill("SIGKILL");
    await innocent.exited;
    expect(innocent.signalCode).toBe("SIGKILL");
  });
}

const stat = (pid: number): Promise<string> => Bun.file(`/proc/${pid}/stat`).text();

test("a server that the daemon has not started ends when its session is removed", async () => {
  const place = await server("hand");
  await send("PUT", "hand", registration(place.port));
  expect((await send("DELETE", "hand")).status).toBe(204);
  expect(await place.ended).toBe(0);
});

test("so does one that is taking over from another", async () => {
  const place = await server("hand", { epoch: 2 });
  await send("PUT", "hand", registration(place.port, { epoch: 2 }));
  expect((await send("DELETE", "hand")).status).toBe(204);
  expect(await place.ended).toBe(0);
});

test("a removed session's server that does not answer is refused when it registers again", async () => {
  const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  await send("PUT", "hand", registration(silent.port));
  expect((await send("DELETE", "hand")).status).toBe(204);
  const again = await send("PUT", "hand", registration(silent.port));
  expect(again).toMatchObject({ status: 410, body: { error: { code: "DSM_ENDED" } } });
  silent.stop(true);
});

test("a name that was registered for another session's server cannot end that one", async () => {
  const place = await server("victim");
  await send("PUT", "victim", registration(place.port));
  await send("PUT", "claim", registration(place.port, { instance: "00000000000000bb", slot: 8 }));
  expect((await send("DELETE", "claim")).status).toBe(204);
  expect(await detail("victim")).toMatchObject({ answered: true });
});

test("a registration does not send the processes of a running session elsewhere", async () => {
  const place = await server("s");
  await send("PUT", "s", registration(place.port));
  const { pid } = await detail("s");
  const elsewhere = await server("s", { instance: "00000000000000bb" });
  for (const other of [registration(elsewhere.port, { pid }), registration(place.port, { pid, host: "10.9.9.9" })]) {
    const answer = await send("PUT", "s", other);
    expect(answer).toMatchObject({ status: 410, body: { error: { message: "another server has taken over" } } });
  }
  expect((await send("PUT", "s", registration(place.port, { pid }))).status).toBe(200);
  expect(await detail("s")).toMatchObject({ host: "127.0.0.1", port: place.port, answered: true });
});

test("the daemon does not connect where a Host header points", async () => {
  const wide = start({ host: "0.0.0.0", security: SECURITY });
  const hand = (host: string): string => `http://${host}:${wide.port}/v1/sessions/hand`;
  const connected = await connectsTo("127.0.0.9", async (port) => {
    const wildcard = registration(port, { host: "0.0.0.0" });
    expect((await signedFetch(TOKEN, "PUT", hand("127.0.0.1"), wildcard)).status).toBe(201);
    expect(await (await signedFetch(TOKEN, "GET", hand("127.0.0.9"))).json()).toMatchObject({ answered: false });
    expect((await signedFetch(TOKEN, "GET", `${hand("127.0.0.9")}/memory`)).status).toBe(503);
    expect((await signedFetch(TOKEN, "DELETE", hand("127.0.0.9"))).status).toBe(204);
  });
  expect(connected).toBe(false);
});
