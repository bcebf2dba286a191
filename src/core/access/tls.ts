/**
 * What a role shows to others, and asks of them; and TLS between machines, which is on unless it is turned off.
 *
 * A daemon that listens beyond loopback has an authority of its own: a key in the user's configuration folder beside the
 * token (cli/files/authority-files.ts), which outlives the daemon. The SHA-256 of its public key, the fingerprint, stands
 * behind the token in the token file and in DSM_TOKEN (token.ts). It names a key, not a certificate, so the authority's
 * certificate can be made anew and every token stays good.
 *
 * A client first makes a connection on which it sends nothing, and takes the authority's certificate with that
 * fingerprint from the handshake (transport/pinned.ts). Anybody can show that certificate; every later connection, to the
 * daemon and to servers, therefore demands a leaf that its key has signed, before a request, a challenge or a proof
 * goes out. With that certificate as the only authority a token is sent to no machine in between.
 *
 * Servers and arbiters make a key, send the public one to the daemon over such a connection with a proof of the token
 * (POST /v1/certificates), and get a leaf for CERTIFICATE_LIFE_MS, anew at half of it (transport/credentials.ts): links are
 * authenticated on both sides. A PKCS #10 request would show that the sender has the private key; every handshake with
 * the leaf shows that, too, so the bare key is enough. Connections that are there keep what they began with; a server
 * changes the certificate of its listener in place (server/listeners.ts). The daemon's own leaf lives as long as its
 * authority, since both keys lie in one process.
 *
 * Leaves carry the name of a role and no address (ROLE_NAMES). The daemon's has its addresses beside that, for browsers
 * and curl. notBefore lies CLOCK_SLACK_MS back and lives are told as durations, for clocks that differ.
 *
 * On loopback there is no TLS, but for a daemon on all addresses, which has one port for both: a client there tries
 * without, sends no proof before it is asked for one, and goes over to TLS when the connection is closed on it. Nor is
 * there on Unix sockets. Certificates that the user gives take the place of all this.
 */

/** What a role has to show, and asks of others. */
export interface Security {
  /** The shared token's bytes; null: none is known. */
  token: Uint8Array | null;
  /** Whether proofs are demanded at loopback addresses too. */
  always: boolean;
  /** Null: no TLS, or not yet: see DaemonApi.security(). It changes when a certificate is renewed: read it at each use. */
  tls: Tls | null;
  /** The authority that the token names, see token.ts; null, or left out: none. */
  fingerprint?: string | null;
  /** Whether the user has turned TLS off. */
  tlsOff?: boolean;
}

/** PEM texts. With `ca`, certificates of the other side must be signed by it, and servers demand one of clients. */
export interface Tls {
  cert?: string;
  key?: string;
  ca?: string;
  /** The name that a server's certificate must have, instead of the address by which it is reached. */
  serverName?: string;
}

/**
 * Names in the certificates that a daemon's own authority signs. They say what a role may be taken for, wherever it is
 * reached: with such an authority every holder of a certificate has proven the token, so addresses add nothing.
 */
export const ROLE_NAMES = {
  daemon: "daemon.dsm.internal",
  server: "server.dsm.internal",
  arbiter: "arbiter.dsm.internal",
} as const;
/** Roles for which the daemon signs certificates: servers listen and connect, arbiters only connect. */
export type CertifiedRole = "server" | "arbiter";
