/**
 * The certificate of a server or an arbiter, signed by its daemon's authority after the proof of the token, and renewed
 * at half its life. Existing connections keep their certificate; `security` has the newest for new ones. If the daemon
 * has no authority of its own, or the user gave certificates, there is nothing to renew.
 */
import { createPrivateKey } from "node:crypto";
import { type CertifiedRole, ROLE_NAMES, type Security, type Tls } from "../core/access/tls.ts";
import { DsmError } from "../core/base/errors.ts";
import { RENEWAL_ATTEMPTS, RENEWAL_PAUSE_MS } from "../core/base/limits.ts";
import type { DaemonApi } from "../core/messages/daemon-api.ts";

/** The calls to the daemon. */
type Certifier = Pick<DaemonApi, "security" | "certify">;

/** A certificate, and how long it is valid from now on. */
interface Signed {
  tls: Tls;
  life_ms: number;
}

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
  /** Of the current certificate. */
  let life_ms = 0;
  const credentials: Credentials = { security, renewed() {}, stop: () => clearTimeout(timer) };
  const renewIn = (delay_ms: number): void => {
    timer = setTimeout(renew, delay_ms);
    // A process that has nothing else to do ends.
    timer.unref?.();
  };
  const use = (signed: Signed): void => {
    security.tls = signed.tls;
    life_ms = signed.life_ms;
    renewIn(life_ms / 2);
  };
  // The current certificate is valid for half of its life when a renewal is due: several attempts must fit into that.
  const retry = (): void => renewIn(Math.min(RENEWAL_PAUSE_MS, life_ms / RENEWAL_ATTEMPTS));
  const renew = async (): Promise<void> => {
    try {
      const signed = await certify(directory, role);
      // The daemon was restarted without an authority.
      if (signed === null) return retry();
      use(signed);
      credentials.renewed();
    } catch (error) {
      if (!(error instanceof DsmError)) throw error;
      retry();
    }
  };
  // With a certificate of the user's own, or without TLS.
  if (security.tls === null || security.tls.cert !== undefined) return credentials;
  const signed = await certify(directory, role);
  if (signed !== null) use(signed);
  return credentials;
}

async function certify(directory: Certifier, role: CertifiedRole): Promise<Signed | null> {
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
