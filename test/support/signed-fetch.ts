/** Requests to a daemon that demands a token, step by step as its clients do them. */
import { randomBytes } from "node:crypto";
import { answerProof, HTTP_PROOF_HEADER, NONCE_SIZE, readChallenge, signRequest } from "../../src/core/access/auth.ts";

/** A challenge of the daemon's. */
export async function challengeOf(url: string): Promise<string> {
  const response = await fetch(new URL("/v1/health", url));
  const nonce = readChallenge(response.headers.get("www-authenticate"));
  if (response.status !== 401 || nonce === null) throw new Error(`no challenge: ${response.status}`);
  return nonce;
}

/** Headers that prove a request. */
export async function signed(
  token: Uint8Array,
  method: string,
  url: string,
  body = "",
  nonce?: string,
): Promise<{ authorization: string; answer(status: number, text: string): string }> {
  const { host, pathname, search } = new URL(url);
  const request = { method, target: `${host}${pathname}${search}` };
  const { authorization, proof } = signRequest(
    token,
    request,
    nonce ?? (await challengeOf(url)),
    randomBytes(NONCE_SIZE),
    Buffer.from(body),
  );
  return { authorization, answer: (status, text) => answerProof(token, proof, status, Buffer.from(text)) };
}

/** Sends it, and fails unless the answer proves the daemon. */
export async function signedFetch(token: Uint8Array, method: string, url: string, body?: object): Promise<Response> {
  const text = body === undefined ? "" : JSON.stringify(body);
  const { authorization, answer } = await signed(token, method, url, text);
  const headers = { authorization, ...(body === undefined ? {} : { "content-type": "application/json" }) };
  const response = await fetch(url, { method, headers, ...(body === undefined ? {} : { body: text }) });
  const proof = response.headers.get(HTTP_PROOF_HEADER);
  if (response.status !== 401 && proof !== answer(response.status, await response.clone().text())) {
    throw new Error(`the answer ${response.status} proves nothing`);
  }
  return response;
}
