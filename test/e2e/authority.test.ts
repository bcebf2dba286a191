/**
 * TLS by default: a daemon beyond loopback has its own authority, and joining programs verify it by the fingerprint
 * in the token. 0.0.0.0 leads to this machine and is no loopback address, so no other machine is needed; arbiters that
 * cannot ask who is at the other end of a Unix socket (without the JIT) reach servers by TCP.
 */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { daemonClient } from "../../src/cli/user-daemon-client.ts";
import { ROLE_NAMES, type Security } from "../../src/core/access/tls.ts";
import { formatToken, type JoinToken, parseToken } from "../../src/core/access/token.ts";
import { type Daemon, startDaemon } from "../../src/daemon/daemon.ts";
import { Listener } from "../../src/server/listeners.ts";
import { type Authority, certifyDaemon, makeDaemonAuthority, makeKeyPair } from "../../src/transport/authority.ts";
import { obtainCredentials } from "../../src/transport/credentials.ts";
import { greetServer } from "../../src/transport/greet-server.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, DSM, eventually } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

const HOST = "0.0.0.0";
const BY_TCP = { BUN_JSC_useJIT: "0" };

async function work([a, b]: [Actor, Actor]): Promise<void> {
  await a.do("store 8 0 12345");
  expect(await b.number("load 8 0")).toBe(12345);
  await Promise.all([a.do("barrier"), b.do("barrier")]);
  await b.do("store 8 0 0");
  await Promise.all([a.do("barrier"), b.do("barrier")]);
}

