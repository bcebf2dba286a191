/** What a role shows to others, and asks of them. */

/** What a role has to show, and asks of others. */
export interface Security {
  /** The shared token's bytes; null: none is known. */
  token: Uint8Array | null;
  /** Whether proofs are demanded at loopback addresses too. */
  always: boolean;
  /** Null: no TLS, or not yet: see Directory.security(). It changes when a certificate is renewed: read it at each use. */
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
