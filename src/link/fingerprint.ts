import { createHash } from "node:crypto";

/** SHA-256 of a public key (SubjectPublicKeyInfo, DER), hexadecimal: what a token calls its authority by. */
export function fingerprintOf(publicKey: Uint8Array): string {
  return createHash("sha256").update(publicKey).digest("hex");
}
