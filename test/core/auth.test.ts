/** Proofs of the token: between the ends of a link, and for the daemon's API. */
import { describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import {
  answerProof,
  bodyHash,
  checkListening,
  equalProofs,
  LinkGuard,
  LinkProver,
  linkProof,
  mustProve,
  NONCE_SIZE,
  OPEN,
  plainText,
  RequestGuard,
  readChallenge,
  type Security,
  signRequest,
} from "../../src/core/access/auth.ts";
import { checkToken, formatToken, parseToken, plainToken } from "../../src/core/access/token.ts";
import { DsmError, Status } from "../../src/core/base/errors.ts";
import {
  CHALLENGE_LIFETIME_MS,
  GREETING_FRAME_MAX,
  PROTOCOL_VERSION,
  PROVEN_REQUESTS_MAX,
  TOKEN_MAX,
  TOKEN_MIN,
} from "../../src/core/base/limits.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { encode, encodeText, ProtocolError } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { Random } from "../support/core-random.ts";

const TOKEN = encodeText("correct horse battery");
const OTHER = encodeText("correct horse batterz");
const nonce = (value: number): Uint8Array => new Uint8Array(NONCE_SIZE).fill(value);
const none = new Uint8Array(0);

/** Both sides of a link, and what each has sent, frame by frame. */
class Pair {
  readonly toServer: Uint8Array[] = [];
  readonly toClient: Uint8Array[] = [];
  readonly guard: LinkGuard;
  readonly prover: LinkProver;

  constructor(server: Uint8Array | null, client: Uint8Array | null, needed = true) {
    this.guard = new LinkGuard(server, nonce(2), (bytes) => this.toClient.push(bytes));
    this.prover = new LinkProver(client, needed, nonce(1), (bytes) => this.toServer.push(bytes));
  }

  /** Carries everything both ways until neither end has more to send. */
  run(): void {
    this.prover.begin();
    while (this.toServer.length + this.toClient.length > 0) {
      for (const bytes of this.toServer.splice(0)) expect(this.guard.receive(bytes)).toHaveLength(0);
      for (const bytes of this.toClient.splice(0)) this.prover.receive(bytes);
    }
  }

  get open(): [server: boolean, client: boolean] {
    return [this.guard.open, this.prover.open];
  }
}

/** The status with which an action fails. */
function statusOf(action: () => unknown): Status | string {
  try {
    action();
  } catch (error) {
    if (error instanceof ProtocolError) return error.status;
    if (error instanceof DsmError) return error.code;
    throw error;
  }
  return Status.OK;
}

describe("a link", () => {
  test("opens when both know the token, and the token is in no frame", () => {
    const pair = new Pair(TOKEN, TOKEN);
    pair.prover.begin();
    const frames = [...pair.toServer];
    pair.guard.receive(pair.toServer.shift() as Uint8Array);
    frames.push(...pair.toClient);
    expect(pair.open).toEqual([false, false]);
    pair.prover.receive(pair.toClient.shift() as Uint8Array);
    frames.push(...pair.toServer);
    expect(pair.open).toEqual([false, false]);
    pair.guard.receive(pair.toServer.shift() as Uint8Array);
    frames.push(...pair.toClient);
    expect(pair.open).toEqual([true, false]);
    pair.prover.receive(pair.toClient.shift() as Uint8Array);
    expect(pair.open).toEqual([true, true]);
    expect(frames.map((frame) => frame[4])).toEqual([Kind.CHALLENGE, Kind.CHALLENGE, Kind.PROOF, Kind.PROOF]);
    for (const frame of frames) expect(Buffer.from(frame).includes(Buffer.from(TOKEN))).toBe(false);
  });

  test("proofs are HMAC-SHA-256 of side and nonces, as written", () => {
    const expected = createHmac("sha256", TOKEN).update(`dsm link client\n`).update(nonce(1)).update(nonce(2)).digest();
    expect(Buffer.from(linkProof(TOKEN, "client", nonce(1), nonce(2))).equals(expected)).toBe(true);
    const proofs = [
      linkProof(TOKEN, "client", nonce(1), nonce(2)),
      linkProof(TOKEN, "server", nonce(1), nonce(2)),
      linkProof(TOKEN, "client", nonce(2), nonce(1)),
      linkProof(OTHER, "client", nonce(1), nonce(2)),
    ].map((proof) => Buffer.from(proof).toString("hex"));
    expect(new Set(proofs).size).toBe(proofs.length);
    expect(() => linkProof(TOKEN, "client", nonce(1).subarray(1), nonce(2))).toThrow(RangeError);
  });

  test("opens at once where no token is demanded, and passes on what was said", () => {
    const guard = new LinkGuard(null, nonce(2), () => {});
    const hello = encodeHandshake(Kind.HELLO, new Uint8Array(8));
    expect(guard.receive(hello.subarray(0, 4))).toHaveLength(0);
    expect(guard.open).toBe(false);
    expect(guard.receive(hello.subarray(4))).toEqual(hello);
    expect(guard.open).toBe(true);
  });

  test("opens where none is demanded but the client has one, unless the client needs a proof", () => {
    const pair = new Pair(null, TOKEN, false);
    pair.run();
    expect(pair.open).toEqual([true, true]);
    expect(statusOf(() => new Pair(null, TOKEN, true).run())).toBe("DSM_REFUSED");
    const without = new Pair(null, null, false);
    without.run();
    expect(without.prover.open).toBe(true);
  });

  test("does not open for another token", () => {
    const pair = new Pair(TOKEN, OTHER);
    expect(statusOf(() => pair.run())).toBe(Status.REFUSED);
    expect(pair.open).toEqual([false, false]);
    expect(statusOf(() => new Pair(TOKEN, null, true).run())).toBe("DSM_REFUSED");
  });

  test("does not open for a greeting without a proof", () => {
    for (const kind of [Kind.HELLO, Kind.STATUS]) {
      const guard = new LinkGuard(TOKEN, nonce(2), () => {});
      expect(statusOf(() => guard.receive(encodeHandshake(kind, none)))).toBe(Status.REFUSED);
      expect(guard.open).toBe(false);
    }
  });

  test("does not open for a proof of an earlier link", () => {
    const first = new Pair(TOKEN, TOKEN);
    first.prover.begin();
    const [challenge] = first.toServer.splice(0) as [Uint8Array];
    first.guard.receive(challenge);
    first.prover.receive(first.toClient.shift() as Uint8Array);
    const [proof] = first.toServer.splice(0) as [Uint8Array];
    const sent: Uint8Array[] = [];
    const second = new LinkGuard(TOKEN, nonce(3), (bytes) => sent.push(bytes));
    second.receive(challenge);
    expect(statusOf(() => second.receive(proof))).toBe(Status.REFUSED);
    expect(second.open).toBe(false);
    expect(sent.map((frame) => frame[4])).toEqual([Kind.CHALLENGE]);
  });

  test("does not open for a server's proof sent back", () => {
    // The attacker knows no token: it lets one server answer what another asks.
    const answers: Uint8Array[] = [];
    const guard = new LinkGuard(TOKEN, nonce(2), (bytes) => answers.push(bytes));
    guard.receive(encodeHandshake(Kind.CHALLENGE, nonce(1)));
    const reflected = linkProof(TOKEN, "server", nonce(1), nonce(2));
    expect(statusOf(() => guard.receive(encode({ kind: Kind.PROOF, body: reflected })))).toBe(Status.REFUSED);
    // And a client is not satisfied by its own proof.
    const sent: Uint8Array[] = [];
    const prover = new LinkProver(TOKEN, true, nonce(1), (bytes) => sent.push(bytes));
    prover.begin();
    prover.receive(encodeHandshake(Kind.CHALLENGE, nonce(1)));
    expect(statusOf(() => prover.receive(sent[1] as Uint8Array))).toBe("DSM_REFUSED");
    expect(prover.open).toBe(false);
  });

  test("takes its frames in pieces of any size", () => {
    const pair = new Pair(TOKEN, TOKEN);
    pair.prover.begin();
    while (pair.toServer.length + pair.toClient.length > 0) {
      for (const bytes of pair.toServer.splice(0)) {
        for (const byte of bytes) expect(pair.guard.receive(Uint8Array.of(byte))).toHaveLength(0);
      }
      for (const bytes of pair.toClient.splice(0)) for (const byte of bytes) pair.prover.receive(Uint8Array.of(byte));
    }
    expect(pair.open).toEqual([true, true]);
  });

  for (const [what, bytes, status] of [
    ["zeros", new Uint8Array(100), Status.PROTOCOL],
    ["a proof before the challenge", encode({ kind: Kind.PROOF, body: nonce(1) }), Status.PROTOCOL],
    ["a challenge without a nonce", encodeHandshake(Kind.CHALLENGE, none), Status.PROTOCOL],
    ["a challenge that is too long", encodeHandshake(Kind.CHALLENGE, new Uint8Array(4000)), Status.PROTOCOL],
    [
      "a challenge and more",
      Buffer.concat([encodeHandshake(Kind.CHALLENGE, nonce(1)), none, nonce(1)]),
      Status.PROTOCOL,
    ],
    ["a challenge that does not greet", encode({ kind: Kind.CHALLENGE, body: nonce(1) }), Status.PROTOCOL],
    ["a challenge of another version", otherVersion(encodeHandshake(Kind.CHALLENGE, nonce(1))), Status.VERSION],
    ["a store", encode({ kind: Kind.STORE, body: nonce(1) }), Status.PROTOCOL],
  ] as const) {
    test(`a server that demands a token refuses ${what}`, () => {
      const guard = new LinkGuard(TOKEN, nonce(2), () => {});
      expect(statusOf(() => guard.receive(bytes))).toBe(status);
      expect(guard.open).toBe(false);
    });
  }

  for (const [what, bytes, status] of [
    ["zeros", new Uint8Array(100), Status.PROTOCOL],
    ["a frame larger than any before a proof", large(GREETING_FRAME_MAX + 8), Status.PROTOCOL],
    ["a body longer than its frame", longBody(), Status.PROTOCOL],
    ["a nonce of another size", encodeHandshake(Kind.CHALLENGE, new Uint8Array(16)), Status.PROTOCOL],
    ["a welcome without a proof", encode({ kind: Kind.WELCOME, body: encodeText("{}") }), Status.PROTOCOL],
    ["a refusal", encode({ kind: Kind.FAIL, op: Status.LIMIT, body: encodeText("full") }), "DSM_LIMIT"],
  ] as const) {
    test(`a client refuses ${what}`, () => {
      const prover = new LinkProver(TOKEN, true, nonce(1), () => {});
      prover.begin();
      expect(statusOf(() => prover.receive(bytes))).toBe(status);
      expect(prover.open).toBe(false);
    });
  }
});

test("bytes of chance open no link, and break nothing", () => {
  const generator = new Random(20261123);
  const random = (limit: number): number => generator.below(limit);
  const reference = new Pair(TOKEN, TOKEN);
  reference.prover.begin();
  const [challenge] = reference.toServer as [Uint8Array];
  for (let round = 0; round < 3000; round += 1) {
    const guard = new LinkGuard(TOKEN, nonce(2), () => {});
    const prover = new LinkProver(TOKEN, true, nonce(1), () => {});
    prover.begin();
    for (const side of [guard, prover]) {
      try {
        // Half of them begin as they should.
        if (round % 2 === 0) side.receive(new Uint8Array(challenge));
        for (let chunk = 0; chunk < 4; chunk += 1) {
          const bytes = Uint8Array.from({ length: 1 + random(120) }, () => random(256));
          if (random(3) > 0) bytes[4] = random(2) > 0 ? Kind.PROOF : Kind.CHALLENGE;
          if (random(3) > 0 && bytes.length > 4) new DataView(bytes.buffer).setUint32(0, bytes.length, true);
          side.receive(bytes);
        }
      } catch (error) {
        if (!(error instanceof ProtocolError) && !(error instanceof DsmError)) throw error;
      }
      expect(side.open).toBe(false);
    }
  }
});

function otherVersion(greeting: Uint8Array): Uint8Array {
  new DataView(greeting.buffer).setUint32(36, PROTOCOL_VERSION + 1, true);
  return greeting;
}

function large(size: number): Uint8Array {
  const bytes = encodeHandshake(Kind.CHALLENGE, nonce(1));
  new DataView(bytes.buffer).setUint32(0, size, true);
  return bytes;
}

function longBody(): Uint8Array {
  const bytes = encodeHandshake(Kind.CHALLENGE, nonce(1));
  new DataView(bytes.buffer).setUint32(32, bytes.length - HEADER_SIZE + 1, true);
  return bytes;
}

describe("the daemon's API", () => {
  const request = { method: "POST", target: "10.0.0.1:4200/v1/sessions" };
  const body = encodeText('{"name":"s"}');
  const start = 1_000_000;
  const make = () => new RequestGuard(TOKEN, nonce(9));
  const challenge = (guard: RequestGuard, now = start, value = 1): string =>
    readChallenge(guard.challenge(now, new Uint8Array(16).fill(value))) as string;
  const sign = (guard: RequestGuard, token = TOKEN, of = request) =>
    signRequest(token, of, challenge(guard), nonce(4), body).authorization;

  test("takes a request once that answers its challenge in time", () => {
    const guard = make();
    const header = sign(guard);
    const proof = guard.check(header, request, start + CHALLENGE_LIFETIME_MS);
    if (typeof proof === "string") throw new Error(proof);
    expect(proof.body).toBe(bodyHash(body));
    expect(guard.sign(proof, 201, body)).toBe(answerProof(TOKEN, proof, 201, body));
    expect(guard.check(header, request, start + CHALLENGE_LIFETIME_MS)).toBe("stale");
    expect(header).not.toContain(Buffer.from(TOKEN).toString("hex"));
  });

  test("takes no other, whatever part of it differs", () => {
    const guard = make();
    const header = sign(guard);
    expect(guard.check(null, request, start)).toBe("none");
    expect(guard.check("Basic eDp5", request, start)).toBe("wrong");
    expect(guard.check(sign(guard, OTHER), request, start)).toBe("wrong");
    expect(guard.check(header, { ...request, method: "PUT" }, start)).toBe("wrong");
    expect(guard.check(header, { ...request, target: "10.0.0.2:4200/v1/sessions" }, start)).toBe("wrong");
    expect(guard.check(header.replace(/body="[0-9a-f]{64}"/, `body="${"0".repeat(64)}"`), request, start)).toBe(
      "wrong",
    );
    expect(guard.check(header, request, start + CHALLENGE_LIFETIME_MS + 1)).toBe("stale");
    expect(guard.check(header, request, start - 1)).toBe("stale");
    // It was good all along.
    expect(guard.check(header, request, start)).toMatchObject({ body: bodyHash(body) });
  });

  test("takes no challenge of another daemon, and no made-up one", () => {
    const other = new RequestGuard(TOKEN, nonce(8));
    expect(make().check(sign(other), request, start)).toBe("stale");
    const forged = Buffer.from(challenge(make()), "hex");
    forged.writeDoubleBE(start + 1000);
    const { authorization } = signRequest(TOKEN, request, forged.toString("hex"), nonce(4), body);
    expect(make().check(authorization, request, start + 1000)).toBe("stale");
  });

  test("remembers what was proven no longer than it must, and only so much", () => {
    const guard = make();
    for (let i = 0; i < PROVEN_REQUESTS_MAX; i += 1) {
      const random = new Uint8Array(16);
      new DataView(random.buffer).setUint32(0, i);
      const given = readChallenge(guard.challenge(start, random)) as string;
      const { authorization } = signRequest(TOKEN, request, given, nonce(4), none);
      if (typeof guard.check(authorization, request, start) === "string") throw new Error(`request ${i}`);
    }
    const next = sign(guard);
    expect(guard.check(next, request, start + 1)).toBe("full");
    const later = start + CHALLENGE_LIFETIME_MS + 2;
    const { authorization } = signRequest(TOKEN, request, challenge(guard, later), nonce(4), none);
    expect(guard.check(authorization, request, later)).toMatchObject({ body: bodyHash(none) });
  });

  test("an answer's proof is of its request, status and body", () => {
    const fields = { nonce: "a", clientNonce: "b" };
    const all = [
      answerProof(TOKEN, fields, 200, body),
      answerProof(TOKEN, fields, 404, body),
      answerProof(TOKEN, fields, 200, none),
      answerProof(TOKEN, { ...fields, nonce: "c" }, 200, body),
      answerProof(OTHER, fields, 200, body),
    ];
    expect(new Set(all).size).toBe(all.length);
  });

  test("a challenge is read from its header only", () => {
    expect(readChallenge(null)).toBeNull();
    expect(readChallenge('Basic realm="x"')).toBeNull();
    expect(readChallenge('DSM-HMAC-SHA256 nonce="zz"')).toBeNull();
  });
});

test("proofs are equal as a whole or not at all", () => {
  expect(equalProofs(nonce(1), nonce(1))).toBe(true);
  expect(equalProofs(nonce(1), nonce(2))).toBe(false);
  expect(equalProofs(nonce(1), nonce(1).subarray(1))).toBe(false);
  expect(equalProofs(none, nonce(1))).toBe(false);
});

test("where proofs are demanded, and which roles can listen there", () => {
  const withToken: Security = { token: TOKEN, always: false, tls: null };
  for (const [host, security, demanded, may] of [
    ["127.0.0.1", OPEN, false, true],
    ["::1", withToken, false, true],
    ["localhost", { ...withToken, always: true }, true, true],
    ["127.0.0.1", { ...OPEN, always: true }, true, false],
    ["10.0.0.1", withToken, true, true],
    ["10.0.0.1", OPEN, true, false],
    ["0.0.0.0", OPEN, true, false],
    ["::", OPEN, true, false],
    ["127.0.0.1.example.org", OPEN, true, false],
  ] as const) {
    expect([host, mustProve(security, host), checkListening(security, host) === null]).toEqual([host, demanded, may]);
  }
});

test("tokens", () => {
  for (const good of ["x".repeat(TOKEN_MIN), "x".repeat(TOKEN_MAX), "päßwörter-sind-lang"])
    expect(checkToken(good)).toBeNull();
  for (const bad of [
    "",
    "x".repeat(TOKEN_MIN - 1),
    "x".repeat(TOKEN_MAX + 1),
    "has a space in its middle",
    `${"x".repeat(20)}\u0000`,
  ]) {
    expect(checkToken(bad)).toMatch(/must have 16 to 256 bytes/);
  }
});

test("a token with the fingerprint of an authority", () => {
  const fingerprint = "0123456789abcdef".repeat(4);
  const plain = "a-token:with-colons";
  expect(parseToken(`${plain}:${fingerprint}`)).toEqual({ token: encodeText(plain), fingerprint });
  expect(formatToken({ token: encodeText(plain), fingerprint })).toBe(`${plain}:${fingerprint}`);
  // What is no fingerprint belongs to the token.
  for (const text of [
    plain,
    `${plain}:${fingerprint.slice(1)}`,
    `${plain}:${fingerprint.toUpperCase()}`,
    fingerprint,
  ]) {
    expect(parseToken(text)).toEqual({ token: encodeText(text), fingerprint: null });
    expect(formatToken({ token: encodeText(text), fingerprint: null })).toBe(text);
    expect(plainToken(text)).toBe(text);
  }
  // The limits are the token's own.
  expect(parseToken(`short:${fingerprint}`)).toMatch(/must have 16 to 256 bytes/);
  expect(parseToken(`${"x".repeat(TOKEN_MAX)}:${fingerprint}`)).toMatchObject({ fingerprint });
});

test("the error of an unknown peer is one line", () => {
  expect(plainText("a\r\nb\u001b[31m")).toBe("a b [31m");
  expect(plainText("x".repeat(10_000))).toHaveLength(500);
});
