/** Bad input: one line that says what to do, an error value or exit code, and nothing left behind. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Status } from "../../src/core/base/errors.ts";
import { PROTOCOL_VERSION } from "../../src/core/base/limits.ts";
import { encode, encodeText } from "../../src/core/wire/frame.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, DSM } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** What a process is told that opens a session with this environment. */
async function refused(
  environment: Record<string, string>,
  options: { processes?: number; size?: string } = {},
): Promise<string> {
  const actor = cluster.actor({ session: "bad", node: "a", processes: 1, environment, ...options });
  const answer = await actor.ask("open");
  expect(await actor.end()).toEqual({ code: 0, signal: null, stdout: "", stderr: "" });
  return answer;
}

type Bad = [what: string, environment: Record<string, string>, reason: string | RegExp];

const controls = [
  ["a C1 control character", "a\u009b2J", "U+009B"],
  ["a mark of direction", "a\u202eb", "U+202E"],
  ["a separator of lines", "a\u2028b", "U+2028"],
  ["DEL", "a\u007f", "U+007F"],
].flatMap(([what, name, point]): Bad[] => {
  const why = `name has a control character (${point}); leave it out`;
  return [
    [`a session name with ${what}`, { DSM_SESSION: name as string }, `DSM_INVALID the session ${why}`],
    [`a node name with ${what}`, { DSM_NODE: name as string }, `DSM_INVALID the node ${why}`],
  ];
});

const sizes = [
  ...["1e300", "1e3", "0x10", "-0", "+1", "nan", "inf", "1.5", "1.", ".5k", "1 T", "0.3k"].map(
    (size): Bad => [
      `size ${size}`,
      { DSM_SIZE: size },
      `DSM_INVALID DSM_SIZE is "${size}"; set bytes, or a number with KiB, MiB or GiB`,
    ],
  ),
  ...["9007199254740993", "99999999999999999999", "18014398509481984KiB"].map(
    (size): Bad => [`size ${size}`, { DSM_SIZE: size }, `DSM_INVALID DSM_SIZE is "${size}"; the limit is 4 GiB`],
  ),
];