/** The certificate that something shows, without trusting it. */
function shown(port: number, servername: string): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, servername, rejectUnauthorized: false }, () => {
      resolve(new X509Certificate(socket.getPeerCertificate(true).raw));
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

/** Bytes of both directions between clients of its port and `target`, as an attacker on the network sees them. */
function relay(target: number): { port: number; seen(): Buffer; stop(): void } {
  const chunks: Uint8Array[] = [];
  type Pair = { other: Bun.Socket<Pair> | null; waiting: Uint8Array[] };
  const pass = (socket: Bun.Socket<Pair>, chunk: Uint8Array): void => {
    chunks.push(new Uint8Array(chunk));
    const { other, waiting } = socket.data;
    // What is small enough for a socket's buffer: nothing here waits for room.
    if (other === null) waiting.push(new Uint8Array(chunk));
    else if (other.write(chunk) !== chunk.length) throw new Error("the relay is too slow");
  };
  const close = (socket: Bun.Socket<Pair>): void => void socket.data.other?.end();
  const listener = Bun.listen<Pair>({
    ...{ hostname: "127.0.0.1", port: 0 },
    socket: {
      open: (near) => {
        near.data = { other: null, waiting: [] };
        void Bun.connect<Pair>({
          ...{ hostname: "127.0.0.1", port: target, data: { other: near, waiting: [] } },
          socket: {
            open: (far) => {
              near.data.other = far;
              for (const chunk of near.data.waiting) far.write(chunk);
            },
            data: pass,
            close,
          },
        });
      },
      data: pass,
      close,
    },
  });
  return { port: listener.port, seen: () => Buffer.concat(chunks), stop: () => listener.stop(true) };
}

describe("a daemon beyond loopback", () => {
  let cluster: Cluster;
  let token: JoinToken;
  const port = (): number => Number(cluster.daemonAddress.split(":")[1]);
  const authorityFile = (): string => join(cluster.folder, "config/dsm/authority.pem");
  beforeAll(async () => {
    cluster = await Cluster.start({ host: HOST });
    token = parseToken(readFileSync(join(cluster.folder, "config/dsm/token"), "utf8").trim()) as JoinToken;
    expect(token.fingerprint).not.toBeNull();
  });
  afterEach(() => cluster.settled());
  afterAll(() => cluster.close());

  test("has TLS, and so have its servers, for peers with its token", async () => {
    const [a, b] = (await cluster.actors(["a", "b"], { environment: BY_TCP })) as [Actor, Actor];
    await work([a, b]);
    const { port: serverPort, ranks } = await cluster.status(a.session);
    expect(ranks).toHaveLength(2);
    const authority = new X509Certificate(readFileSync(authorityFile()));
    for (const [where, name] of [
      [port(), ROLE_NAMES.daemon],
      [serverPort, ROLE_NAMES.server],
    ] as const) {
      const certificate = await shown(where, name);
      expect([name, certificate.verify(authority.publicKey), certificate.checkHost(name)]).toEqual([name, true, name]);
    }
    // A node on this host that comes by the Unix socket is in the same session as those that come by TCP.
    expect((await cluster.dsm(["snapshot", a.session, join(cluster.folder, "it.snap")])).code).toBe(0);
    await Promise.all([a.leave(), b.leave()]);
  });

  test("is known after it was started anew, and sessions go on", async () => {
    const [a, b] = (await cluster.actors(["a", "b"], { environment: BY_TCP })) as [Actor, Actor];
    const at = port();
    await cluster.killDaemon();
    await cluster.startDaemon(at);
    await eventually("the new daemon knows of the session", async () => (await cluster.sessions()).length === 1);
    await work([a, b]);
    // Its server dies: both find the next one by the new daemon, whose authority is the old.
    process.kill((await cluster.status(a.session)).pid, "SIGKILL");
    await work([a, b]);
    expect((await cluster.status(a.session)).epoch).toBe(2);
    await Promise.all([a.leave(), b.leave()]);
  });

  test("lets in a plain token with its authority's certificate in DSM_TLS_CA, and otherwise says how to copy the new one", async () => {
    const DSM_TOKEN = formatToken({ ...token, fingerprint: null });
    const environment = { DSM_TOKEN, DSM_TLS_CA: authorityFile(), ...BY_TCP };
    const [a, b] = (await cluster.actors(["a", "b"], { environment })) as [Actor, Actor];
    await work([a, b]);
    await Promise.all([a.leave(), b.leave()]);
    for (const [settings, reason] of [
      [{ DSM_TOKEN }, /^DSM_REFUSED the token names no authority .*: scp 0\.0\.0\.0:\.config\/dsm\/token /],
      [
        { DSM_TOKEN, DSM_TLS_OFF: "1" },
        /^DSM_PROTOCOL .*; if it is one with TLS, leave out --tls-off and DSM_TLS_OFF$/,
      ],
    ] as const) {
      const actor = cluster.actor({ session: "refused", processes: 1, node: "x", environment: settings });
      expect(await actor.ask("open")).toMatch(reason);
      await actor.end();
    }
  });

  test("an attacker on the network cannot read requests", async () => {
    const middle = relay(port());
    const DSM_DAEMON = `${HOST}:${middle.port}`;
    const session = "a-name-that-nobody-else-has";
    const actor = cluster.actor({ session, processes: 1, node: "a", environment: { DSM_DAEMON } });
    await actor.do("open");
    await actor.leave();
    const seen = middle.seen();
    middle.stop();
    expect(seen.length).toBeGreaterThan(2000);
    for (const text of [session, "DSM-HMAC-SHA256", "HTTP/1.1", "/v1/"]) expect(seen.includes(text)).toBe(false);
  });

  describe("is distinguished from", () => {
    /** Asks what listens there as the token says, and returns the one line that comes of it. */
    async function asked(at: number): Promise<string> {
      const { code, stderr } = await cluster.dsm(["sessions"], { DSM_DAEMON: `${HOST}:${at}` });
      expect(code).toBe(1);
      expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
      return stderr;
    }

    test("one with another authority, even with the true one's certificate in its chain; neither is asked anything", async () => {
      const other = await makeDaemonAuthority();
      const own = await certifyDaemon(other, []);
      const truth = readFileSync(authorityFile(), "utf8");
      for (const [chain, reason] of [
        [other.certificate, / does not have the authority that the token names \([0-9a-f]{16}…\): /],
        [truth, / no TLS with the session daemon at .*; check the clocks of both machines, and whether another one /],
      ] as const) {
        const requests: string[] = [];
        const impostor = Bun.serve({
          ...{ hostname: "127.0.0.1", port: 0, tls: { cert: own.cert + chain, key: own.key } },
          fetch: (request) => {
            requests.push(request.url);
            return Response.json({});
          },
        });
        expect(await asked(impostor.port as number)).toMatch(reason);
        expect(requests).toEqual([]);
        await impostor.stop(true);
      }
    });

    test("a server or an arbiter of the same authority, and a certificate that has run out", async () => {
      const security: Security = { ...token, always: true, tls: null };
      const directory = daemonClient({ address: cluster.daemonAddress, autostart: false, security });
      const truth = readFileSync(authorityFile(), "utf8");
      for (const role of ["server", "arbiter"] as const) {
        const { security: certified, stop } = await obtainCredentials(directory, role);
        stop();
        const { cert, key } = certified.tls as { cert: string; key: string };
        const impostor = Bun.serve({
          ...{ hostname: "127.0.0.1", port: 0, tls: { cert: cert + truth, key } },
          fetch: () => Response.json({}),
        });
        expect(await asked(impostor.port as number)).toContain("no TLS with the session daemon");
        await impostor.stop(true);
      }
      // The authority itself, with a certificate of yesterday.
      const key = await makeKeyPair();
      const authority = await authorityOf(cluster);
      const leaf = { subject: "dsm daemon", names: [ROLE_NAMES.daemon], purposes: ["server" as const] };
      const cert = await authority.sign(key.publicKey, { ...leaf, notAfter: Date.now() - 86_400_000 });
      const late = Bun.serve({
        ...{ hostname: "127.0.0.1", port: 0, tls: { cert: cert + truth, key: key.privateKey } },
        fetch: () => Response.json({}),
      });
      expect(await asked(late.port as number)).toMatch(/certificate has expired; check the clocks of both machines/);
      await late.stop(true);
    });

    test("a peer without TLS, which gets nothing of use to it", async () => {
      let heard = "";
      const plain = Bun.listen({
        ...{ hostname: "127.0.0.1", port: 0 },
        socket: {
          data: (socket, chunk) => {
            heard += chunk.toString("latin1");
            socket.end("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
          },
        },
      });
      expect(await asked(plain.port)).toMatch(
        / does not speak TLS, and the token names an authority: start the daemon /,
      );
      expect(heard).not.toBe("");
      for (const text of ["HTTP", "DSM", "/v1/"]) expect(heard).not.toContain(text);
      plain.stop(true);
    });
  });
});

/** The authority of a cluster's daemon, with its key. */
async function authorityOf(cluster: Cluster): Promise<Authority> {
  const { Authority } = await import("../../src/transport/authority.ts");
  const read = (name: string): string => readFileSync(join(cluster.folder, "config/dsm", name), "utf8");
  return Authority.read(read("authority.pem"), read("authority-key.pem"));
}

describe("certificates", () => {
  const LIFE_MS = 4_000;
  let cluster: Cluster;
  let authority: Authority;
  let daemon: Daemon;
  let security: Security;
  let text: string;
  let own: { cert: string; key: string };
  beforeAll(async () => {
    // For its folders, and to look for what is left behind; the sessions are those of a daemon in this process.
    cluster = await Cluster.start();
    authority = await makeDaemonAuthority();
    const token: JoinToken = { token: Buffer.from("a-token-of-the-tests"), fingerprint: authority.fingerprint };
    security = { ...token, always: true, tls: null };
    text = formatToken(token);
    own = await certifyDaemon(authority, []);
    daemon = start({});
  });
  const start = (environment: Record<string, string>): Daemon =>
    startDaemon({
      ...{ host: HOST, port: 0, autostarted: false, security, serverCommand: [DSM, "server"] },
      authority: { authority, own, life_ms: LIFE_MS },
      serverEnvironment: { DSM_TOKEN: text, XDG_RUNTIME_DIR: cluster.runtime, ...environment },
      log() {},
    });
  const settings = (of: Daemon) => ({ DSM_TOKEN: text, DSM_DAEMON: `${HOST}:${of.port}`, ...BY_TCP });
  afterEach(() => cluster.settled());
  afterAll(async () => {
    daemon?.stop();
    await daemon?.ended;
    await cluster?.close();
  });
  const directory = (of = daemon) => daemonClient({ address: `${HOST}:${of.port}`, autostart: false, security });

  test("are renewed at half their life, and sessions go on", () => renewed(daemon));

  test("are renewed by a server without the JIT, too, which has to leave its port for a moment", async () => {
    const without = start(BY_TCP);
    try {
      await renewed(without);
    } finally {
      without.stop();
      await without.ended;
    }
  });

  async function renewed(of: Daemon): Promise<void> {
    const environment = settings(of);
    const session = cluster.session();
    const open = async (node: string): Promise<Actor> => {
      const actor = cluster.actor({ session, processes: 2, node, environment });
      return actor;
    };
    const [a, b] = [await open("a"), await open("b")];
    await Promise.all([a.do("open"), b.do("open")]);
    const { port, pid } = (await directory(of).get(session)) as { port: number; pid: number };
    const serials = new Set<string>();
    let first: X509Certificate | undefined;
    // Until the first certificates of all three have run out.
    await eventually("the server has a third certificate", async () => {
      // Refused just when the server leaves its port.
      const certificate = await shown(port, ROLE_NAMES.server).catch(() => null);
      if (certificate === null) return false;
      first ??= certificate;
      serials.add(certificate.serialNumber);
      await work([a, b]);
      return serials.size >= 3 && Date.parse(first.validTo) < Date.now();
    });
    expect((await directory(of).get(session))?.pid).toBe(pid);
    // A third node comes in, with a new certificate, to the same server at the same port.
    const third = await open("c");
    expect(await third.ask("open")).toMatch(/^DSM_FULL /);
    await third.end();
    // Both arbiters connect again, to a server that is new, and their first certificates have run out.
    process.kill(pid, "SIGKILL");
    await work([a, b]);
    await Promise.all([a.leave(), b.leave()]);
  }

  test("of arbiters admit no process without one, and make no server of an arbiter", async () => {
    const [server, arbiter] = await Promise.all(
      (["server", "arbiter"] as const).map((role) => obtainCredentials(directory(), role)),
    );
    for (const credentials of [server, arbiter]) credentials?.stop();
    const serverTls = server?.security.tls;
    const arbiterTls = arbiter?.security.tls;
    if (!serverTls || !arbiterTls) throw new Error("no certificates");
    const foreign = await makeDaemonAuthority();
    const stranger = await certifyDaemon(foreign, []);
    /** How a link ends, and what the one who listens has heard. */
    const tried = (listens: typeof serverTls, connects: typeof serverTls): Promise<{ end: string; heard: number }> =>
      new Promise((resolve) => {
        let heard = 0;
        let opened: Bun.Socket | undefined;
        const done = (end: string): void => {
          opened?.terminate();
          listener.stop();
          resolve({ end, heard });
        };
        const listener = new Listener(HOST, 0, listens, {
          data: (socket, chunk) => {
            heard += chunk.length;
            socket.end();
          },
        });
        const links = { ...security, tls: connects };
        greetServer({ host: HOST, port: listener.port }, links, new Uint8Array(64), {
          open: (socket) => {
            opened = socket;
            return (bytes) => socket.write(bytes);
          },
          data() {},
          refused: () => done("refused"),
          over: ({ how }) => done(how),
        });
      });
    // The server hears the challenge: its certificate, and the arbiter's, are good.
    expect(await tried(serverTls, arbiterTls)).toEqual({ end: "closed", heard: 72 });
    expect(await tried(serverTls, { ca: authority.certificate, serverName: ROLE_NAMES.server })).toMatchObject({
      heard: 0,
    });
    expect(await tried(serverTls, { ...arbiterTls, ...stranger })).toMatchObject({ heard: 0 });
    expect(await tried(arbiterTls, arbiterTls)).toMatchObject({ heard: 0 });
    expect(await tried({ ...serverTls, ...stranger }, arbiterTls)).toMatchObject({ heard: 0 });
  });

  test("change under a listener without a connection refused or lost, and without a word in clear", async () => {
    const credentials = await obtainCredentials(directory(), "server");
    credentials.stop();
    const tls = credentials.security.tls as NonNullable<Security["tls"]>;
    const secret = Buffer.from("a secret that is stored in the map");
    const listener = new Listener(HOST, 0, tls, { data: (socket, chunk) => void socket.write(chunk) });
    const middle = relay(listener.port);
    const echo = (port: number) => {
      const { promise, resolve, reject } = Promise.withResolvers<Bun.Socket>();
      let heard: (text: string) => void = () => {};
      void Bun.connect({
        ...{ hostname: HOST, port, tls: { ...tls, rejectUnauthorized: true } },
        socket: {
          handshake: (socket, ok, error) => (ok && socket.authorized ? resolve(socket) : reject(error)),
          data: (_socket, chunk) => heard(chunk.toString()),
          close: () => reject(new Error("closed")),
          connectError: (_socket, error) => reject(error),
        },
      }).catch(reject);
      const said = async (): Promise<string> => {
        const socket = await promise;
        return new Promise<string>((done) => {
          heard = done;
          socket.write(secret);
        });
      };
      return { said, end: async () => (await promise).end() };
    };
    const early = echo(middle.port);
    expect(await early.said()).toBe(secret.toString());
    const all = [];
    for (let i = 0; i < 20; i += 1) {
      // Some of these are in the queue of the kernel when the certificate changes.
      all.push(echo(listener.port), echo(listener.port));
      const next = await obtainCredentials(directory(), "server");
      next.stop();
      all.push(echo(listener.port), echo(listener.port));
      listener.useTls(next.security.tls as typeof tls);
    }
    expect(new Set(await Promise.all(all.map((one) => one.said())))).toEqual(new Set([secret.toString()]));
    expect(await early.said()).toBe(secret.toString());
    expect(middle.seen().length).toBeGreaterThan(1000);
    expect(middle.seen().includes(secret)).toBe(false);
    for (const one of [early, ...all]) await one.end();
    listener.stop();
    middle.stop();
  });

  test("are signed for peers that prove the token, for known roles, and for keys of one kind", async () => {
    const url = `https://127.0.0.1:${daemon.port}/v1/certificates`;
    const tls = { ca: authority.certificate, serverName: ROLE_NAMES.daemon };
    const { publicKey } = await makeKeyPair();
    const key = Buffer.from(publicKey).toString("base64");
    const headers = { "content-type": "application/json" };
    const unproven = await fetch(url, {
      method: "POST",
      headers,
      body: JSON.stringify({ role: "server", key }),
      tls,
    } as object);
    expect(unproven.status).toBe(401);
    const sign = (role: string, what: string) => directory().certify({ role: role as "server", key: what });
    await expect(sign("daemon", key)).rejects.toThrow("role is missing or neither server nor arbiter");
    for (const bad of ["", "AAAA", `${key}AAAA`.repeat(2), key.slice(8)]) {
      await expect(sign("server", bad)).rejects.toThrow("key is missing or not the public key of ECDSA on P-256");
    }
    const signed = await sign("arbiter", key);
    const certificate = new X509Certificate(signed?.certificate as string);
    expect(certificate.subjectAltName).toBe(`DNS:${ROLE_NAMES.arbiter}`);
    expect([certificate.ca, signed?.life_ms]).toEqual([false, LIFE_MS]);
    // One that has no authority of its own says so.
    const plain = daemonClient({ address: cluster.daemonAddress, autostart: false });
    expect(await plain.certify({ role: "server", key })).toBeNull();
  });
});
