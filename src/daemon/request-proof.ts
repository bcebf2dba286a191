/**
 * Proofs, if the daemon demands a token: it answers only requests that prove the token, and each answer proves the
 * daemon.
 */
import { randomBytes } from "node:crypto";
import { bodyHash, HTTP_PROOF_HEADER, RequestGuard, type RequestProof, TOKEN_ADVICE } from "../core/access/auth.ts";
import { failure, HttpError } from "./http.ts";
import { readBytes } from "./request-bodies.ts";
import { EVENT_STREAM } from "./watch.ts";

export class ProofGate {
  readonly #guard: RequestGuard;
  readonly #log: (line: string) => void;

  constructor(token: Uint8Array, log: (line: string) => void) {
    this.#guard = new RequestGuard(token, randomBytes(32));
    this.#log = log;
  }

  /** Answers a request that proves the token by `answer`; errors carry a proof, too. Throws 401 with a challenge. */
  async pass(request: Request, answer: (proven: Request) => Promise<Response>): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const target = `${request.headers.get("host")}${pathname}${search}`;
    const signed = { method: request.method, target };
    const proof = this.#guard.check(request.headers.get("authorization"), signed, performance.now());
    if (typeof proof === "string") throw this.#refusal(proof);
    const response = await checkedBody(request, proof)
      .then(answer)
      .catch((error) => failure(error, this.#log));
    const { status, headers } = response;
    if (headers.get("content-type") === EVENT_STREAM) {
      headers.set(HTTP_PROOF_HEADER, this.#guard.sign(proof, status, new Uint8Array(0)));
      return new Response(response.body, { status, headers });
    }
    const bytes = await response.bytes();
    headers.set(HTTP_PROOF_HEADER, this.#guard.sign(proof, status, bytes));
    return new Response(status === 204 ? null : bytes, { status, headers });
  }

  #refusal(why: Exclude<ReturnType<RequestGuard["check"]>, RequestProof>): HttpError {
    if (why === "full") return new HttpError(503, "DSM_LIMIT", "the daemon has too many requests; try again");
    const message = {
      none: `this daemon demands a token; ${TOKEN_ADVICE}`,
      wrong: `that is not the token of this daemon; ${TOKEN_ADVICE}`,
      stale: "the challenge that the request answers was used before or has run out; ask for a new one",
    }[why];
    return new HttpError(401, "DSM_REFUSED", message, {
      "www-authenticate": this.#guard.challenge(performance.now(), randomBytes(16)),
    });
  }
}

/** checkedBody reads the body and checks it against the proof. The body of an unproven request is not read. */
async function checkedBody(request: Request, proof: RequestProof): Promise<Request> {
  const body = await readBytes(request);
  if (bodyHash(body) !== proof.body) {
    throw new HttpError(401, "DSM_REFUSED", "the body is not the one that the request proves");
  }
  const { url, method, headers } = request;
  return new Request(url, { method, headers, ...(body.length > 0 ? { body: body as Uint8Array<ArrayBuffer> } : {}) });
}