describe("settings of a session", () => {
  for (const [what, environment, reason] of [
    ["size 0", { DSM_SIZE: "0" }, 'DSM_INVALID DSM_SIZE is "0"; set bytes, or a number with KiB, MiB or GiB'],
    [
      "an invalid size",
      { DSM_SIZE: "much" },
      'DSM_INVALID DSM_SIZE is "much"; set bytes, or a number with KiB, MiB or GiB',
    ],
    [
      "a negative size",
      { DSM_SIZE: "-4096" },
      'DSM_INVALID DSM_SIZE is "-4096"; set bytes, or a number with KiB, MiB or GiB',
    ],
    ["a size beyond the limit", { DSM_SIZE: "5GiB" }, "DSM_INVALID size 5 GiB is beyond the limit of 4 GiB"],
    ["no session name", { DSM_SESSION: "" }, "DSM_INVALID the session name is empty; give it 1 to 63 bytes"],
    [
      "a session name too long",
      { DSM_SESSION: "x".repeat(64) },
      "DSM_INVALID the session name has 64 bytes; the limit is 63",
    ],
    ["a session name with a slash", { DSM_SESSION: "a/b" }, "DSM_INVALID the session name has a slash; leave it out"],
    [
      "a session name with a control character",
      { DSM_SESSION: "a\nb" },
      "DSM_INVALID the session name has a control character (U+000A); leave it out",
    ],
    ...controls,
    ...sizes,
    ["a session name that is no name", { DSM_SESSION: ".." }, 'DSM_INVALID the session name is ".."; choose another'],
    ["a node name with a slash", { DSM_NODE: "/" }, "DSM_INVALID the node name has a slash; leave it out"],
    ["0 processes", { DSM_PROCESSES: "0" }, 'DSM_INVALID DSM_PROCESSES is "0"; set a number from 1 to 1024'],
    ["too many processes", { DSM_PROCESSES: "1025" }, "DSM_INVALID processes is 1025; the limit is 1024"],
    [
      "an invalid number of processes",
      { DSM_PROCESSES: "two" },
      'DSM_INVALID DSM_PROCESSES is "two"; set a number from 1 to 1024',
    ],
    ["an invalid rank", { DSM_RANK: "-1" }, 'DSM_INVALID DSM_RANK is "-1"; set a number from 0 to 1023'],
    ["an invalid time limit", { DSM_JOIN_TIMEOUT_MS: "0" }, 'DSM_INVALID DSM_JOIN_TIMEOUT_MS is "0"; set milliseconds'],
    ["an invalid address", { DSM_DAEMON: "here" }, `DSM_INVALID the daemon's address is "here"; write host:port`],
    ["an invalid port", { DSM_DAEMON: "here:0" }, `DSM_INVALID the daemon's address is "here:0"; write host:port`],
    [
      "a dsm program that is not there",
      { DSM_BIN: "/nowhere/dsm" },
      "DSM_SYSTEM /nowhere/dsm is not the dsm program; set DSM_BIN to its path",
    ],
    [
      "a dsm program that is another",
      { DSM_BIN: "/bin/echo" },
      /^DSM_PROTOCOL the arbiter said "arbiter --session bad/,
    ],
    [
      "a dsm program that does nothing",
      { DSM_BIN: "/bin/true" },
      'DSM_SYSTEM the arbiter (/bin/true arbiter) ended before it was ready: memory may have run out; "dsm doctor" checks this machine',
    ],
    [
      "a run-time directory too long",
      { XDG_RUNTIME_DIR: "" },
      /^DSM_SYSTEM XDG_RUNTIME_DIR is longer than 74 bytes; set a shorter one$/,
    ],
  ] as const) {
    test(`${what} is refused`, async () => {
      const own: Record<string, string> = { ...environment };
      if (own.XDG_RUNTIME_DIR === "") {
        own.XDG_RUNTIME_DIR = join(cluster.folder, "x".repeat(100));
        mkdirSync(own.XDG_RUNTIME_DIR, { mode: 0o700 });
      }
      const answer = await refused(own);
      if (typeof reason === "string") expect(answer).toBe(reason);
      else expect(answer).toMatch(reason);
      expect(await cluster.sessions()).toEqual([]);
    });
  }

  test("a run-time directory that others can enter is refused", async () => {
    const own = join(cluster.folder, "open");
    mkdirSync(join(own, "dsm"), { recursive: true });
    chmodSync(join(own, "dsm"), 0o755);
    expect(await refused({ XDG_RUNTIME_DIR: own })).toBe(
      `DSM_SYSTEM the run-time directory ${own}/dsm is not a directory of yours alone; remove it, or set XDG_RUNTIME_DIR`,
    );
  });

  test("a program that was started by itself is told how to start it", async () => {
    const actor = cluster.actor({ session: "bad", node: "a" }, ["env", "-u", "DSM_SESSION", cluster.program("actor")]);
    expect(await actor.ask("open")).toBe(
      "DSM_INVALID no session named; start the program with dsm run, or set DSM_SESSION",
    );
    await actor.end();
  });

  test("a session that does not exist needs its number of processes", async () => {
    const actor = cluster.actor({ session: "bad", node: "a" });
    expect(await actor.ask("open")).toMatch(/^DSM_REFUSED there is no session "bad" .*say how many processes/);
    await actor.end();
  });

  needs("namespaces").test("a size beyond what /dev/shm has is refused, and a smaller one is not", async () => {
    // A /dev/shm of 1 MiB, for this process and the arbiter it starts.
    const small = [
      "unshare",
      "--mount",
      "sh",
      "-c",
      'mount -t tmpfs -o size=1m dsm-test /dev/shm && exec "$0"',
      cluster.program("actor"),
    ];
    const actor = cluster.actor({ session: "bad", node: "a", processes: 1, size: "2MiB" }, small);
    expect(await actor.ask("open")).toBe(
      "DSM_NO_MEMORY a map of 2.5 MiB does not fit in /dev/shm, where 1 MiB of 1 MiB are free and each node needs a map of its own; choose a smaller --size, or give it more room (docker run --shm-size)",
    );
    await actor.end();
    const fits = cluster.actor({ session: "good", node: "a", processes: 1, size: "256KiB" }, small);
    await fits.do("open");
    await fits.do("store 4 0 1");
    await fits.leave();
  });
});

