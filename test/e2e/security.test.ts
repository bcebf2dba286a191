/** Who is not let in: other users, other tokens, other certificates, and what claims to be dsm and is not. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { mapFileSize } from "../../src/arbiter/map-file.ts";
import { makeCertificates } from "../../src/cli/commands/cert.ts";
import { LinkProver, linkProof, NONCE_SIZE } from "../../src/core/access/auth.ts";
import { Status } from "../../src/core/base/errors.ts";
import { ADDRESS_FIRST, ADDRESS_STRIDE, GREETING_TIMEOUT_MS, UNPROVEN_LINKS_MAX } from "../../src/core/base/limits.ts";
import { encode, encodeJson, encodeText, setUint64 } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { JOINED, JOINED_SIZE, PROCESS_HELLO_SIZE } from "../../src/core/wire/process-hello.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, DSM, eventually, ROOT } from "../support/e2e-cluster.ts";
import { Peer } from "../support/e2e-peer.ts";
import { needs } from "../support/needs.ts";
import { registerAt, tls } from "../support/register.ts";

setDefaultTimeout(120_000);

const STRANGER = 65534;
/** Only root acts for other users. */
const { test: testAsRoot } = needs("root");
const asStranger = ["setpriv", `--reuid=${STRANGER}`, `--regid=${STRANGER}`, "--clear-groups"];
const TEXT = "a token of the tests";
const TOKEN = encodeText(TEXT.replaceAll(" ", "-"));
const environment = { DSM_TOKEN: TEXT.replaceAll(" ", "-") };

/** What a process is told that opens a session with other settings than the cluster's. */
async function refused(cluster: Cluster, settings: Record<string, string>, session = "refused"): Promise<string> {
  const actor = cluster.actor({ session, processes: 1, node: "x", environment: settings });
  const answer = await actor.ask("open");
  expect(await actor.end()).toMatchObject({ code: 0, stderr: "" });
  return answer;
}

async function work([a, b]: [Actor, Actor]): Promise<void> {
  await a.do("store 8 0 12345");
  expect(await b.number("load 8 0")).toBe(12345);
  await Promise.all([a.do("barrier"), b.do("barrier")]);
}

