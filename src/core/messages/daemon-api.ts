/** The daemon's HTTP API: its requests and answers, and how shells reach it. */
import * as v from "valibot";
import type { Security } from "../access/tls.ts";
import { ADDRESS_SLOTS, EPOCH_MAX, HEAT_CELLS_MAX, PROCESSES_MAX, SHOWN_MAX } from "../base/limits.ts";
import { formatAddress, parseAddress } from "../base/names.ts";
import { SETTINGS } from "../base/settings.ts";
import { count, flag, list, numbers, pattern, record, text, textBy, whenWhole, whole } from "./schema.ts";
import { settingEntries, settingField, wishedEntries } from "./session-settings.ts";

const name = settingField("session");
const port = whole(1, 65535);
const epoch = whole(1, EPOCH_MAX);

/** Address of a session's server. */
const addressEntries = {
  name,
  /** Which run of the session's name: 16 hex digits, the same for all servers of one session. */
  instance: text(),
  /** Which server of the session this is, from 1: the next one takes over when this one is lost. */
  epoch,
  host: textBy<string>((host) => (parseAddress(formatAddress(host, 1)) === null ? "is not a host" : null)),
  port,
  ...settingEntries,
};
export const SessionAddressSchema = record(addressEntries);
export type SessionAddress = v.InferOutput<typeof SessionAddressSchema>;

const summaryEntries = {
  ...addressEntries,
  /** Process id of the server on its own host. */
  pid: count,
  /** Whether the daemon started the server; false: a user started it. */
  spawned: flag,
};
export const SessionSummarySchema = record(summaryEntries);
export type SessionSummary = v.InferOutput<typeof SessionSummarySchema>;

/** More locks than a process can have at once. */
const HOLDS_MAX = 2 ** 17;

const rankReportEntries = {
  rank: count,
  node: text(),
  pid: count,
  state: v.picklist(
    ["joining", "running", "barrier", "semaphore", "lock", "condition", "rwlock", "sleeping", "left", "lost"],
    "is not the state of a process",
  ),
  /**
   * Name of the semaphore or lock waited for, the object in the map, such as "mutex at 0x1a40", or the place in the map slept
   * on; left out for the session's barrier.
   */
  on: v.exactOptional(text()),
  /** The locks that it owns, and the reader-writer locks that it has for writing; left out if none. */
  holds: v.exactOptional(list(HOLDS_MAX, text())),
};
const RankReportSchema = record(rankReportEntries);
export type RankReport = v.InferOutput<typeof RankReportSchema>;

const RankStatusSchema = record({
  ...rankReportEntries,
  /** How long it has been in this state, by the server's clock. */
  stateMs: count,
  /** Entries of this rank in the log so far: stores, atomics, publications, barriers and all others. */
  entries: count,
  /** Bytes written by these entries. In direct mode stores do not leave the process and are not counted. */
  bytes: count,
  /** Time since its last entry that wrote; null: none yet. */
  lastWriteMs: v.nullable(count),
  /** The last round trip measured between the server and its node, in microseconds; null: none. */
  roundTripUs: v.nullable(count),
});
export type RankStatus = v.InferOutput<typeof RankStatusSchema>;

/** Waiting ranks, first come first; a rank of which several threads wait appears once. */
const waiters = numbers(0, PROCESSES_MAX);

const SemaphoreStatusSchema = record({ name: text(), value: count, waiters });
export type SemaphoreStatus = v.InferOutput<typeof SemaphoreStatusSchema>;

const LockStatusSchema = record({
  name: text(),
  /** Rank, or null. */
  owner: v.nullable(count),
  waiters,
});
export type LockStatus = v.InferOutput<typeof LockStatusSchema>;

/** A condition, a reader-writer lock or a barrier in the map that is in use. */
const ObjectStatusSchema = record({
  object: v.picklist(["condition", "rwlock", "barrier"], "is not an object in the map"),
  /** Its place in the map. */
  offset: count,
  /** Of a reader-writer lock: the ranks that have it, and whether for writing. */
  holders: numbers(0, PROCESSES_MAX),
  isWritten: flag,
  /** Of a barrier: how many must arrive; else 0. */
  count,
  /** Requests that wait; several threads of a process may do so. */
  waiting: count,
  waiters,
});
export type ObjectStatus = v.InferOutput<typeof ObjectStatusSchema>;

