/** Certificates of servers and arbiters, signed by the daemon's authority for peers that have proven the token. */
import { createPublicKey } from "node:crypto";
import { ROLE_NAMES, type Tls } from "../core/access/tls.ts";
import { DsmError } from "../core/base/errors.ts";
import { CERTIFICATE_LIFE_MS } from "../core/base/limits.ts";
import type { CertificateRequest, SignedCertificate } from "../core/messages/daemon-api.ts";
import type { Authority } from "../transport/authority.ts";

/** A daemon's authority, and the daemon's own certificate signed by it. */
export interface DaemonAuthority {
  authority: Authority;
  own: { cert: string; key: string };
  /** Validity of signed certificates; left out: CERTIFICATE_LIFE_MS. */
  life_ms?: number;
}

/** DER in base64 of a key on P-256 has 124 characters. */
const KEY_MAX = 200;

/**
 * listeningTls returns the TLS of the daemon's listener: clients prove the token, as they may not have a certificate
 * yet.
 */
export function listeningTls({ authority, own }: DaemonAuthority): Tls {
  // A client takes the authority's certificate from the handshake and compares its fingerprint with that of the token.
  return { cert: own.cert + authority.certificate, key: own.key };
}

/** linkTls returns the TLS of the daemon's connections to servers. */
export function linkTls({ authority, own }: DaemonAuthority): Tls {
  return { ...own, ca: authority.certificate, serverName: ROLE_NAMES.server };
}

/** signCertificate signs the key of a role. Throws DSM_INVALID for a key that is not on P-256. */
export async function signCertificate(
  { authority, life_ms = CERTIFICATE_LIFE_MS }: DaemonAuthority,
  { role, key }: CertificateRequest,
): Promise<SignedCertificate> {
  const certificate = await authority.sign(readKey(key), {
    subject: `dsm ${role}`,
    names: [ROLE_NAMES[role]],
    purposes: role === "server" ? ["server", "client"] : ["client"],
    notAfter: Date.now() + life_ms,
  });
  return { certificate, authority: authority.certificate, life_ms };
}

function readKey(key: string): Uint8Array {
  if (key.length <= KEY_MAX) {
    try {
      const parsed = createPublicKey({ key: Buffer.from(key, "base64"), format: "der", type: "spki" });
      if (parsed.asymmetricKeyDetails?.namedCurve === "prime256v1") {
        return new Uint8Array(parsed.export({ format: "der", type: "spki" }));
      }
    } catch {
      // Reported below.
    }
  }
  throw new DsmError("DSM_INVALID", "key is missing or not the public key of ECDSA on P-256, DER in base64");
}
