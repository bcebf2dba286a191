/** Fingerprints: by them a token names the authority of its daemon. */
import { createHash } from "node:crypto";

/** SHA-256 of a public key (SubjectPublicKeyInfo, DER), hexadecimal. */
export function fingerprintOf(publicKey: Uint8Array): string {
  return createHash("sha256").update(publicKey).digest("hex");
}

/** The first 16 hex digits: enough to compare by eye. */
export function shortFingerprint(fingerprint: string): string {
  return `${fingerprint.slice(0, 16)}…`;
}
