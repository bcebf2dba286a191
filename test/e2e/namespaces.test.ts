/**
 * Two nodes in two network namespaces, as two hosts on one cable: real addresses, the --host options, and with them the
 * token, which the daemon makes and both hosts read from one file, and TLS by the daemon's authority, which it names.
 * Needs root and `ip` (Debian: iproute2).
 */
import { expect, setDefaultTimeout } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { makeCertificates } from "../../src/cli/commands/cert.ts";
import { encodeJson } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, DSM, eventually } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

setDefaultTimeout(120_000);

const { afterAll, afterEach, beforeAll, describe, test } = needs("ip", "namespaces");

/** The namespaces share no network with other machines, so any address will do. */
const HOSTS = { a: "10.77.0.1", b: "10.77.0.2" } as const;
type Host = keyof typeof HOSTS;

/** The kernel names interfaces with at most 15 bytes. */
const names = { a: `dsm${process.pid}a`, b: `dsm${process.pid}b` };
const on = (host: Host): string[] => ["ip", "netns", "exec", names[host]];

function ip(...words: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(["ip", ...words]);
  if (exitCode !== 0) throw new Error(`ip ${words.join(" ")}: ${stderr.toString().trim()} (these tests need root)`);
}

let cluster: Cluster;
beforeAll(async () => {
  for (const host of ["a", "b"] as const) ip("netns", "add", names[host]);
  ip("link", "add", names.a, "netns", names.a, "type", "veth", "peer", "name", names.b, "netns", names.b);
  for (const host of ["a", "b"] as const) {
    ip("-n", names[host], "address", "add", `${HOSTS[host]}/24`, "dev", names[host]);
    ip("-n", names[host], "link", "set", names[host], "up");
    ip("-n", names[host], "link", "set", "lo", "up");
  }
  cluster = await Cluster.start({ host: HOSTS.a, as: on("a") });
});
afterEach(() => cluster.settled());
afterAll(async () => {
  await cluster?.close();
  // The interfaces go with the namespaces.
  for (const host of ["a", "b"] as const) Bun.spawnSync(["ip", "netns", "del", names[host]]);
});

/** The session's server, on the daemon's host, dies; both go on with another one. */
async function failOver(of: Cluster, [a, b]: [Actor, Actor]): Promise<void> {
  const { pid } = await of.status(a.session);
  await b.do("store 8 24 1");
  process.kill(pid, "SIGKILL");
  await Promise.all(
    [a, b].map(async (actor) => {
      for (let i = 0; i < 20; i += 1) await actor.do("add 32 1");
    }),
  );
  expect(await a.number("load 8 32")).toBe(40);
  expect(await a.number("load 8 24")).toBe(1);
  const now = await of.status(a.session);
  expect([now.pid === pid, now.epoch]).toEqual([false, 2]);
  await Promise.all([a.do("barrier"), b.do("barrier")]);
}

/** Actors of one session, each on its host. */
async function actors(
  hosts: Host[],
  environment: Record<string, string> = {},
  session = cluster.session(),
): Promise<Actor[]> {
  const processes = hosts.length;
  const all = hosts.map((host, rank) =>
    cluster.actor({ session, processes, node: host, rank, environment }, [...on(host), cluster.program("actor")]),
  );
  await Promise.all(all.map((actor) => actor.do("open")));
  return all;
}

/** The memory, atomics, semaphores, barriers and holes work between the two. */
async function work([a, b]: [Actor, Actor]): Promise<void> {
  await a.do("store 8 0 12345");
  expect(await b.number("load 8 0")).toBe(12345);
  await Promise.all(
    [a, b].map(async (actor) => {
      for (let i = 0; i < 20; i += 1) await actor.do("add 8 1");
    }),
  );
  expect(await a.number("load 8 8")).toBe(40);
  const wait = a.do("wait s 0");
  await b.do("post s");
  await wait;
  await b.do("publish 5000 50000 7");
  expect(await a.number("count 0 65536 7")).toBe(50000);
  await Promise.all([a.do("barrier"), b.do("barrier")]);
}

const tokenFile = (): string => readFileSync(join(cluster.folder, "config/dsm/token"), "utf8").trim();

test("a session over both, its server where the daemon is", async () => {
  const [a, b] = (await actors(["a", "b"])) as [Actor, Actor];
  const { host, ranks } = await cluster.status(a.session);
  expect(host).toBe(HOSTS.a);
  expect(ranks.map(({ node }) => node)).toEqual(["a", "b"]);
  await work([a, b]);
  await Promise.all([a.leave(), b.leave()]);
});

