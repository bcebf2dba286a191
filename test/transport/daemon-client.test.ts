/** The daemon's client against a daemon whose answers the test decides: attempts, connections that break, tokens. */
import { afterEach, expect, test } from "bun:test";
import { createServer, type Server, type Socket } from "node:net";
import { answerProof, OPEN, RequestGuard, type Security } from "../../src/core/access/auth.ts";
import { PROTOCOL_VERSION } from "../../src/core/base/limits.ts";
import { createDaemonClient } from "../../src/transport/daemon-client.ts";
import { errorOf } from "../support/error-of.ts";

const HEALTH = JSON.stringify({
  ...{ service: "dsm", version: "0.1.0", protocol: PROTOCOL_VERSION, pid: 1, autostarted: false },
});

const servers: { close(): void }[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

const answer = (body: string, length = Buffer.byteLength(body)): string =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\nConnection: close\r\n\r\n${body}`;

/** Answers every greeting. `take` gets the socket of each other call. Returns the port, and the lines of all requests. */
async function daemon(take: (socket: Socket) => void, port = 0): Promise<{ port: number; asked: string[] }> {
  const asked: string[] = [];
  const server: Server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      const line = String(bytes).split("\r\n")[0] as string;
      asked.push(line);
      if (line.includes("/v1/health")) socket.end(answer(HEALTH));
      else take(socket);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return { port: (server.address() as { port: number }).port, asked };
}

const clientAt = (port: number, security: Security = OPEN) =>
  createDaemonClient({ address: `127.0.0.1:${port}`, security, startDaemon: null });

test("a call whose connection is closed without an answer is repeated, after another greeting", async () => {
  let calls = 0;
  const { port, asked } = await daemon((socket) => {
    calls += 1;
    if (calls < 3) socket.destroy();
    else socket.end(answer('{"sessions":[]}'));
  });
  expect(await clientAt(port).list()).toEqual([]);
  const greeting = "GET /v1/health HTTP/1.1";
  const call = "GET /v1/sessions HTTP/1.1";
  expect(asked).toEqual([greeting, call, greeting, call, greeting, call]);
});

test("three times at most", async () => {
  const { port, asked } = await daemon((socket) => socket.destroy());
  const error = await errorOf(clientAt(port).list());
  expect(error.code).toBe("DSM_UNREACHABLE");
  expect(error.message).toContain("it closes the connection");
  expect(asked.filter((line) => line.includes("/v1/sessions"))).toHaveLength(3);
});

test("what a daemon has answered is not asked again, whatever the status", async () => {
  const body = '{"error":{"code":"DSM_SYSTEM","message":"no room"}}';
  const { port, asked } = await daemon((socket) =>
    socket.end(
      `HTTP/1.1 500 Internal Server Error\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    ),
  );
  const error = await errorOf(clientAt(port).find({ name: "s", processes: 1 }));
  expect([error.code, error.message]).toEqual(["DSM_SYSTEM", "no room"]);
  expect(asked.filter((line) => line.startsWith("POST"))).toHaveLength(1);
});

test("an answer that breaks off is a daemon that cannot be reached, in one line", async () => {
  const { port } = await daemon((socket) => socket.write(answer('{"sess', 100), () => socket.destroy()));
  const error = await errorOf(clientAt(port).list());
  expect(error.code).toBe("DSM_UNREACHABLE");
  expect(error.message).not.toContain("\n");
});

test("a daemon is started where nothing listens, and greeted before it is asked", async () => {
  const { port } = await daemon(() => {});
  servers.splice(0)[0]?.close();
  let asked: string[] = [];
  let started = 0;
  const client = createDaemonClient({
    address: `127.0.0.1:${port}`,
    security: OPEN,
    async startDaemon(host, at) {
      expect([host, at]).toEqual(["127.0.0.1", port]);
      ({ asked } = await daemon((socket) => socket.end(answer('{"sessions":[]}')), port));
      return true;
    },
    onStarted: () => {
      started += 1;
    },
  });
  expect(await client.list()).toEqual([]);
  expect(started).toBe(1);
  expect(asked).toEqual(["GET /v1/health HTTP/1.1", "GET /v1/sessions HTTP/1.1"]);
});

test("none is started beyond loopback", async () => {
  const { port } = await daemon(() => {});
  servers.splice(0)[0]?.close();
  const client = createDaemonClient({
    // It means any address of this machine, and counts as one of another.
    address: `0.0.0.0:${port}`,
    security: { ...OPEN, tlsOff: true, token: Buffer.alloc(32, 97) },
    startDaemon: () => {
      throw new Error("it was asked to");
    },
  });
  const error = await errorOf(client.list());
  expect(error.code).toBe("DSM_UNREACHABLE");
  expect(error.message).toContain("nothing is listening there");
});

test("a daemon that demands a token after its predecessor did not gets the proof", async () => {
  const token = Buffer.alloc(32, 97);
  const security: Security = { token, always: false, tls: null };
  let guard: RequestGuard | null = null;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const url = new URL(request.url);
      const body = url.pathname === "/v1/health" ? HEALTH : '{"sessions":[]}';
      if (guard === null) return new Response(body);
      const target = `${request.headers.get("host")}${url.pathname}${url.search}`;
      const now = performance.now();
      const proof = guard.check(request.headers.get("authorization"), { method: request.method, target }, now);
      if (typeof proof === "string") {
        const problem = '{"error":{"code":"DSM_REFUSED","message":"no proof"}}';
        const challenge = guard.challenge(now, crypto.getRandomValues(new Uint8Array(16)));
        return new Response(problem, { status: 401, headers: { "www-authenticate": challenge } });
      }
      return new Response(body, { headers: { "dsm-proof": answerProof(token, proof, 200, Buffer.from(body)) } });
    },
  });
  servers.push({ close: () => void server.stop(true) });
  const client = clientAt(server.port as number, security);
  expect(await client.list()).toEqual([]);
  guard = new RequestGuard(token, crypto.getRandomValues(new Uint8Array(32)));
  expect(await client.list()).toEqual([]);
  const other = clientAt(server.port as number, { ...security, token: Buffer.alloc(32, 98) });
  expect((await errorOf(other.list())).message).toContain("no proof");
});

test("line ends in a certificate stay, and invalid ones are refused", async () => {
  const pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  let body = JSON.stringify({ certificate: pem, authority: pem, life_ms: 1000 });
  const { port } = await daemon((socket) => socket.end(answer(body)));
  const client = clientAt(port);
  expect(await client.certify({ role: "server", key: "" })).toEqual({
    certificate: pem,
    authority: pem,
    life_ms: 1000,
  });
  for (const wrong of [{ certificate: 1 }, { authority: null }, { life_ms: 0 }, { life_ms: "1" }]) {
    body = JSON.stringify({ ...{ certificate: pem, authority: pem, life_ms: 1000 }, ...wrong });
    expect((await errorOf(client.certify({ role: "server", key: "" }))).code).toBe("DSM_PROTOCOL");
  }
});