const BlockStatusSchema = record({
  name: text(),
  /** Its offset in the map. */
  offset: count,
  /** Bytes. */
  size: count,
});
export type BlockStatus = v.InferOutput<typeof BlockStatusSchema>;

/** Which ranks have written where. In direct mode stores are not seen. */
export const HeatSchema = v.pipe(
  record({
    /** Bytes of a cell; the end of the map may cut the last one short. */
    cell: whole(1, Number.MAX_SAFE_INTEGER),
    /** By cell: the last rank that wrote there, -1: none. At most HEAT_CELLS_MAX. */
    writers: numbers(-1, HEAT_CELLS_MAX),
    /** By cell: the number of entries that wrote there. */
    writes: numbers(0, HEAT_CELLS_MAX),
  }),
  whenWhole(({ writers, writes }) => {
    if (writers.length !== writes.length) return ["writes", "has not as many cells as writers"];
    return writers.every((rank) => rank < PROCESSES_MAX) ? null : ["writers", "has a rank that no process can have"];
  }),
);
export type Heat = v.InferOutput<typeof HeatSchema>;

export const StatusPhase = v.picklist(["joining", "running", "ended", "recovering"], "is not the phase of a session");

/** The server's answer to a STATUS frame. */
export const statusEntries = {
  instance: text(),
  epoch: count,
  /** Whether all processes are on one node and share its memory directly. */
  direct: flag,
  /** Whether all processes have joined. */
  started: flag,
  /** Processes that are in the session now. */
  present: count,
  /** Entries ordered so far. */
  entries: count,
  /** Bytes of stores, atomics and publications ordered so far. */
  bytes: count,
  ranks: list(PROCESSES_MAX, RankStatusSchema),
  /** The server's clock when it answered: the differences between two answers give rates. */
  time_ms: count,
  /** How long the session has run: since all had joined. */
  started_ms: count,
  /**
   * Left out: counts and times go back to the session's beginning. Else how long they go back: the server took over from
   * a node of a version of dsm that does not count.
   */
  knownMs: v.exactOptional(count),
  /**
   * "joining", "running", "ended"; "recovering": another server is taking the session over, and as long as it does not
   * have its state, the session counts as not answered. Left out: no server answers.
   */
  phase: v.exactOptional(StatusPhase),
  /** Barriers passed so far. */
  barriers: count,
  /** Bytes of the log that the server still retains for nodes that may lack them. */
  logBytes: count,
  /**
   * At most SHOWN_MAX of each; if there are more, those that a process waits for come first, and `...LeftOut` counts
   * the others.
   */
  semaphores: list(SHOWN_MAX, SemaphoreStatusSchema),
  semaphoresLeftOut: count,
  locks: list(SHOWN_MAX, LockStatusSchema),
  locksLeftOut: count,
  objects: list(SHOWN_MAX, ObjectStatusSchema),
  objectsLeftOut: count,
  /** Blocks that have names. */
  blocks: list(SHOWN_MAX, BlockStatusSchema),
  blocksLeftOut: count,
  /** Only if requested. */
  heat: v.exactOptional(HeatSchema),
};
const ServerStatusSchema = record(statusEntries);
export type ServerStatus = v.InferOutput<typeof ServerStatusSchema>;

/** The status of a server that did not answer. */
export const NOTHING_KNOWN: Readonly<ServerStatus> = {
  ...{ instance: "", epoch: 0, started: false, direct: false, present: 0, entries: 0, bytes: 0, ranks: [] },
  ...{ time_ms: 0, started_ms: 0, barriers: 0, logBytes: 0 },
  ...{ semaphores: [], semaphoresLeftOut: 0, locks: [], locksLeftOut: 0, objects: [], objectsLeftOut: 0 },
  ...{ blocks: [], blocksLeftOut: 0 },
};

export const SessionDetailSchema = record({
  ...statusEntries,
  ...summaryEntries,
  /** Whether the server answered and has the session's state; if not, its fields are zero or empty. */
  answered: flag,
});
export type SessionDetail = v.InferOutput<typeof SessionDetailSchema>;

export const HealthSchema = record({
  service: v.literal("dsm", "is not dsm"),
  version: text(),
  /** PROTOCOL_VERSION of the daemon. */
  protocol: count,
  pid: count,
  autostarted: flag,
});
export type Health = v.InferOutput<typeof HealthSchema>;