for (const order of ["sequential", "release", "pipelined"]) {
  test(`a server that dies is followed by another, for both hosts: ${order} order`, async () => {
    const pair = (await actors(["a", "b"], { DSM_ORDER: order })) as [Actor, Actor];
    await failOver(cluster, pair);
    await Promise.all(pair.map((actor) => actor.leave()));
  });
}

describe("what comes without the token", () => {
  for (const [what, environment, reason] of [
    [
      "none",
      () => ({ XDG_CONFIG_HOME: "/nonexistent" }),
      /^DSM_REFUSED the session daemon at 10\.77\.0\.1:\d+ needs a token; set DSM_TOKEN/,
    ],
    [
      "another",
      // The authority is no secret.
      () => ({ DSM_TOKEN: `another-token-of-theirs:${tokenFile().split(":")[1]}` }),
      /^DSM_REFUSED .* that is not the token of this daemon; set DSM_TOKEN/,
    ],
  ] as const) {
    test(`but ${what} gets an error`, async () => {
      const options = { session: "refused", processes: 1, node: "b", environment: environment() };
      const actor = cluster.actor(options, [...on("b"), cluster.program("actor")]);
      expect(await actor.ask("open")).toMatch(reason);
      expect(await actor.end()).toMatchObject({ code: 0, stderr: "" });
      const server = ["server", "--session", "x", "--processes", "1", "--host", HOSTS.b];
      const { code, stderr } = await cluster.command([...on("b"), DSM, ...server], environment());
      expect(code).toBe(1);
      expect(stderr).toMatch(/^dsm: [^\n]*token[^\n]*set DSM_TOKEN[^\n]*\n$/);
    });
  }

  /** What a server answers, as hexadecimal, to an arbiter on the other host that skips what it should prove. */
  async function answerTo(of: Cluster, session: string): Promise<string> {
    const { port } = await of.status(session);
    const hello = encodeJson({ session, node: "x", processes: 0, size: 0, order: "" });
    const greeting = encodeHandshake(Kind.HELLO, hello);
    const script = `const [frame, host, port] = process.argv.slice(1);
      let said = "";
      Bun.connect({ hostname: host, port: Number(port), socket: {
        open: (socket) => void socket.write(Buffer.from(frame, "hex")),
        data: (_, chunk) => { said += chunk.toString("hex"); },
        close: () => console.log(said),
      } });`;
    const words = [Buffer.from(greeting).toString("hex"), HOSTS.a, String(port)];
    return (await of.command([...on("b"), process.execPath, "-e", script, ...words])).stdout.trim();
  }

  test("reaches no server of a session, which speaks TLS alone", async () => {
    const [a, b] = (await actors(["a", "b"])) as [Actor, Actor];
    // Nothing, or an alert of TLS.
    expect(await answerTo(cluster, a.session)).toMatch(/^(15030[0-9a-f]0002[0-9a-f]{4})?$/);
    await work([a, b]);
    await Promise.all([a.leave(), b.leave()]);
  });

  test("reaches no server without TLS, either", async () => {
    const plain = await Cluster.start({ host: HOSTS.a, as: on("a"), environment: { DSM_TLS_OFF: "1" } });
    try {
      const program = plain.program("actor");
      const [a, b] = (["a", "b"] as const).map((node, rank) =>
        plain.actor({ session: "plain", processes: 2, node, rank }, [...on(node), program]),
      ) as [Actor, Actor];
      await Promise.all([a.do("open"), b.do("open")]);
      const answer = Buffer.from(await answerTo(plain, "plain"), "hex");
      expect([answer[4], answer.subarray(40).toString()]).toEqual([
        Kind.FAIL,
        expect.stringContaining("this server demands a token; set DSM_TOKEN"),
      ]);
      await work([a, b]);
      await Promise.all([a.leave(), b.leave()]);
    } finally {
      await plain.close();
    }
  });
});

