/**
 * The certificate of a server or an arbiter, signed by its daemon's authority after the proof of the token, and renewed
 * at half its life. Existing connections keep their certificate; `security` has the newest for new ones. If the daemon
 * has no authority of its own, or the user gave certificates, there is nothing to renew.
 */
import { createPrivateKey } from "node:crypto";
import { type CertifiedRole, ROLE_NAMES, type Security, type Tls } from "../core/access/tls.ts";
import { DsmError } from "../core/base/errors.ts";
import { RENEWAL_PAUSE_MS } from "../core/base/limits.ts";
import type { DaemonApi } from "../core/messages/daemon-api.ts";

/** The calls to the daemon. */
type Certifier = Pick<DaemonApi, "security" | "certify">;

export interface Credentials {
  /** For links to servers, and for the role that listens. Its `tls` changes: read it at each use. */
  security: Security;
  /** Called when `security` has a new certificate. */
  renewed: () => void;
  /** No more renewals. */
  stop(): void;
}

/** obtainCredentials throws the errors of the daemon client. */
export async function obtainCredentials(directory: Certifier, role: CertifiedRole): Promise<Credentials> {
  const security = { ...(await directory.security()) };
  let timer: ReturnType<typeof setTimeout> | undefined;
  const credentials: Credentials = { security, renewed() {}, stop: () => clearTimeout(timer) };
  const renewIn = (delay_ms: number): void => {
    timer = setTimeout(renew, delay_ms);
    // A process that has nothing else to do ends.
    timer.unref?.();
  };
  const renew = async (): Promise<void> => {
    try {
      const signed = await certify(directory, role);
      // The daemon was restarted without an authority. The current certificate stays valid for a while: try again
      // later.
      if (signed === null) return renewIn(RENEWAL_PAUSE_MS);
      security.tls = signed.tls;
      credentials.renewed();
      renewIn(signed.life_ms / 2);
    } catch (error) {
      if (!(error instanceof DsmError)) throw error;
      renewIn(RENEWAL_PAUSE_MS);
    }
  };
  // With a certificate of the user's own, or without TLS.
  if (security.tls === null || security.tls.cert !== undefined) return credentials;
  const signed = await certify(directory, role);
  if (signed !== null) {
    security.tls = signed.tls;
    renewIn(signed.life_ms / 2);
  }
  return credentials;
}

async function certify(directory: Certifier, role: CertifiedRole): Promise<{ tls: Tls; life_ms: number } | null> {
  const { privateKey, publicKey } = (await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
    "sign",
    "verify",
  ])) as CryptoKeyPair;
  const key = Buffer.from(await crypto.subtle.exportKey("spki", publicKey)).toString("base64");
  const signed = await directory.certify({ role, key });
  if (signed === null) return null;
  const der = Buffer.from(await crypto.subtle.exportKey("pkcs8", privateKey));
  const pem = createPrivateKey({ key: der, format: "der", type: "pkcs8" }).export({ format: "pem", type: "pkcs8" });
  const tls: Tls = {
    ...{ cert: signed.certificate, key: pem as string, ca: signed.authority },
    serverName: ROLE_NAMES.server,
  };
  return { tls, life_ms: signed.life_ms };
}
