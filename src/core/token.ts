/**
 * The shared token as users keep it: TOKEN, or TOKEN:FINGERPRINT. The fingerprint names the authority whose certificates
 * the daemon and the servers of its sessions have: SHA-256 of its public key (SubjectPublicKeyInfo, DER), 64 lower-case
 * hexadecimal digits. It is no secret; proofs are made with the token alone.
 */
import { checkToken } from "./auth.ts";

export interface JoinToken {
  /** What proofs are made with. */
  token: Uint8Array;
  /** Null: a plain token, which says nothing of an authority. */
  fingerprint: string | null;
}

const WITH_FINGERPRINT = /^(.*):([0-9a-f]{64})$/s;

/** Reads either form. A string: why it cannot be used. */
export function parseToken(text: string): JoinToken | string {
  const match = WITH_FINGERPRINT.exec(text);
  const token = match?.[1] ?? text;
  const wrong = checkToken(token);
  if (wrong !== null) return wrong;
  return { token: new TextEncoder().encode(token), fingerprint: match?.[2] ?? null };
}

export function formatToken({ token, fingerprint }: JoinToken): string {
  const text = new TextDecoder().decode(token);
  return fingerprint === null ? text : `${text}:${fingerprint}`;
}