describe("processes that do not agree", () => {
  for (const [what, other, reason] of [
    ["on their number", { processes: 3 }, /^DSM_MISMATCH session "agree-\d" (has|is for) 2 processes, not 3; /],
    ["on the size", { size: "128KiB" }, /^DSM_MISMATCH session "agree-\d" has a map of 64 KiB, not 128 KiB; /],
  ] as const) {
    for (const node of ["a", "b"]) {
      test(`${what}, on ${node === "a" ? "one node" : "two nodes"}: the later one is refused, the session goes on`, async () => {
        const session = `agree-${cluster.session().slice(1)}`.slice(0, 7);
        const first = cluster.actor({ session, node: "a", processes: 2 });
        const joined = first.do("open");
        await cluster.untilPresent(session, 1);
        const bad = cluster.actor({ session, node, processes: 2, ...other });
        expect(await bad.ask("open")).toMatch(reason);
        expect(await bad.end()).toMatchObject({ code: 0, stderr: "" });
        const second = cluster.actor({ session, node, processes: 2 });
        await Promise.all([joined, second.do("open")]);
        await Promise.all([first.do("barrier"), second.do("barrier")]);
        await Promise.all([first.leave(), second.leave()]);
      });
    }
  }

  test("sizes of the same number of pages agree, and a process without a size takes the session's", async () => {
    const session = cluster.session();
    const actors = [
      cluster.actor({ session, node: "a", processes: 3, size: "8000" }),
      cluster.actor({ session, node: "b", processes: 3, size: "5000" }),
    ];
    const joined = actors.map((actor) => actor.do("open"));
    await cluster.untilPresent(session, 2);
    const third = cluster.actor({ session, node: "a", environment: { DSM_SIZE: "" } });
    await Promise.all([...joined, third.do("open")]);
    expect(await third.do("describe")).toMatch(/^\d 3 0x\w+ 8192 a /);
    await Promise.all([...actors, third].map((actor) => actor.leave()));
  });

  test("one process too many is refused, wherever it comes from", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    for (const node of ["a", "c"]) {
      const third = cluster.actor({ session: a.session, node, processes: 2 });
      expect(await third.ask("open")).toBe("DSM_FULL the session has all its processes already; this is one too many");
      expect(await third.end()).toMatchObject({ code: 0, stderr: "" });
    }
    await Promise.all([a.do("barrier"), b.do("barrier")]);
    await Promise.all([a.leave(), b.leave()]);
  });

  test("one that waits for others in vain gives up after its time, and leaves nothing", async () => {
    expect(await refused({ DSM_JOIN_TIMEOUT_MS: "3000" }, { processes: 2 })).toBe(
      'DSM_TIMEOUT session "bad": process 1 of 2 did not join in 3000 ms',
    );
  });

  test("the time of one that waits is over: it says which have not joined, on any node", async () => {
    const session = cluster.session();
    const options = { session, processes: 5, environment: { DSM_JOIN_TIMEOUT_MS: "2000" } };
    const [a, b] = [3, 1].map((rank) => cluster.actor({ ...options, rank, node: `n${rank}` })) as [Actor, Actor];
    const answers = [a.ask("open")];
    await cluster.untilPresent(session, 1);
    answers.push(b.ask("open"));
    await cluster.untilPresent(session, 2);
    const [first, second] = await Promise.all(answers);
    const missing = `DSM_TIMEOUT session "${session}": processes 0, 2 and 4 of 5 did not join in 2000 ms`;
    // The second also when the first has given up its place by then.
    expect([first, second]).toEqual([missing, missing]);
    await Promise.all([a.end(), b.end()]);
  });
});