const instance = pattern(/^[0-9a-f]{16}$/, "an instance id of 16 hex digits");

export const FindRequestSchema = record({
  name,
  /**
   * Left out: as the session has it, the default for a new one. `processes` creates the session if it does not exist;
   * without it the session must exist. `size` is rounded up to whole pages.
   */
  ...wishedEntries,
  /** An instance known to have ended: the daemon returns another one. */
  after: v.exactOptional(instance),
});
export type FindRequest = v.InferOutput<typeof FindRequestSchema>;

/** A session and its server, as peers other than the daemon know them. Its name is in the path. */
const serverEntries = {
  host: pattern(/^[\w.:-]{1,255}$/, "a host name or address"),
  instance,
  epoch: v.optional(epoch, 1),
  port,
  ...settingEntries,
  order: v.optional(settingEntries.order, SETTINGS.order.fallback),
  onLoss: v.optional(settingEntries.onLoss, SETTINGS.onLoss.fallback),
  elastic: v.optional(settingEntries.elastic, SETTINGS.elastic.fallback),
  /** Address slot of the map. */
  slot: whole(0, ADDRESS_SLOTS - 1),
};

/** What an arbiter knows of a session whose server it cannot reach. */
export const SuccessionRequestSchema = record(serverEntries);
export type SuccessionRequest = { name: string } & v.InferOutput<typeof SuccessionRequestSchema>;

export const RegistrationSchema = record({
  ...serverEntries,
  pid: whole(1, 2 ** 31),
  /** Chosen at random by the server's process: distinguishes two servers of one epoch. A server of an earlier protocol has none. */
  mark: v.exactOptional(pattern(/^[0-9a-f]{16}$/, "a mark of 16 hex digits")),
});
export type Registration = { name: string } & v.InferOutput<typeof RegistrationSchema>;

/** Requests a certificate from the daemon's own authority. */
export const CertificateRequestSchema = record({
  role: v.picklist(["server", "arbiter"], "is missing or neither server nor arbiter"),
  /** The public key: SubjectPublicKeyInfo of an ECDSA key on P-256, DER in base64. */
  key: text(),
});
export type CertificateRequest = v.InferOutput<typeof CertificateRequestSchema>;

const SignedCertificateSchema = record({
  /** PEM. */
  certificate: text(),
  /** The authority's own certificate, PEM. */
  authority: text(),
  /** Lifetime from now on: a duration, because the clocks of two machines may differ. */
  life_ms: whole(1, Number.MAX_SAFE_INTEGER),
});
export type SignedCertificate = v.InferOutput<typeof SignedCertificateSchema>;

/** The body of every answer with a status of 400 and above. */
const ProblemSchema = record({ error: record({ code: text(), message: text() }) });
export type Problem = v.InferOutput<typeof ProblemSchema>;

/**
 * DaemonApi: the daemon as its clients see it. Every call throws DsmError: DSM_UNREACHABLE, DSM_PROTOCOL (another
 * program listens there), DSM_VERSION, DSM_INVALID, DSM_MISMATCH, DSM_REFUSED, DSM_LIMIT.
 */
export interface DaemonApi {
  /** "host:port" of the daemon. */
  readonly address: string;
  find(request: FindRequest): Promise<SessionAddress>;
  /**
   * Finds the server of a session: the current one, or another one that takes over because that is gone. Throws
   * DSM_ENDED: the session is over.
   */
  findOrStartSuccessor(request: SuccessionRequest): Promise<SessionAddress>;
  /** Registers a server. Throws DSM_ENDED: another server has taken over. */
  register(registration: Registration): Promise<void>;
  /**
   * With `server`: the server removes its own entry. Without: the daemon ends the server. False when there is no such
   * entry.
   */
  remove(name: string, server?: { instance: string; epoch: number }): Promise<boolean>;
  list(): Promise<SessionSummary[]>;
  /** The session, or null when there is none of that name. */
  get(name: string): Promise<SessionDetail | null>;
  health(): Promise<Health>;
  /** How this daemon is reached. The TLS settings of its authority are known only after a first connection. */
  security(): Promise<Security>;
  /** Requests a certificate of the daemon's authority; null: the daemon has no authority of its own. */
  certify(request: CertificateRequest): Promise<SignedCertificate | null>;
}
