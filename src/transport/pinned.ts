/**
 * Finds the certificate of the authority that a token names. A daemon with an authority of its own sends it in the
 * handshake, after its own certificate. A first connection reads it from there, and sends nothing; it proves nothing
 * either, since any peer may present that certificate. Later connections require that the daemon has the key of a
 * certificate signed by the authority.
 */
import { X509Certificate } from "node:crypto";
import { connect, type DetailedPeerCertificate } from "node:tls";
import { ROLE_NAMES } from "../core/access/tls.ts";
import { fingerprintOf } from "./fingerprint.ts";

/** The most certificates of one handshake that are examined. */
const CHAIN_MAX = 8;

/** "other": it has TLS, and another authority. "plain": it does not speak TLS. */
export type Found = { authority: string } | { failure: "other" | "plain" | "closed" | "silent" } | { error: Error };

export function findAuthority(host: string, port: number, fingerprint: string, timeout_ms: number): Promise<Found> {
  return new Promise((resolve) => {
    const settle = (found: Found): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(found);
    };
    const timer = setTimeout(() => settle({ failure: "silent" }), timeout_ms);
    const socket = connect({ host, port, servername: ROLE_NAMES.daemon, rejectUnauthorized: false }, () => {
      const authority = inChain(socket.getPeerCertificate(true), fingerprint);
      settle(authority === null ? { failure: "other" } : { authority });
    });
    socket.on("error", (error: Error & { code?: string }) => {
      if (error.code === "ECONNRESET") settle({ failure: "closed" });
      else if (/^(ERR_SSL|EPROTO)/.test(error.code ?? "")) settle({ failure: "plain" });
      else settle({ error });
    });
    socket.on("close", () => settle({ failure: "closed" }));
  });
}

/** The certificate of the authority in a chain, PEM. One that it has not signed itself is none, whatever its key. */
function inChain(leaf: DetailedPeerCertificate, fingerprint: string): string | null {
  let one: DetailedPeerCertificate | undefined = leaf;
  for (let depth = 0; depth < CHAIN_MAX && one?.raw !== undefined; depth++) {
    const certificate = new X509Certificate(one.raw);
    const publicKey = certificate.publicKey;
    if (fingerprintOf(publicKey.export({ format: "der", type: "spki" })) === fingerprint) {
      return certificate.ca && certificate.verify(publicKey) ? certificate.toString() : null;
    }
    if (one.issuerCertificate === one) break;
    one = one.issuerCertificate;
  }
  return null;
}