describe("semaphore names", () => {
  for (const [what, name, reason] of [
    ["too long", "x".repeat(64), "DSM_INVALID the semaphore name has 64 bytes; the limit is 63"],
    ["with a slash", "a/b", "DSM_INVALID the semaphore name has a slash; leave it out"],
    ["that is empty", "", "DSM_INVALID the semaphore name is empty; give it 1 to 63 bytes"],
    [
      "with a control character",
      "a\u0001",
      "DSM_INVALID the semaphore name has a control character (U+0001); leave it out",
    ],
    [
      "with a mark of direction",
      "a\u2067",
      "DSM_INVALID the semaphore name has a control character (U+2067); leave it out",
    ],
  ] as const) {
    test(`${what} are refused by every call`, async () => {
      const [a] = (await cluster.actors(["a"])) as [Actor];
      for (const verb of ["wait", "try", "post", "timed"]) expect(await a.ask(`${verb} ${name}`)).toBe(reason);
      // A name of the greatest length is not.
      await a.do(`wait ${"x".repeat(63)} 1`);
      await a.leave();
    });
  }

  test("more than the limit of 4096 are refused", async () => {
    const [a] = (await cluster.actors(["a"])) as [Actor];
    expect(await a.ask("fill_names 5000")).toMatch(/^DSM_LIMIT a limit of the session is reached/);
    // Those that are there go on.
    await a.do("post n0");
    await a.leave();
  });
});

describe("the daemon's address", () => {
  test("an address at which no daemon listens, with autostart off", async () => {
    expect(await refused({ DSM_DAEMON: "127.0.0.1:1", DSM_AUTOSTART: "0" })).toBe(
      'DSM_UNREACHABLE the session daemon at 127.0.0.1:1 cannot be reached: nothing is listening there; start one with "dsm daemon"',
    );
  });

  test("of a host that is not there", async () => {
    const DSM_TOKEN = `0123456789abcdef:${"ab".repeat(32)}`;
    expect(await refused({ DSM_DAEMON: "no-such-host.invalid:4200", DSM_TOKEN })).toMatch(
      /^DSM_UNREACHABLE the session daemon at no-such-host\.invalid:4200 cannot be reached: .*; check the address/,
    );
  });

  for (const [what, answer, more] of [
    ["another HTTP service", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\n\r\nhello", ""],
    ["a service that is no HTTP", "220 mail.example ESMTP ready\r\n", ""],
    ["a service that hangs up", "", "; if it is one with TLS, set DSM_TLS_CA, or copy its ~/.config/dsm/token here"],
  ] as const) {
    test(`of ${what}`, async () => {
      const other = Bun.listen({
        ...{ hostname: "127.0.0.1", port: 0 },
        socket: {
          data(socket) {
            socket.end(answer);
          },
        },
      });
      expect(await refused({ DSM_DAEMON: `127.0.0.1:${other.port}` })).toBe(
        `DSM_PROTOCOL something other than a dsm daemon is listening on 127.0.0.1:${other.port}; ` +
          `set DSM_DAEMON or --daemon to the daemon's address${more}`,
      );
      other.stop(true);
    });
  }
});

describe("a part of another protocol version", () => {
  const TEXT = "the peer speaks protocol version 1, this is version 4; install the same dsm on both";
  const refusal = encode({ kind: Kind.FAIL, op: Status.VERSION, body: encodeText(TEXT) });

  test("the daemon", async () => {
    const health = { service: "dsm", version: "9.9.9", protocol: 77, pid: 1, autostarted: false };
    const other = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => Response.json(health) });
    expect(await refused({ DSM_DAEMON: `127.0.0.1:${other.port}` })).toBe(
      `DSM_VERSION the session daemon at 127.0.0.1:${other.port} (dsm 9.9.9) speaks protocol version 77, ` +
        `this is version ${PROTOCOL_VERSION}; install the same dsm on both`,
    );
    await other.stop(true);
  });

  test("the server", async () => {
    const other = Bun.listen({
      ...{ hostname: "127.0.0.1", port: 0 },
      socket: {
        data(socket) {
          socket.end(refusal);
        },
      },
    });
    const url = `http://${cluster.daemonAddress}/v1/sessions/bad`;
    const registered = await fetch(url, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        ...{ instance: "00000000000000aa", host: "127.0.0.1", port: other.port, pid: 2 ** 22 },
        ...{ processes: 1, size: 65536, slot: 7 },
      }),
    });
    expect(registered.status).toBe(201);
    expect(await refused({}, { size: "64KiB" })).toBe(`DSM_VERSION ${TEXT}`);
    other.stop(true);
    expect((await fetch(url, { method: "DELETE" })).status).toBe(204);
  });

  test("the arbiter", async () => {
    const path = cluster.arbiterSocket("bad", "a");
    mkdirSync(join(cluster.runtime, "dsm"), { recursive: true, mode: 0o700 });
    const other = Bun.listen({
      unix: path,
      socket: {
        data(socket) {
          socket.end(refusal);
        },
      },
    });
    expect(await refused({})).toBe(`DSM_VERSION ${TEXT}`);
    other.stop(true);
  });

  test("an arbiter that is something else", async () => {
    const other = Bun.listen({
      unix: cluster.arbiterSocket("bad", "a"),
      socket: {
        data(socket) {
          socket.end("220 mail.example ESMTP ready, and what else a server may say\r\n");
        },
      },
    });
    expect(await refused({})).toBe("DSM_PROTOCOL the arbiter's answer is no dsm frame");
    other.stop(true);
  });
});

