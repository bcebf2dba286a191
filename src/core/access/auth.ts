/**
 * Authentication: proofs that both sides know one shared token, which itself never travels. Challenge and response with
 * HMAC-SHA-256 over fresh nonces of both sides (ISO/IEC 9798-4, three passes, mutual): in frames here, on links between
 * arbiters and servers; in the headers of each request and its answer, for the daemon's API. A proof covers its purpose
 * (link or HTTP, which side), so it cannot be reflected or used elsewhere; the nonces prevent replay. Proofs neither
 * encrypt the data nor bind the data that follows on a link: TLS does.
 *
 * The shells supply the nonces, because they have randomness; this module has none.
 */

import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { DsmError, Status, statusCode } from "../base/errors.ts";
import { CHALLENGE_LIFETIME_MS, GREETING_FRAME_MAX, PROVEN_REQUESTS_MAX } from "../base/limits.ts";
import { CONTROLS, isLoopback } from "../base/names.ts";
import { At, FailAt, HandshakeAt, HEADER_SIZE } from "../wire/at.ts";
import { bodyText, encode, ProtocolError } from "../wire/frame.ts";
import { checkHandshake, encodeHandshake } from "../wire/handshake.ts";
import { Kind } from "../wire/kinds.ts";
import type { Security } from "./tls.ts";

export type { Security, Tls } from "./tls.ts";

export const OPEN: Security = { token: null, always: false, tls: null };

/** Whether both sides must prove themselves on connections to this address. */
export function mustProve(security: Security, host: string): boolean {
  return security.always || !isLoopback(host);
}

/** Null, or the reason why a role must not listen there. */
export function checkListening(security: Security, host: string): string | null {
  if (!mustProve(security, host) || security.token !== null) return null;
  return `${host} can be reached from other machines, and there is no token to ask of them; ${TOKEN_ADVICE}`;
}

export const NONCE_SIZE = 32;
const PROOF_SIZE = 32;

export type Side = "client" | "server";

/** The proof that `side` of a link sends to show that it knows the token. */
export function linkProof(token: Uint8Array, side: Side, clientNonce: Uint8Array, serverNonce: Uint8Array): Uint8Array {
  if (clientNonce.length !== NONCE_SIZE || serverNonce.length !== NONCE_SIZE) throw new RangeError("auth: nonce size");
  return createHmac("sha256", token).update(`dsm link ${side}\n`).update(clientNonce).update(serverNonce).digest();
}

/** Compares in constant time. */
export function equalProofs(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}

// --- Links: CHALLENGE and PROOF frames before the greeting ---------------------------------------------------------

/** CHALLENGE with a nonce, or PROOF. */
const FRAME_SIZE = HEADER_SIZE + NONCE_SIZE;
if (PROOF_SIZE !== NONCE_SIZE || FRAME_SIZE > GREETING_FRAME_MAX) throw new Error("auth: frame size");

const NOTHING = new Uint8Array(0);

/** Collects the one frame that may come next; never keeps more than that. */
class OneFrame {
  #bytes: Uint8Array = NOTHING;

  /** All bytes so far. */
  add(chunk: Uint8Array): Uint8Array {
    if (this.#bytes.length === 0) this.#bytes = chunk;
    else this.#bytes = new Uint8Array(Buffer.concat([this.#bytes, chunk]));
    return this.#bytes;
  }

  /** Copies the chunk that was added: its memory may be reused. */
  keep(): void {
    this.#bytes = new Uint8Array(this.#bytes);
  }

  clear(): void {
    this.#bytes = NOTHING;
  }
}

/**
 * LinkGuard: the server's side of a link. It passes no byte to the sequencer before the peer has proven itself. If the
 * server demands no token, a peer that sends no CHALLENGE passes at once.
 */
export class LinkGuard {
  readonly #token: Uint8Array | null;
  readonly #nonce: Uint8Array;
  readonly #send: (bytes: Uint8Array) => void;
  readonly #frame = new OneFrame();
  #clientNonce: Uint8Array | null = null;
  #open = false;

  /** `token`: the token demanded, or null. `nonce`: NONCE_SIZE random bytes, never used before. */
  constructor(token: Uint8Array | null, nonce: Uint8Array, send: (bytes: Uint8Array) => void) {
    this.#token = token;
    this.#nonce = nonce;
    this.#send = send;
  }

