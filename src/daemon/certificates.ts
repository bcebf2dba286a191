/** What the daemon's authority signs for those who have proven the token: certificates of servers and arbiters. */
import { createPublicKey } from "node:crypto";
import type { SignedCertificate } from "../core/directory.ts";
import { DsmError } from "../core/errors.ts";
import { CERTIFICATE_LIFE_MS } from "../core/limits.ts";
import { ROLE_NAMES, type Tls } from "../core/tls.ts";
import type { Authority } from "../link/authority.ts";

/** A daemon's authority, and the certificate that the daemon itself has of it. */
export interface DaemonAuthority {
  authority: Authority;
  own: { cert: string; key: string };
  /** How long what it signs is good; left out: CERTIFICATE_LIFE_MS. */
  life_ms?: number;
}

/** DER in base64 of a key on P-256 has 124 characters. */
const KEY_MAX = 200;

/** How the daemon listens: who asks proves the token instead of showing a certificate, which it may not have yet. */
export function listeningTls({ authority, own }: DaemonAuthority): Tls {
  // The authority's own certificate comes along: a client takes it from the handshake, and compares its fingerprint.
  return { cert: own.cert + authority.certificate, key: own.key };
}

/** How the daemon reaches servers. */
export function linkTls({ authority, own }: DaemonAuthority): Tls {
  return { ...own, ca: authority.certificate, serverName: ROLE_NAMES.server };
}

/** Throws DSM_INVALID for what is no request. */
export async function signCertificate(
  { authority, life_ms = CERTIFICATE_LIFE_MS }: DaemonAuthority,
  { role, key }: Record<string, unknown>,
): Promise<SignedCertificate> {
  if (role !== "server" && role !== "arbiter") {
    throw new DsmError("DSM_INVALID", "role is missing or neither server nor arbiter");
  }
  const certificate = await authority.sign(readKey(key), {
    subject: `dsm ${role}`,
    names: [ROLE_NAMES[role]],
    purposes: role === "server" ? ["server", "client"] : ["client"],
    notAfter: Date.now() + life_ms,
  });
  return { certificate, authority: authority.certificate, life_ms };
}

function readKey(key: unknown): Uint8Array {
  if (typeof key === "string" && key.length <= KEY_MAX) {
    try {
      const parsed = createPublicKey({ key: Buffer.from(key, "base64"), format: "der", type: "spki" });
      if (parsed.asymmetricKeyDetails?.namedCurve === "prime256v1") {
        return new Uint8Array(parsed.export({ format: "der", type: "spki" }));
      }
    } catch {
      // Below.
    }
  }
  throw new DsmError("DSM_INVALID", "key is missing or not the public key of ECDSA on P-256, DER in base64");
}