describe("a wild pointer", () => {
  for (const [what, command, words] of [
    ["far from the map", "wild 0x10", /^$/],
    ["just behind the map", "store 1 65536 1", /^dsm: a store to 0x\w+ is right behind the end of the map [^\n]+\n$/],
    ["just before the map", "store 4 -4 1", /^dsm: a store to 0x\w+ is 4 bytes before the beginning [^\n]+\n$/],
  ] as const) {
    test(`${what} ends the process by SIGSEGV as it would without dsm`, async () => {
      const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
      void a.ask(command);
      expect(await a.end()).toMatchObject({ signal: "SIGSEGV", stderr: expect.stringMatching(words) });
      expect(await b.ask("barrier")).toMatch(/^DSM_LOST process 0 /);
      await b.leave();
    });
  }

  test("finds the program's own handler, installed before or after joining", async () => {
    await cluster.runWell([cluster.program("handlers")], { session: cluster.session(), nodes: ["a", "b"] });
  });
});

describe("dsm run", () => {
  for (const [what, args, code, reason] of [
    ["a program that is missing", ["./missing"], 127, /there is no program ".\/missing"/],
    ["a script that is missing", ["./missing.ts"], 127, /there is no program ".\/missing.ts"/],
    ["a program that is a folder", ["/tmp"], 126, /"\/tmp" is not a file/],
  ] as const) {
    test(`${what} is one line and an exit code`, async () => {
      const { stdout, stderr, ...ended } = await cluster.dsm(["run", "-n", "2", "--", ...args]);
      expect(ended).toEqual({ code, signal: null });
      expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
      expect(stderr).toMatch(reason);
      expect(stdout).toBe("");
    });
  }

  test("a process that crashes takes the others with it, and nothing stays", async () => {
    const script = 'if [ "$DSM_RANK" = 1 ]; then echo wild 0x10; else echo barrier; fi | sed "1i open" | exec "$0"';
    const { code, stderr } = await cluster.dsm([
      "run",
      "-n",
      "3",
      "--nodes",
      "2",
      "--",
      "sh",
      "-c",
      script,
      cluster.program("actor"),
    ]);
    expect(code).toBe(139);
    expect(stderr).not.toContain("unexpected");
  });

  test("a program that fails to join leaves no session", async () => {
    const program = join(cluster.folder, "fails.ts");
    writeFileSync(program, 'import { join } from "dsm";\nawait join({ processes: 3 });\n');
    const { code, stderr } = await cluster.dsm(["run", "-n", "2", "--session", "fails", "--", program], {
      DSM_JOIN_TIMEOUT_MS: "500",
    });
    expect(code).toBe(1);
    expect(stderr).toContain("DSM_TIMEOUT");
  });

  test("another program of that name is not mistaken for dsm's roles", async () => {
    const { code, stderr } = await cluster.command([DSM, "nonsense"]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
  });
});