describe("a token", () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start({ environment });
  });
  afterEach(() => cluster.settled());
  afterAll(() => cluster.close());

  test("admits peers that know it, everywhere", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    await work([a, b]);
    await Promise.all([a.leave(), b.leave()]);
  });

  test("keeps out peers that do not, and tells them what to do", async () => {
    for (const [DSM_TOKEN, reason, exitCode] of [
      ["", /^DSM_REFUSED the session daemon at 127\.0\.0\.1:\d+: this daemon demands a token; set DSM_TOKEN/, 1],
      ["another-token-of-theirs", /^DSM_REFUSED .* that is not the token of this daemon; set DSM_TOKEN/, 1],
      ["short", /^DSM_INVALID DSM_TOKEN cannot be used: it must have 16 to 256 bytes/, 2],
    ] as const) {
      expect(await refused(cluster, { DSM_TOKEN })).toMatch(reason);
      const { code, stderr } = await cluster.dsm(["sessions"], { DSM_TOKEN });
      expect(code).toBe(exitCode);
      expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
    }
    expect(await cluster.sessions()).toEqual([]);
  });

  testAsRoot("is taken from a file of this user's alone", async () => {
    const folder = join(cluster.folder, "keys");
    mkdirSync(join(folder, "dsm"), { recursive: true });
    const path = join(folder, "dsm/token");
    const settings = { DSM_TOKEN: "", XDG_CONFIG_HOME: folder };
    // On loopback a file that cannot be used is as good as none.
    for (const [mode, owner, works] of [
      [0o600, 0, true],
      [0o640, 0, false],
      [0o604, 0, false],
      [0o600, STRANGER, false],
    ] as const) {
      writeFileSync(path, `${environment.DSM_TOKEN}\n`);
      chmodSync(path, mode);
      chownSync(path, owner, 0);
      const { code, stderr } = await cluster.dsm(["sessions"], settings);
      expect([mode, owner, code]).toEqual([mode, owner, works ? 0 : 1]);
      if (!works) expect(stderr).toContain("demands a token");
      const listening = await cluster.command(
        [DSM, "server", "--session", "x", "--processes", "1", "--host", "0.0.0.0"],
        {
          ...{ ...settings, DSM_DAEMON: "127.0.0.1:1", DSM_AUTOSTART: "0" },
        },
      );
      expect(listening.code).toBe(1);
      if (!works) expect(listening.stderr).toMatch(/token .* (can be read by others; chmod 600|belongs to user 65534)/);
    }
  });

  describe("at the server", () => {
    let witnesses: [Actor, Actor];
    let session: string;
    let port: number;
    async function start(): Promise<void> {
      witnesses = (await cluster.actors(["a", "b"])) as [Actor, Actor];
      session = witnesses[0].session;
      ({ port } = await cluster.status(session));
    }
    async function end(): Promise<void> {
      await work(witnesses);
      await Promise.all(witnesses.map((actor) => actor.leave()));
    }
    const server = (): Promise<Peer> => Peer.connect({ hostname: "127.0.0.1", port });
    const hello = (): Uint8Array =>
      encodeHandshake(Kind.HELLO, encodeJson({ session, node: "liar", processes: 0, size: 0, order: "" }));
    const challenge = (): Uint8Array => encodeHandshake(Kind.CHALLENGE, new Uint8Array(NONCE_SIZE).fill(1));

    /** The server says no, as a link's end, and not a byte of the session before it. */
    async function saysNo(peer: Peer, reason: RegExp): Promise<void> {
      const reply = await peer.frame();
      expect([reply?.kind, reply?.op]).toEqual([Kind.FAIL, Status.REFUSED]);
      expect(reply?.text).toMatch(reason);
      expect(await peer.frame()).toBeNull();
      await peer.closed;
    }

    test("no peer is admitted, or gets the status, without a proof", async () => {
      await start();
      for (const greeting of [hello(), encodeHandshake(Kind.STATUS, new Uint8Array(0))]) {
        const peer = await server();
        peer.send(greeting);
        await saysNo(peer, /^this server demands a token; set DSM_TOKEN/);
      }
      // Nor between challenge and proof.
      const peer = await server();
      peer.send(challenge());
      expect((await peer.frame())?.kind).toBe(Kind.CHALLENGE);
      peer.send(hello());
      await saysNo(peer, /^this server demands a token/);
      await end();
    });

    test("a proof of another token or connection, or a copy of the server's own, is invalid", async () => {
      await start();
      const used: Uint8Array[] = [];
      const honest = await server();
      const prover = new LinkProver(TOKEN, true, new Uint8Array(NONCE_SIZE).fill(1), (bytes) => {
        used.push(bytes);
        honest.send(bytes);
      });
      prover.begin();
      const reply = async (): Promise<Uint8Array> => {
        const frame = await honest.frame();
        if (frame === null) throw new Error("no answer");
        return frame.kind === Kind.CHALLENGE
          ? encodeHandshake(Kind.CHALLENGE, frame.body)
          : encode({ kind: frame.kind as Kind, body: frame.body });
      };
      prover.receive(await reply());
      const proven = await reply();
      prover.receive(proven);
      expect(prover.open).toBe(true);
      honest.end();
      await honest.closed;

      for (const proof of [
        (used[1] as Uint8Array).subarray(40),
        proven.subarray(40),
        new Uint8Array(NONCE_SIZE),
        // What every link that knows no token could do: ask for a challenge and send something of it back.
        linkProof(encodeText("another-token-of-theirs"), "client", new Uint8Array(32).fill(1), new Uint8Array(32)),
      ]) {
        const peer = await server();
        peer.send(challenge());
        expect((await peer.frame())?.kind).toBe(Kind.CHALLENGE);
        peer.send(encode({ kind: Kind.PROOF, body: new Uint8Array(proof) }));
        await saysNo(peer, /^that is not the token of this server/);
      }
      await end();
    });

    test("unauthenticated connections displace each other, and block no other peer", async () => {
      await start();
      const beyond = 40;
      const begin = performance.now();
      let closed = 0;
      const displaced = Promise.withResolvers<void>();
      const count = (): void => {
        // Later their time is over, too.
        if (performance.now() - begin < GREETING_TIMEOUT_MS) closed += 1;
        if (closed >= beyond || performance.now() - begin > GREETING_TIMEOUT_MS) displaced.resolve();
      };
      // One that is displaced at once may never have been open here.
      const tried = Array.from({ length: UNPROVEN_LINKS_MAX + beyond }, () => server().catch(count));
      const strangers = (await Promise.all(tried)).filter((peer) => peer !== undefined);
      for (const peer of strangers) {
        peer.send(new Uint8Array(3));
        void peer.closed.then(count);
      }
      await displaced.promise;
      expect((await cluster.status(session)).ranks).toHaveLength(2);
      // An arbiter of another node comes: it is told that the session is full, not that the server is.
      const third = cluster.actor({ session, processes: 2, node: "c" });
      expect(await third.ask("open")).toMatch(/^DSM_FULL /);
      await third.end();
      // Each of the three came at the price of one stranger, at most twice.
      expect(closed).toBeLessThan(beyond + 20);
      for (const peer of strangers) peer.end();
      await end();
    });
  });

  test("a server that has no token, or another, is not followed", async () => {
    const bad = Bun.listen<{ asked: number }>({
      ...{ hostname: "127.0.0.1", port: 0 },
      socket: {
        open: (socket) => {
          socket.data = { asked: 0 };
        },
        data: (socket, chunk) => {
          // Asked for a challenge it gives one, asked for a proof it sends the client's back.
          socket.data.asked += 1;
          if (socket.data.asked === 1) socket.write(encodeHandshake(Kind.CHALLENGE, new Uint8Array(NONCE_SIZE)));
          else socket.write(chunk);
        },
      },
    });
    const entry = {
      ...{ instance: "00000000000000aa", host: "127.0.0.1", port: bad.port, pid: 2 ** 22 },
      ...{ processes: 1, size: 65536, slot: 7 },
    };
    // A daemon that cannot prove itself is not followed either.
    const impostor = Bun.serve({
      ...{ hostname: "127.0.0.1", port: 0 },
      fetch: () => Response.json({ service: "dsm", version: "0", protocol: 1, autostarted: false, ...entry }),
    });
    expect(await refused(cluster, { DSM_DAEMON: `127.0.0.1:${impostor.port}` })).toMatch(
      /^DSM_REFUSED what listens at 127\.0\.0\.1:\d+ does not prove that it knows the token/,
    );
    await impostor.stop(true);
    const nonce = "0".repeat(80);
    const liar = Bun.serve({
      ...{ hostname: "127.0.0.1", port: 0 },
      fetch: (request) =>
        request.headers.has("authorization")
          ? Response.json({ service: "dsm", version: "0", protocol: 1, autostarted: false, ...entry })
          : new Response("{}", { status: 401, headers: { "www-authenticate": `DSM-HMAC-SHA256 nonce="${nonce}"` } }),
    });
    expect(await refused(cluster, { DSM_DAEMON: `127.0.0.1:${liar.port}` })).toMatch(
      /^DSM_REFUSED what listens at 127\.0\.0\.1:\d+ does not prove that it knows the token/,
    );
    await liar.stop(true);

    // Registered with the token, so that only the proof of the connection can refuse it.
    await registerAt(cluster.daemonAddress, TOKEN, "refused", entry);
    expect(await refused(cluster, {})).toBe("DSM_REFUSED the server does not prove that it knows the token");
    bad.stop(true);
    await cluster.dsm(["remove", "refused"]);
  });
});

