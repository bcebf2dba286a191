/** What the session daemon keeps and says: the types of its HTTP API, and how shells reach it. */

import type { OnLoss } from "./loss.ts";
import type { Order } from "./order.ts";
import type { RankReport } from "./session.ts";
import type { CertifiedRole, Security } from "./tls.ts";

/** Where a session's server is. */
export interface SessionAddress {
  name: string;
  /** Which run of that name: 16 hex digits, the same for all servers of one session. */
  instance: string;
  /** Which server of the session this is, from 1: the next one takes over when it is lost. */
  epoch: number;
  host: string;
  port: number;
  processes: number;
  /** Bytes of the map, whole pages. */
  size: number;
  order: Order;
  onLoss: OnLoss;
  /** Processes may join while it runs; `processes` is how many it begins with. */
  elastic: boolean;
}

export interface SessionSummary extends SessionAddress {
  /** Process of the server, on its own host. */
  pid: number;
  /** Whether the daemon started the server (or somebody did so by hand). */
  spawned: boolean;
}

export interface RankStatus extends RankReport {
  /** For how long it has been in this state, on the server's clock. */
  stateMs: number;
  /** Entries of this rank in the order so far: stores, atomics, publications, barriers and all else. */
  entries: number;
  /** Bytes that these have written. In direct mode stores do not leave the process and are not seen. */
  bytes: number;
  /** How long ago its last entry was that wrote; null: none yet. */
  lastWriteMs: number | null;
  /** The last round trip measured between the server and its node, in microseconds; null: none. */
  roundTripUs: number | null;
}

export interface SemaphoreStatus {
  name: string;
  value: number;
  /** Ranks, who came first first; of several threads of one it is there once. */
  waiters: number[];
}

export interface LockStatus {
  name: string;
  /** Rank, or null. */
  owner: number | null;
  waiters: number[];
}

export interface BlockStatus {
  name: string;
  /** Where it begins in the map. */
  offset: number;
  /** Bytes. */
  size: number;
}

/** Who has written where. In direct mode stores are not seen. */
export interface Heat {
  /** Bytes of a cell; the last one may be cut short by the end of the map. */
  cell: number;
  /** By cell: the rank that wrote there last, -1: nobody. At most HEAT_CELLS_MAX. */
  writers: number[];
  /** By cell: how many entries wrote there. */
  writes: number[];
}

/** What a server answers to a STATUS frame. */
export interface ServerStatus {
  instance: string;
  epoch: number;
  /** Whether all processes are on one node and share its memory directly. */
  direct: boolean;
  /** Whether all processes have joined. */
  started: boolean;
  /** Processes that are in the session now. */
  present: number;
  /** Entries ordered so far. */
  entries: number;
  /** Bytes of stores, atomics and publications ordered so far. */
  bytes: number;
  ranks: RankStatus[];
  /** The server's clock when it answered: with two answers differences become rates. */
  time_ms: number;
  /** How long the session has run: since all had joined, or since its server took over from another, as all counts here. */
  started_ms: number;
  /** Barriers passed so far. */
  barriers: number;
  /** Bytes of the order that the server still holds, for nodes that may lack them. */
  logBytes: number;
  /** At most SHOWN_MAX of each; if there are more, those for which somebody waits, and `...LeftOut` says how many not. */
  semaphores: SemaphoreStatus[];
  semaphoresLeftOut: number;
  locks: LockStatus[];
  locksLeftOut: number;
  /** Blocks that have names. */
  blocks: BlockStatus[];
  blocksLeftOut: number;
  /** Only where it was asked for. */
  heat?: Heat;
}

/** Of a server of which nothing is known. */
export const NOTHING_KNOWN: Readonly<ServerStatus> = {
  ...{ instance: "", epoch: 0, started: false, direct: false, present: 0, entries: 0, bytes: 0, ranks: [] },
  ...{ time_ms: 0, started_ms: 0, barriers: 0, logBytes: 0 },
  ...{ semaphores: [], semaphoresLeftOut: 0, locks: [], locksLeftOut: 0, blocks: [], blocksLeftOut: 0 },
};

export interface SessionDetail extends SessionSummary, ServerStatus {
  /** Whether the server answered; if not, what it would have said is zero or empty. */
  answered: boolean;
}

export interface Health {
  service: "dsm";
  version: string;
  /** PROTOCOL_VERSION of the daemon. */
  protocol: number;
  pid: number;
  autostarted: boolean;
}

export interface FindRequest {
  name: string;
  /** Creates the session if it is not there; without it the session must be there. */
  processes?: number;
  /** Bytes; rounded up to whole pages. Left out: whatever the session has, DEFAULT_SIZE for a new one. */
  size?: number;
  /** Left out: whatever the session has, DEFAULT_ORDER for a new one. */
  order?: Order;
  /** Left out: whatever the session has, DEFAULT_ON_LOSS for a new one. */
  onLoss?: OnLoss;
  /** Whether it is to be elastic. Left out: whatever the session is, a new one is not. */
  elastic?: boolean;
  /** An instance known to have ended: the directory gives another one. */
  after?: string;
}

/** What an arbiter knows of a session whose server it cannot reach. */
export interface SuccessionRequest extends SessionAddress {
  slot: number;
}

export interface Registration extends SessionAddress {
  pid: number;
  /** Which address slot the map has, 0 to ADDRESS_SLOTS - 1. */
  slot: number;
}

/** Asks the daemon's own authority for a certificate. */
export interface CertificateRequest {
  role: CertifiedRole;
  /** The public key: SubjectPublicKeyInfo of an ECDSA key on P-256, DER in base64. */
  key: string;
}

export interface SignedCertificate {
  /** PEM. */
  certificate: string;
  /** The authority's own, PEM. */
  authority: string;
  /** How long it is good from now on. The clocks of two machines may differ; a time that passes does not. */
  life_ms: number;
}

/**
 * The daemon as its clients see it. Every call throws DsmError: DSM_UNREACHABLE, DSM_PROTOCOL (something else listens
 * there), DSM_VERSION, DSM_INVALID, DSM_MISMATCH, DSM_REFUSED, DSM_LIMIT.
 */
export interface Directory {
  /** "host:port" of the daemon. */
  readonly address: string;
  find(request: FindRequest): Promise<SessionAddress>;
  /**
   * Where the server of a session is now: still there, or another one that takes over because it is gone. DSM_ENDED: the
   * session is over.
   */
  succeed(request: SuccessionRequest): Promise<SessionAddress>;
  /** DSM_ENDED: another server has taken over. */
  register(registration: Registration): Promise<void>;
  /** With a server: it takes itself off. Without: the daemon ends the server. False when it is not there. */
  remove(name: string, server?: { instance: string; epoch: number }): Promise<boolean>;
  list(): Promise<SessionSummary[]>;
  /** Null when there is no such session. */
  get(name: string): Promise<SessionDetail | null>;
  health(): Promise<Health>;
  /** How this daemon is reached, with its TLS as it was found: that of its authority is known only once it was asked. */
  security(): Promise<Security>;
  /** A certificate of the daemon's authority; null where it has none of its own. */
  certify(request: CertificateRequest): Promise<SignedCertificate | null>;
}