  /** Whether the peer has passed. */
  get open(): boolean {
    return this.#open;
  }

  /**
   * Handles bytes before `open`; returns those that follow the authentication. Throws ProtocolError: close the link.
   */
  receive(chunk: Uint8Array): Uint8Array {
    const bytes = this.#frame.add(chunk);
    const kind = bytes[At.kind];
    if (kind === undefined) return this.#wait();
    if (this.#token === null && this.#clientNonce === null && kind !== Kind.CHALLENGE) {
      this.#open = true;
      this.#frame.clear();
      return bytes;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (kind !== (this.#clientNonce === null ? Kind.CHALLENGE : Kind.PROOF)) {
      if (kind !== Kind.HELLO && kind !== Kind.STATUS) throw new ProtocolError("the peer sent no handshake");
      throw new ProtocolError(`this server demands a token; ${TOKEN_ADVICE}`, Status.REFUSED);
    }
    if (view.getUint32(At.size, true) !== FRAME_SIZE || bytes.length > FRAME_SIZE) {
      throw new ProtocolError("a frame of an authentication has the wrong size");
    }
    if (bytes.length < FRAME_SIZE) return this.#wait();
    const body = new Uint8Array(bytes.subarray(HEADER_SIZE));
    this.#frame.clear();
    if (this.#clientNonce !== null) this.#proof(body, this.#clientNonce);
    else this.#challenge(view, body);
    return NOTHING;
  }

  #wait(): Uint8Array {
    this.#frame.keep();
    return NOTHING;
  }

  #challenge(view: DataView, nonce: Uint8Array): void {
    checkHandshake(view, 0);
    if (this.#token === null) {
      this.#open = true;
      this.#send(encodeHandshake(Kind.CHALLENGE, NOTHING));
      return;
    }
    this.#clientNonce = nonce;
    this.#send(encodeHandshake(Kind.CHALLENGE, this.#nonce));
  }

  #proof(proof: Uint8Array, clientNonce: Uint8Array): void {
    const token = this.#token as Uint8Array;
    if (!equalProofs(proof, linkProof(token, "client", clientNonce, this.#nonce))) {
      throw new ProtocolError(`that is not the token of this server; ${TOKEN_ADVICE}`, Status.REFUSED);
    }
    this.#open = true;
    this.#send(encode({ kind: Kind.PROOF, body: linkProof(token, "server", clientNonce, this.#nonce) }));
  }
}

export const TOKEN_ADVICE = "set DSM_TOKEN to the daemon's, or copy its ~/.config/dsm/token here";

/**
 * LinkProver: the client's side. Where a proof is needed, it sends no handshake before the server has proven itself.
 */
export class LinkProver {
  readonly #token: Uint8Array | null;
  readonly #needed: boolean;
  readonly #nonce: Uint8Array;
  readonly #send: (bytes: Uint8Array) => void;
  readonly #frame = new OneFrame();
  #serverNonce: Uint8Array | null = null;
  #open = false;

  /** `needed`: whether to refuse a server that proves nothing. `nonce`: NONCE_SIZE random bytes, never used before. */
  constructor(token: Uint8Array | null, needed: boolean, nonce: Uint8Array, send: (bytes: Uint8Array) => void) {
    this.#token = token;
    this.#needed = needed;
    this.#nonce = nonce;
    this.#send = send;
  }

  /** Whether the handshake may be sent. */
  get open(): boolean {
    return this.#open;
  }

  /** Begins on an open connection. Throws DsmError when a proof is needed and there is no token. */
  begin(): void {
    if (this.#token === null) {
      if (this.#needed) throw new DsmError("DSM_REFUSED", `a server on another machine needs a token; ${TOKEN_ADVICE}`);
      this.#open = true;
      return;
    }
    this.#send(encodeHandshake(Kind.CHALLENGE, this.#nonce));
  }

  /** Handles bytes before `open`. Throws DsmError with the server's reason for refusing, or ProtocolError. */
  receive(chunk: Uint8Array): void {
    const bytes = this.#frame.add(chunk);
    if (bytes.length < HEADER_SIZE) {
      this.#frame.keep();
      return;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const size = view.getUint32(At.size, true);
    const length = view.getUint32(HandshakeAt.bodyLength, true);
    if (size < HEADER_SIZE || size > GREETING_FRAME_MAX || bytes.length > size || length > size - HEADER_SIZE) {
      throw new ProtocolError(`a frame of ${size} bytes cannot be`);
    }
    if (bytes.length < size) {
      this.#frame.keep();
      return;
    }
    const kind = view.getUint8(At.kind);
    const body = new Uint8Array(bytes.subarray(HEADER_SIZE, HEADER_SIZE + length));
    this.#frame.clear();
    if (kind === Kind.FAIL)
      throw new DsmError(statusCode(view.getUint8(FailAt.status)), plainText(bodyText(body, 0, length)));
    if (kind !== (this.#serverNonce === null ? Kind.CHALLENGE : Kind.PROOF)) throw new ProtocolError("no proof");
    if (this.#serverNonce === null) this.#challenge(view, body);
    else this.#proof(body, this.#serverNonce);
  }

  #challenge(view: DataView, nonce: Uint8Array): void {
    checkHandshake(view, 0);
    if (nonce.length === 0) {
      if (this.#needed) throw new DsmError("DSM_REFUSED", "the server does not prove that it knows the token");
      this.#open = true;
      return;
    }
    if (nonce.length !== NONCE_SIZE) throw new ProtocolError("a nonce of the wrong size");
    this.#serverNonce = nonce;
    this.#send(encode({ kind: Kind.PROOF, body: linkProof(this.#token as Uint8Array, "client", this.#nonce, nonce) }));
  }

  #proof(proof: Uint8Array, serverNonce: Uint8Array): void {
    if (!equalProofs(proof, linkProof(this.#token as Uint8Array, "server", this.#nonce, serverNonce))) {
      throw new DsmError("DSM_REFUSED", "the server does not prove that it knows the token");
    }
    this.#open = true;
  }
}

/** Reduces the text of an untrusted peer to one line of a bounded length. */
export function plainText(text: string): string {
  return text.replace(CONTROLS, " ").slice(0, 500);
}

// --- The daemon's API: a proof in the headers of each request, and of its answer -----------------------------------

/**
 * Authentication scheme of the daemon's API. 401 answers carry a challenge,
 *   WWW-Authenticate: DSM-HMAC-SHA256 nonce="N"
 * a request answers one, which is good for one request and CHALLENGE_LIFETIME_MS,
 *   Authorization: DSM-HMAC-SHA256 nonce="N", cnonce="C", body="SHA-256 of the body", proof="P"
 *   P = HMAC(token, "dsm http request\n" METHOD "\n" HOST PATH QUERY "\n" N "\n" C "\n" body)
 * and its answer proves the daemon in turn:
 *   DSM-Proof: HMAC(token, "dsm http answer\n" N "\n" C "\n" STATUS "\n" SHA-256 of the body)
 * All values are lower-case hexadecimal.
 */
export const HTTP_SCHEME = "DSM-HMAC-SHA256";
export const HTTP_PROOF_HEADER = "dsm-proof";

/** The parts of a request that the proof covers. */
export interface SignedRequest {
  method: string;
  /** The Host header, then path and query. */
  target: string;
}

export interface RequestProof {
  nonce: string;
  clientNonce: string;
  /** SHA-256 of the body, hexadecimal. */
  body: string;
  proof: string;
}

export function bodyHash(body: Uint8Array): string {
  return createHash("sha256").update(body).digest("hex");
}

function requestProof(
  token: Uint8Array,
  { method, target }: SignedRequest,
  fields: Omit<RequestProof, "proof">,
): string {
  const { nonce, clientNonce, body } = fields;
  const text = ["dsm http request", method, target, nonce, clientNonce, body].join("\n");
  return createHmac("sha256", token).update(text).digest("hex");
}

/** The proof in the answer to a request with these nonces. */
export function answerProof(
  token: Uint8Array,
  { nonce, clientNonce }: Pick<RequestProof, "nonce" | "clientNonce">,
  status: number,
  body: Uint8Array,
): string {
  const text = ["dsm http answer", nonce, clientNonce, String(status), bodyHash(body)].join("\n");
  return createHmac("sha256", token).update(text).digest("hex");
}

/** Makes the Authorization header of a request, and the values against which its answer is checked. */
export function signRequest(
  token: Uint8Array,
  request: SignedRequest,
  nonce: string,
  clientNonce: Uint8Array,
  body: Uint8Array,
): { authorization: string; proof: RequestProof } {
  const fields = { nonce, clientNonce: Buffer.from(clientNonce).toString("hex"), body: bodyHash(body) };
  const proof = requestProof(token, request, fields);
  const authorization = `${HTTP_SCHEME} nonce="${nonce}", cnonce="${fields.clientNonce}", body="${fields.body}", proof="${proof}"`;
  return { authorization, proof: { ...fields, proof } };
}

const AUTHORIZATION = new RegExp(
  `^${HTTP_SCHEME} nonce="([0-9a-f]{80})", cnonce="([0-9a-f]{64})", body="([0-9a-f]{64})", proof="([0-9a-f]{64})"$`,
);
const CHALLENGE = new RegExp(`^${HTTP_SCHEME} nonce="([0-9a-f]{80})"$`);

/** Parses the nonce of a WWW-Authenticate header; null: there is none. */
export function readChallenge(header: string | null): string | null {
  return CHALLENGE.exec(header ?? "")?.[1] ?? null;
}

/**
 * RequestGuard: the daemon's side. It stores no challenges that it gives out (they are sealed with a key of its own),
 * so a request for one costs no memory; it remembers only proven requests, until their challenge has expired.
 */
export class RequestGuard {
  readonly #token: Uint8Array;
  readonly #key: Uint8Array;
  /** Used nonces and the time at which each may be forgotten, in the order of those times. */
  readonly #used = new Map<string, number>();

  /** `key`: random bytes that only this daemon has. */
  constructor(token: Uint8Array, key: Uint8Array) {
    this.#token = token;
    this.#key = key;
  }

  /** A challenge as a WWW-Authenticate header. `nowMs`: of a clock that never goes back. `random`: 16 bytes. */
  challenge(nowMs: number, random: Uint8Array): string {
    const plain = new Uint8Array(24);
    new DataView(plain.buffer).setFloat64(0, nowMs);
    plain.set(random, 8);
    return `${HTTP_SCHEME} nonce="${Buffer.concat([plain, this.#seal(plain)]).toString("hex")}"`;
  }

  #seal(plain: Uint8Array): Buffer {
    return createHmac("sha256", this.#key).update(plain).digest().subarray(0, 16);
  }

  /**
   * Checks a request: returns its proof, or the reason for refusing it, in words. The body has not been read yet: the
   * caller compares its hash with `body`. "stale": the challenge was used or has expired; the client may try again with
   * a new one.
   */
  check(
    header: string | null,
    request: SignedRequest,
    nowMs: number,
  ): RequestProof | "none" | "wrong" | "stale" | "full" {
    const match = AUTHORIZATION.exec(header ?? "");
    if (match === null) return header === null ? "none" : "wrong";
    const [, nonce, clientNonce, body, proof] = match as unknown as [string, string, string, string, string];
    const bytes = Buffer.from(nonce, "hex");
    const plain = bytes.subarray(0, 24);
    // Check the token first: a client that does not know it learns nothing about challenges.
    const expected = requestProof(this.#token, request, { nonce, clientNonce, body });
    if (!equalProofs(Buffer.from(proof, "hex"), Buffer.from(expected, "hex"))) return "wrong";
    if (!equalProofs(bytes.subarray(24), this.#seal(plain))) return "stale";
    const age = nowMs - plain.readDoubleBE(0);
    for (const [old, until] of this.#used) {
      if (until > nowMs) break;
      this.#used.delete(old);
    }
    if (!(age >= 0 && age <= CHALLENGE_LIFETIME_MS) || this.#used.has(nonce)) return "stale";
    if (this.#used.size >= PROVEN_REQUESTS_MAX) return "full";
    this.#used.set(nonce, nowMs + CHALLENGE_LIFETIME_MS + 1);
    return { nonce, clientNonce, body, proof };
  }

  /** Signs the answer. */
  sign(request: RequestProof, status: number, body: Uint8Array): string {
    return answerProof(this.#token, request, status, body);
  }
}