describe("TLS", () => {
  let folder: string;
  let cluster: Cluster;
  const files = (from: string): Record<string, string> => ({
    DSM_TLS_CA: join(folder, "certs/ca.pem"),
    DSM_TLS_CERT: join(from, "127.0.0.1.pem"),
    DSM_TLS_KEY: join(from, "127.0.0.1-key.pem"),
  });
  beforeAll(async () => {
    folder = mkdtempSync("/tmp/dsm-tls-");
    for (const name of ["certs", "foreign"]) await makeCertificates(join(folder, name), ["127.0.0.1"], 30);
    // The same authority, and a certificate that was good until half a day ago.
    mkdirSync(join(folder, "expired"));
    for (const name of ["ca.pem", "ca-key.pem"]) {
      await Bun.write(join(folder, "expired", name), Bun.file(join(folder, "certs", name)));
    }
    await makeCertificates(join(folder, "expired"), ["127.0.0.1"], -0.5);
    cluster = await Cluster.start({ environment: { ...environment, ...files(join(folder, "certs")) } });
  });
  afterEach(() => cluster.settled());
  afterAll(async () => {
    await cluster?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("carries a session, its status and its end", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    await work([a, b]);
    const { answered, ranks, port } = await cluster.status(a.session);
    expect([answered, ranks.length]).toEqual([true, 2]);
    // What listens there speaks nothing but TLS.
    const plain = await Peer.connect({ hostname: "127.0.0.1", port });
    plain.send(encodeHandshake(Kind.CHALLENGE, new Uint8Array(NONCE_SIZE)));
    await plain.closed;
    await work([a, b]);
    await Promise.all([a.leave(), b.leave()]);
  });

  test("keeps out peers without a certificate, with an expired one, or one of another authority", async () => {
    const { DSM_TLS_CA } = files("") as { DSM_TLS_CA: string };
    const noTls =
      /^DSM_REFUSED no TLS with the session daemon at 127\.0\.0\.1:\d+: .*(handshake failed|refuses our certificate)/;
    for (const [what, settings, reason] of [
      ["none", { DSM_TLS_CA, DSM_TLS_CERT: "", DSM_TLS_KEY: "" }, noTls],
      ["expired", files(join(folder, "expired")), noTls],
      ["foreign", files(join(folder, "foreign")), noTls],
      [
        "no TLS",
        { DSM_TLS_CA: "", DSM_TLS_CERT: "", DSM_TLS_KEY: "" },
        /; if it is one with TLS, set DSM_TLS_CA, or copy [^\n]+$/,
      ],
    ] as const) {
      const answer = await refused(cluster, settings);
      expect([what, answer]).toEqual([what, expect.stringMatching(reason)]);
    }
    expect(await cluster.sessions()).toEqual([]);
  });

  test("follows no daemon with an expired certificate, a foreign one, or without TLS", async () => {
    const health = { service: "dsm", version: "0", protocol: 1, pid: 1, autostarted: false };
    for (const [what, options, reason] of [
      ["expired", { tls: tls(join(folder, "expired")) }, /^DSM_REFUSED no TLS with the session daemon .*expired/],
      ["foreign", { tls: tls(join(folder, "foreign")) }, /^DSM_REFUSED no TLS with the session daemon .*verify/],
      ["plain", {}, /^DSM_REFUSED no TLS with the session daemon at 127\.0\.0\.1:\d+: /],
    ] as const) {
      const asked: string[] = [];
      const other = Bun.serve({
        ...{ hostname: "127.0.0.1", port: 0, ...options },
        fetch: (request) => {
          asked.push(request.url);
          return Response.json(health);
        },
      });
      const answer = await refused(cluster, { DSM_DAEMON: `127.0.0.1:${other.port}` });
      expect([what, answer]).toEqual([what, expect.stringMatching(reason)]);
      expect(asked).toEqual([]);
      await other.stop(true);
    }
  });

  test("files that do not fit are refused at the start", async () => {
    const certs = join(folder, "certs");
    const key = join(folder, "open-key.pem");
    await Bun.write(key, Bun.file(join(certs, "127.0.0.1-key.pem")));
    chmodSync(key, 0o644);
    for (const [args, reason, exitCode = 1] of [
      [
        ["--tls-cert", join(certs, "127.0.0.1.pem"), "--tls-key", join(folder, "foreign/127.0.0.1-key.pem")],
        /is not the key of/,
      ],
      [["--tls-cert", join(certs, "none.pem"), "--tls-key", key], /cannot be read: ENOENT/],
      [["--tls-cert", join(certs, "127.0.0.1.pem"), "--tls-key", key], /can be read by others; chmod 600/],
      [["--tls-cert", join(certs, "127.0.0.1-key.pem"), "--tls-key", key], /is not a certificate/],
      [["--tls-cert", join(certs, "127.0.0.1.pem")], /TLS needs a certificate and its key/, 2],
      [["--tls-ca", join(certs, "ca.pem")], /TLS needs a certificate and its key/, 2],
    ] as [string[], RegExp, number?][]) {
      const cleared = { DSM_TLS_CA: "", DSM_TLS_CERT: "", DSM_TLS_KEY: "" };
      const { code, stderr } = await cluster.dsm(["daemon", "--port=0", ...args], cleared);
      expect([args, code]).toEqual([args, exitCode]);
      expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
      expect(stderr).toMatch(reason);
    }
    const { stderr } = await cluster.dsm(["sessions"], { DSM_TLS_CA: "certs/ca.pem" });
    expect(stderr).toBe('dsm: DSM_TLS_CA is "certs/ca.pem"; give an absolute path\n');
  });
});

describe("on this machine", () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start();
    mkdirSync(join(cluster.runtime, "dsm"), { recursive: true, mode: 0o700 });
  });
  afterEach(() => cluster.settled());
  afterAll(() => cluster.close());

  const intruder = (...args: string[]) =>
    Bun.spawn({
      cmd: [...asStranger, process.execPath, join(import.meta.dir, "../support/e2e-intruder.ts"), ...args],
      env: { PATH: process.env.PATH ?? "", HOME: "/nonexistent" },
      stdio: ["ignore", "pipe", "inherit"],
    });

  testAsRoot("a process follows no arbiter of another user", async () => {
    const open = mkdtempSync("/tmp/dsm-open-");
    chmodSync(open, 0o777);
    const stranger = intruder("listen", join(open, "s"));
    try {
      await eventually("the stranger listens", async () => {
        const { value } = await stranger.stdout.getReader().read();
        return value !== undefined;
      });
      const path = cluster.arbiterSocket("refused", "x");
      renameSync(join(open, "s"), path);
      expect(await refused(cluster, {})).toBe(`DSM_REFUSED the socket ${path} is another user's; remove it`);
      rmSync(path);
    } finally {
      stranger.kill("SIGKILL");
      await stranger.exited;
      rmSync(open, { recursive: true, force: true });
    }
  });

  testAsRoot("an arbiter serves no process of another user, even one that could reach its socket", async () => {
    const [a] = (await cluster.actors(["a"])) as [Actor];
    const path = cluster.arbiterSocket(a.session, "a");
    const folders = [cluster.folder, cluster.runtime, join(cluster.runtime, "dsm")];
    for (const folder of folders) chmodSync(folder, 0o755);
    chmodSync(path, 0o777);
    const greeting = encodeHandshake(Kind.HELLO, new Uint8Array(PROCESS_HELLO_SIZE));
    const stranger = intruder("connect", path, Buffer.from(greeting).toString("hex"));
    const said = await stranger.stdout.text();
    for (const folder of folders) chmodSync(folder, 0o700);
    expect(said).toBe("closed after 0 bytes\n");
    // The same of our own user gets an answer.
    const peer = await Peer.connect({ unix: path });
    peer.send(greeting);
    expect((await peer.frame())?.kind).toBe(Kind.FAIL);
    await peer.closed;
    await a.leave();
  });

  test("an arbiter that cannot learn the user of a peer listens in a private directory, or not at all", async () => {
    const environment = { BUN_JSC_useJIT: "0" };
    const actor = cluster.actor({ session: "plain", processes: 1, node: "a", environment });
    await actor.do("open");
    await actor.leave();
    const open = mkdtempSync("/tmp/dsm-open-");
    chmodSync(open, 0o711);
    const words = ["arbiter", "--session", "plain", "--processes", "1", "--socket", join(open, "s")];
    const { code, stderr } = await cluster.dsm(words, environment);
    expect([code, stderr]).toEqual([1, `dsm: cannot listen on ${open}/s: its folder lets other users in\n`]);
    expect(readdirSync(open)).toEqual([]);
    rmSync(open, { recursive: true });
    await cluster.dsm(["remove", "plain"]);
  });

  test("socket, lock and map are this user's alone", async () => {
    const [a] = (await cluster.actors(["a"])) as [Actor];
    const modes = [
      join(cluster.runtime, "dsm"),
      cluster.arbiterSocket(a.session, "a"),
      `/dev/shm/${cluster.maps()[0]}`,
    ];
    expect(modes.map((path) => lstatSync(path).mode & 0o777)).toEqual([0o700, 0o600, 0o600]);
    await a.leave();
  });

  testAsRoot("a library starts no dsm beside it that another user may have put there", async () => {
    const folder = mkdtempSync("/tmp/dsm-beside-");
    const program = join(folder, "dsm");
    const ran = join(folder, "ran");
    copyFileSync(join(ROOT, "native/build/libdsm.so"), join(folder, "libdsm.so"));
    const settings = { DSM_BIN: "", PATH: ".:dsm-beside:/usr/bin:/bin", LD_LIBRARY_PATH: folder };
    try {
      for (const [what, plant, starts] of [
        ["nothing wrong", () => {}, true],
        ["another user's program", () => chownSync(program, STRANGER, STRANGER), false],
        ["a program that the group can write", () => chmodSync(program, 0o775), false],
        ["a folder that all can write to", () => chmodSync(folder, 0o777), false],
        ["another user's folder", () => chownSync(folder, STRANGER, STRANGER), false],
        ["another user's link", () => linkTo(program, STRANGER), false],
        ["a link of our own", () => linkTo(program, 0), true],
        ["a folder such as /tmp, and our own program", () => chmodSync(folder, 0o1777), true],
      ] as const) {
        rmSync(ran, { force: true });
        rmSync(program, { force: true });
        chmodSync(folder, 0o755);
        chownSync(folder, 0, 0);
        writeFileSync(program, `#!/bin/sh\n: > ${ran}\necho error DSM_BUSY it ran\n`, { mode: 0o755 });
        plant();
        const answer = await refused(cluster, settings);
        expect([what, existsSync(ran)]).toEqual([what, starts]);
        if (starts) expect(answer).toBe("DSM_BUSY it ran");
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  function linkTo(program: string, owner: number): void {
    renameSync(program, `${program}-moved`);
    symlinkSync(`${program}-moved`, program);
    lchownSync(program, owner, owner);
  }

  describe("an arbiter that lies", () => {
    const SIZE = 65536;
    const map = `/dev/shm/dsm-${process.getuid?.()}-lies-${process.pid}-0`;
    const joined = (lies: Partial<Record<keyof typeof JOINED, number | string>> = {}): Uint8Array => {
      const body = new Uint8Array(JOINED_SIZE);
      const view = new DataView(body.buffer);
      const truth = {
        ...{ base: ADDRESS_FIRST + 300 * ADDRESS_STRIDE, size: SIZE, token: 1, processes: 1, node: 1, nodeName: "x" },
        ...{ mapPath: map, order: 1, direct: 0 },
      };
      for (const [field, value] of Object.entries({ ...truth, ...lies })) {
        const [offset, size] = JOINED[field as keyof typeof JOINED];
        if (typeof value === "string") body.set(encodeText(value).subarray(0, size), offset);
        else if (size === 8) setUint64(view, offset, value);
        else view.setUint32(offset, value, true);
      }
      return body;
    };

    /** An arbiter of our own making: what it answers to a process's greeting, and to all that follows. */
    async function withArbiter(
      greeting: Uint8Array,
      reply: (kind: number, tag: number) => Uint8Array,
      action: (actor: Actor) => Promise<void>,
    ): Promise<void> {
      writeFileSync(map, "", { mode: 0o600 });
      truncateSync(map, mapFileSize(SIZE, false));
      const listener = Bun.listen({
        unix: cluster.arbiterSocket("refused", "x"),
        socket: {
          data: (socket, chunk) => {
            const [kind] = [chunk[4] as number];
            const tag = new DataView(chunk.buffer, chunk.byteOffset).getUint32(8, true);
            if (kind === Kind.HELLO) socket.write(greeting);
            else if (kind === Kind.ATTACH) socket.write(encode({ kind: Kind.REPLY }));
            else socket.write(reply(kind, tag));
          },
        },
      });
      try {
        const actor = cluster.actor({ session: "refused", processes: 1, node: "x" });
        await action(actor);
        expect(await actor.end()).toMatchObject({ code: 0, signal: null, stderr: "" });
      } finally {
        listener.stop(true);
        rmSync(map, { force: true });
        rmSync(`${map}-moved`, { force: true });
        rmSync(cluster.arbiterSocket("refused", "x"), { force: true });
      }
    }
    /** The map itself is as it should be; its name is a link to it. */
    function replaceByLink(): void {
      renameSync(map, `${map}-moved`);
      symlinkSync(`${map}-moved`, map);
    }
    const yes = (): Uint8Array => encode({ kind: Kind.REPLY });

    test("about the session is not believed", async () => {
      const outside = join(cluster.folder, "map");
      writeFileSync(outside, "", { mode: 0o600 });
      truncateSync(outside, SIZE + 4096);
      for (const [lie, rank] of [
        [{ size: 0 }, 0],
        [{ size: SIZE * 2 }, 0],
        [{ size: 2 ** 33 }, 0],
        [{ size: SIZE - 8 }, 0],
        [{ base: 0x10000 }, 0],
        [{ base: ADDRESS_FIRST + 4096 }, 0],
        [{ base: ADDRESS_FIRST + 512 * ADDRESS_STRIDE }, 0],
        [{ processes: 0 }, 0],
        [{ processes: 2 }, 0],
        [{}, 1],
        [{ order: 0 }, 0],
        [{ order: 77 }, 0],
        [{ direct: 2 }, 0],
        [{ mapPath: outside }, 0],
        [{ mapPath: "/dev/shm/dsm-../../etc/passwd" }, 0],
        [{ mapPath: "" }, 0],
        [{ mapPath: `${map}${"x".repeat(200)}` }, 0],
      ] as const) {
        const greeting = encode({ kind: Kind.REPLY, aux: rank, body: joined(lie) });
        await withArbiter(greeting, yes, async (actor) => {
          const answer = await actor.ask("open");
          expect([lie, answer]).toEqual([
            lie,
            "DSM_PROTOCOL invalid JOINED reply from the arbiter (check that both use the same dsm version)",
          ]);
        });
      }
      // A refusal that says that all is well is no welcome.
      await withArbiter(encode({ kind: Kind.FAIL, op: 0, body: joined() }), yes, async (actor) => {
        expect(await actor.ask("open")).toMatch(/^DSM_PROTOCOL /);
      });
    });

    testAsRoot("about its map is not believed", async () => {
      for (const [what, change] of [
        ["a file that is too small", () => truncateSync(map, SIZE)],
        ["another user's", () => chownSync(map, STRANGER, STRANGER)],
        ["one that others can write", () => chmodSync(map, 0o666)],
        ["a link", () => replaceByLink()],
      ] as const) {
        const greeting = encode({ kind: Kind.REPLY, body: joined() });
        await withArbiter(greeting, yes, async (actor) => {
          change();
          const answer = await actor.ask("open");
          expect([what, answer]).toEqual([what, expect.stringMatching(/^DSM_(PROTOCOL|SYSTEM) .*the map \/dev\/shm/)]);
        });
      }
    });

    test("about a block never gives a pointer outside the map", async () => {
      let offset = 0;
      const reply = (kind: number, tag: number): Uint8Array =>
        encode({ kind: Kind.REPLY, tag, offset: kind === Kind.ALLOC ? offset : 0 });
      await withArbiter(encode({ kind: Kind.REPLY, body: joined() }), reply, async (actor) => {
        await actor.do("open");
        for (const [at, good] of [
          [0, true],
          [SIZE - 104, true],
          [SIZE - 100, false],
          [SIZE - 96, false],
          [SIZE, false],
          [2 ** 52, false],
        ] as const) {
          offset = at;
          const answer = await actor.ask("alloc 100");
          expect([at, answer]).toEqual([
            at,
            good ? `ok ${at}` : "DSM_PROTOCOL the arbiter gave a block outside the map, or one that is not aligned",
          ]);
        }
        await actor.do("leave");
      });
    });
  });
});
