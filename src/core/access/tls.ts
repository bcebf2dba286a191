/**
 * Security: what a role proves to its peers, and demands of them; and TLS between machines, which is on unless the user
 * turns it off.
 *
 * A daemon that listens beyond loopback has an authority of its own: a key in the user's configuration folder beside
 * the token (cli/files/authority-files.ts), which outlives the daemon. The SHA-256 of its public key, the fingerprint,
 * follows the token in the token file and in DSM_TOKEN (token.ts). It identifies a key, not a certificate, so the
 * authority's certificate can be renewed and every token stays valid.
 *
 * A client first opens a connection on which it sends nothing, and takes the authority's certificate with that
 * fingerprint from the handshake (transport/pinned.ts). Any machine can present that certificate; so every later
 * connection, to the daemon and to servers, demands a leaf certificate signed with its key, before the client sends a
 * request, a challenge or a proof. With that certificate as the only authority, no machine in between gets the token.
 *
 * Servers and arbiters make a key, send the public one to the daemon over such a connection with a proof of the token
 * (POST /v1/certificates), and get a leaf for CERTIFICATE_LIFE_MS, which they renew at half of it
 * (transport/credentials.ts): links are authenticated on both sides. A PKCS #10 request would show that the sender has
 * the private key; every handshake with the leaf shows that, too, so the bare key is enough. Existing connections keep
 * their certificate; a server changes the certificate of its listener in place (server/listeners.ts). The daemon's own
 * leaf lives as long as its authority, since both keys are in one process.
 *
 * Leaves carry the name of a role and no address (ROLE_NAMES). The daemon's also has its addresses, for browsers and
 * curl. notBefore lies CLOCK_SLACK_MS back and lifetimes are sent as durations, because clocks differ.
 *
 * There is no TLS on loopback, except for a daemon on all addresses, which has one port for both: a client there tries
 * without TLS, sends no proof before it is asked for one, and changes to TLS when the daemon closes the connection.
 * There is no TLS on Unix sockets either. Certificates that the user supplies replace all of this.
 */

/** The credentials of a role, and what it demands of its peers. */
export interface Security {
  /** The shared token's bytes; null: none is known. */
  token: Uint8Array | null;
  /** Whether proofs are demanded at loopback addresses, too. */
  always: boolean;
  /**
   * Null: no TLS, or not yet: see DaemonApi.security(). It changes when a certificate is renewed: read it at each use.
   */
  tls: Tls | null;
  /** The authority that the token names, see token.ts; null, or left out: none. */
  fingerprint?: string | null;
  /** Whether the user has turned TLS off. */
  tlsOff?: boolean;
}

/** PEM texts. With `ca`, it must have signed the peer's certificate, and servers demand one of clients. */
export interface Tls {
  cert?: string;
  key?: string;
  ca?: string;
  /** The name that a server's certificate must have, instead of the address by which it is reached. */
  serverName?: string;
}

/**
 * Names in the certificates that a daemon's own authority signs. A certificate identifies a role, wherever that is
 * reached: with such an authority every holder of a certificate has proven the token, so addresses add nothing.
 */
export const ROLE_NAMES = {
  daemon: "daemon.dsm.internal",
  server: "server.dsm.internal",
  arbiter: "arbiter.dsm.internal",
} as const;
/** Roles for which the daemon signs certificates: servers listen and connect, arbiters only connect. */
export type CertifiedRole = "server" | "arbiter";
