/**
 * The shared token as users keep it: TOKEN, or TOKEN:FINGERPRINT. The fingerprint names the authority whose
 * certificates the daemon and the servers of its sessions have: SHA-256 of its public key (SubjectPublicKeyInfo, DER),
 * 64 lower-case hexadecimal digits. It is no secret; proofs are made with the token alone.
 */
import { TOKEN_MAX, TOKEN_MIN } from "../base/limits.ts";

export interface JoinToken {
  /** The bytes from which proofs are computed. */
  token: Uint8Array;
  /** Null: a plain token, without an authority. */
  fingerprint: string | null;
}

/** Null, or the reason why the token is not valid. */
export function checkToken(token: string): string | null {
  const bytes = new TextEncoder().encode(token).length;
  if (bytes >= TOKEN_MIN && bytes <= TOKEN_MAX && !/[\s\p{Cc}]/u.test(token)) return null;
  return `it must have ${TOKEN_MIN} to ${TOKEN_MAX} bytes without spaces, such as "openssl rand -hex 32" prints`;
}

const WITH_FINGERPRINT = /^(.*):([0-9a-f]{64})$/s;

/** The token without fingerprint, from either form. */
export function plainToken(text: string): string {
  return WITH_FINGERPRINT.exec(text)?.[1] ?? text;
}

/** Parses either form. A string: the reason why the text is not valid. */
export function parseToken(text: string): JoinToken | string {
  const token = plainToken(text);
  const wrong = checkToken(token);
  if (wrong !== null) return wrong;
  return { token: new TextEncoder().encode(token), fingerprint: WITH_FINGERPRINT.exec(text)?.[2] ?? null };
}

export function formatToken({ token, fingerprint }: JoinToken): string {
  const text = new TextDecoder().decode(token);
  return fingerprint === null ? text : `${text}:${fingerprint}`;
}