test("token and TLS: each host with a certificate of its own", async () => {
  const folder = mkdtempSync("/tmp/dsm-tls-");
  const tls = (host: string): Record<string, string> => ({
    DSM_TLS_CA: join(folder, "ca.pem"),
    DSM_TLS_CERT: join(folder, `${host}.pem`),
    DSM_TLS_KEY: join(folder, `${host}-key.pem`),
  });
  await makeCertificates(folder, Object.values(HOSTS), 7);
  const secure = await Cluster.start({ host: HOSTS.a, as: on("a"), environment: tls(HOSTS.a) });
  try {
    const options = { session: "secret", processes: 2 };
    const program = secure.program("actor");
    const [a, b] = (["a", "b"] as const).map((node, rank) =>
      secure.actor({ ...options, node, rank, environment: tls(HOSTS[node]) }, [...on(node), program]),
    ) as [Actor, Actor];
    await Promise.all([a.do("open"), b.do("open")]);
    await work([a, b]);
    await failOver(secure, [a, b]);
    // Without TLS, or with the certificate of another host, a server is neither admitted nor followed.
    const plain = { DSM_TLS_CA: "", DSM_TLS_CERT: "", DSM_TLS_KEY: "" };
    const third = secure.actor({ ...options, node: "c", environment: plain }, [...on("b"), program]);
    expect(await third.ask("open")).toMatch(/^DSM_REFUSED the token names no authority /);
    await third.end();
    const session = ["server", "--session", "false", "--processes", "2", "--size", "64KiB", "--host", HOSTS.b];
    const server = secure.spawn([...on("b"), DSM, ...session], { session: "false", environment: tls(HOSTS.a) });
    await eventually("the server has registered", async () => (await secure.sessions()).length === 2);
    const deceived = secure.actor({ session: "false", processes: 2, node: "a" }, [...on("a"), program]);
    expect(await deceived.ask("open")).toMatch(/^DSM_REFUSED no TLS with the server at 10\.77\.0\.2:\d+: /);
    await deceived.end();
    server.kill();
    await server.exited;
    await b.do("store 8 16 7");
    expect(await a.number("load 8 16")).toBe(7);
    await Promise.all([a.leave(), b.leave()]);
  } finally {
    await secure.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("session after session", async () => {
  await Promise.all(
    (["a", "b"] as const).map(async (node, rank) => {
      const child = cluster.spawn([...on(node), cluster.program("leaving"), "in_a_row", "10"], {
        ...{ session: "row", processes: 2, node, rank },
      });
      const [stderr, code] = await Promise.all([child.stderr.text(), child.exited]);
      expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
    }),
  );
});

test("a daemon on all addresses: its sessions are reached at the address it is reached at", async () => {
  const everywhere = await Cluster.start({ host: "0.0.0.0", as: on("a") });
  try {
    const port = everywhere.daemonAddress.split(":")[1];
    const program = everywhere.program("actor");
    everywhere.environment.DSM_DAEMON = `127.0.0.1:${port}`;
    const options = { session: "all", processes: 2 };
    // On its own host by loopback, from the other by its address.
    const a = everywhere.actor({ ...options, node: "a" }, [...on("a"), program]);
    const environment = { DSM_DAEMON: `${HOSTS.a}:${port}` };
    const b = everywhere.actor({ ...options, node: "b", environment }, [...on("b"), program]);
    await Promise.all([a.do("open"), b.do("open")]);
    await work([a, b]);
    await Promise.all([a.leave(), b.leave()]);
  } finally {
    await everywhere.close();
  }
});

test("a server started by hand on the other host", async () => {
  const session = cluster.session();
  const words = ["server", "--session", session, "--processes", "2", "--size", "64KiB"];
  const refused = await cluster.command([...on("b"), DSM, ...words]);
  expect(refused.code).toBe(2);
  expect(refused.stderr).toMatch(/^dsm: the daemon is at 10\.77\.0\.1:\d+, but [^\n]*127\.0\.0\.1; give --host\n$/);

  const server = cluster.spawn([...on("b"), DSM, ...words, "--host", HOSTS.b], { session });
  await eventually("the server has registered", async () => (await cluster.sessions()).length === 1);
  const [a, b] = (await actors(["a", "b"], {}, session)) as [Actor, Actor];
  expect((await cluster.status(session)).host).toBe(HOSTS.b);
  await work([a, b]);
  await Promise.all([a.leave(), b.leave()]);
  expect(await server.exited).toBe(0);
});

test("a killed process on the other host is lost here", async () => {
  const [a, b] = (await actors(["a", "b"])) as [Actor, Actor];
  const barrier = a.ask("barrier");
  b.kill("SIGKILL");
  expect(await barrier).toBe("DSM_LOST process 1 of the session was lost (it ended without leaving)");
  await a.leave();
});

test("addresses at which there is no daemon", async () => {
  for (const [host, daemon, reason] of [
    [
      "b",
      `${HOSTS.a}:1`,
      /nothing is listening there; check the address, and that the daemon there was started with --host$/,
    ],
    ["b", "192.0.2.1:4200", /cannot be reached: .*; check the address/],
    ["a", "127.0.0.1:1", /nothing is listening there; start one with "dsm daemon"$/],
  ] as const) {
    const environment = { DSM_DAEMON: daemon, DSM_AUTOSTART: "0" };
    const actor = cluster.actor({ session: "none", processes: 1, node: host, environment }, [
      ...on(host),
      cluster.program("actor"),
    ]);
    const answer = await actor.ask("open");
    expect(answer).toStartWith(`DSM_UNREACHABLE the session daemon at ${daemon} `);
    expect(answer).toMatch(reason);
    expect(await actor.end()).toMatchObject({ code: 0, stderr: "" });
  }
});
