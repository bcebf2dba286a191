/** The daemon's HTTP API: its requests and answers, and how shells reach it. */
import * as v from "valibot";
import type { Security } from "../access/tls.ts";
import { checkOrder, DEFAULT_ORDER, type Order } from "../base/consistency.ts";
import { ADDRESS_SLOTS, EPOCH_MAX, HEAT_CELLS_MAX, LOCKS_MAX, PROCESSES_MAX, SHOWN_MAX } from "../base/limits.ts";
import { checkOnLoss, DEFAULT_ON_LOSS, type OnLoss } from "../base/loss-policy.ts";
import { checkProcesses, formatAddress, parseAddress } from "../base/names.ts";
import { checkSize } from "../base/size.ts";
import {
  count,
  flag,
  list,
  name,
  numberBy,
  numbers,
  pattern,
  record,
  text,
  textBy,
  whenWhole,
  whole,
} from "./schema.ts";

const order = textBy<Order>(checkOrder);
const onLoss = textBy<OnLoss>(checkOnLoss);
const port = whole(1, 65535);
const epoch = whole(1, EPOCH_MAX);

/** Where a session's server is. */
const addressEntries = {
  name: name("session"),
  /** Which run of that name: 16 hex digits, the same for all servers of one session. */
  instance: text(),
  /** Which server of the session this is, from 1: the next one takes over when it is lost. */
  epoch,
  host: textBy<string>((host) => (parseAddress(formatAddress(host, 1)) === null ? "is not a host" : null)),
  port,
  processes: numberBy(checkProcesses),
  /** Bytes of the map, whole pages. */
  size: numberBy(checkSize),
  order,
  onLoss,
  /** Processes may join while it runs; `processes` is how many it begins with. */
  elastic: flag,
};
export const SessionAddressSchema = record(addressEntries);
export type SessionAddress = v.InferOutput<typeof SessionAddressSchema>;

const summaryEntries = {
  ...addressEntries,
  /** Process of the server, on its own host. */
  pid: count,
  /** Whether the daemon started the server; false: it was started by hand. */
  spawned: flag,
};
export const SessionSummarySchema = record(summaryEntries);
export type SessionSummary = v.InferOutput<typeof SessionSummarySchema>;

const rankReportEntries = {
  rank: count,
  node: text(),
  pid: count,
  state: v.picklist(
    ["joining", "running", "barrier", "semaphore", "lock", "sleeping", "left", "lost"],
    "is not the state of a process",
  ),
  /** Name of the semaphore or lock waited on, or the place in the map slept on. */
  on: v.exactOptional(text()),
  /** Names of the locks it has; left out if none. */
  holds: v.exactOptional(list(LOCKS_MAX, text())),
};
const RankReportSchema = record(rankReportEntries);
export type RankReport = v.InferOutput<typeof RankReportSchema>;

const RankStatusSchema = record({
  ...rankReportEntries,
  /** For how long it has been in this state, on the server's clock. */
  stateMs: count,
  /** Entries of this rank in the order so far: stores, atomics, publications, barriers and all else. */
  entries: count,
  /** Bytes that these have written. In direct mode stores do not leave the process and are not seen. */
  bytes: count,
  /** How long ago its last entry was that wrote; null: none yet. */
  lastWriteMs: v.nullable(count),
  /** The last round trip measured between the server and its node, in microseconds; null: none. */
  roundTripUs: v.nullable(count),
});
export type RankStatus = v.InferOutput<typeof RankStatusSchema>;

/** Ranks, first come first; a rank of which several threads wait is there once. */
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

const BlockStatusSchema = record({
  name: text(),
  /** Where it begins in the map. */
  offset: count,
  /** Bytes. */
  size: count,
});
export type BlockStatus = v.InferOutput<typeof BlockStatusSchema>;

/** Which ranks have written where. In direct mode stores are not seen. */
const HeatSchema = v.pipe(
  record({
    /** Bytes of a cell; the last one may be cut short by the end of the map. */
    cell: whole(1, Number.MAX_SAFE_INTEGER),
    /** By cell: the rank that wrote there last, -1: none. At most HEAT_CELLS_MAX. */
    writers: numbers(-1, HEAT_CELLS_MAX),
    /** By cell: how many entries wrote there. */
    writes: numbers(0, HEAT_CELLS_MAX),
  }),
  whenWhole(({ writers, writes }) =>
    writers.length === writes.length ? null : ["writes", "has not as many cells as writers"],
  ),
);
export type Heat = v.InferOutput<typeof HeatSchema>;

/** What a server answers to a STATUS frame. */
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
  /** The server's clock when it answered: with two answers differences become rates. */
  time_ms: count,
  /** How long the session has run: since all had joined, or since its server took over from another, as all counts here. */
  started_ms: count,
  /** Barriers passed so far. */
  barriers: count,
  /** Bytes of the order that the server still holds, for nodes that may lack them. */
  logBytes: count,
  /** At most SHOWN_MAX of each; if there are more, those that a process waits for, and `...LeftOut` counts the others. */
  semaphores: list(SHOWN_MAX, SemaphoreStatusSchema),
  semaphoresLeftOut: count,
  locks: list(SHOWN_MAX, LockStatusSchema),
  locksLeftOut: count,
  /** Blocks that have names. */
  blocks: list(SHOWN_MAX, BlockStatusSchema),
  blocksLeftOut: count,
  /** Only where it was asked for. */
  heat: v.exactOptional(HeatSchema),
};
const ServerStatusSchema = record(statusEntries);
export type ServerStatus = v.InferOutput<typeof ServerStatusSchema>;

/** Of a server of which nothing is known. */
export const NOTHING_KNOWN: Readonly<ServerStatus> = {
  ...{ instance: "", epoch: 0, started: false, direct: false, present: 0, entries: 0, bytes: 0, ranks: [] },
  ...{ time_ms: 0, started_ms: 0, barriers: 0, logBytes: 0 },
  ...{ semaphores: [], semaphoresLeftOut: 0, locks: [], locksLeftOut: 0, blocks: [], blocksLeftOut: 0 },
};

export const SessionDetailSchema = record({
  ...statusEntries,
  ...summaryEntries,
  /** Whether the server answered; if not, what it would have said is zero or empty. */
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
  name: name("session"),
  /** Creates the session if it is not there; without it the session must be there. */
  processes: v.exactOptional(numberBy(checkProcesses)),
  /** Bytes; rounded up to whole pages. Left out: whatever the session has, DEFAULT_SIZE for a new one. */
  size: v.exactOptional(numberBy(checkSize)),
  /** Left out: whatever the session has, DEFAULT_ORDER for a new one. */
  order: v.exactOptional(order),
  /** Left out: whatever the session has, DEFAULT_ON_LOSS for a new one. */
  onLoss: v.exactOptional(onLoss),
  /** Whether it is to be elastic. Left out: whatever the session is, a new one is not. */
  elastic: v.exactOptional(flag),
  /** An instance known to have ended: the directory gives another one. */
  after: v.exactOptional(instance),
});
export type FindRequest = v.InferOutput<typeof FindRequestSchema>;

/** A session and its server, as others than the daemon know them. Its name stands in the path. */
const serverEntries = {
  host: pattern(/^[\w.:-]{1,255}$/, "a host name or address"),
  instance,
  epoch: v.optional(epoch, 1),
  port,
  processes: numberBy(checkProcesses),
  size: numberBy(checkSize),
  order: v.optional(order, DEFAULT_ORDER),
  onLoss: v.optional(onLoss, DEFAULT_ON_LOSS),
  elastic: v.optional(flag, false),
  /** Which address slot the map has. */
  slot: whole(0, ADDRESS_SLOTS - 1),
};

/** What an arbiter knows of a session whose server it cannot reach. */
export const SuccessionRequestSchema = record(serverEntries);
export type SuccessionRequest = { name: string } & v.InferOutput<typeof SuccessionRequestSchema>;

export const RegistrationSchema = record({
  ...serverEntries,
  pid: whole(1, 2 ** 31),
  /** Chosen at random by the server's process: tells two servers of one epoch apart. Left out by dsm before 0.1.1. */
  mark: v.exactOptional(pattern(/^[0-9a-f]{16}$/, "a mark of 16 hex digits")),
});
export type Registration = { name: string } & v.InferOutput<typeof RegistrationSchema>;

/** Asks the daemon's own authority for a certificate. */
export const CertificateRequestSchema = record({
  role: v.picklist(["server", "arbiter"], "is missing or neither server nor arbiter"),
  /** The public key: SubjectPublicKeyInfo of an ECDSA key on P-256, DER in base64. */
  key: text(),
});
export type CertificateRequest = v.InferOutput<typeof CertificateRequestSchema>;

const SignedCertificateSchema = record({
  /** PEM. */
  certificate: text(),
  /** The authority's own, PEM. */
  authority: text(),
  /** How long it is good from now on. The clocks of two machines may differ; a time that passes does not. */
  life_ms: whole(1, Number.MAX_SAFE_INTEGER),
});
export type SignedCertificate = v.InferOutput<typeof SignedCertificateSchema>;

/** The body of every answer with a status of 400 and above. */
const ProblemSchema = record({ error: record({ code: text(), message: text() }) });
export type Problem = v.InferOutput<typeof ProblemSchema>;

/**
 * The daemon as its clients see it. Every call throws DsmError: DSM_UNREACHABLE, DSM_PROTOCOL (something else listens
 * there), DSM_VERSION, DSM_INVALID, DSM_MISMATCH, DSM_REFUSED, DSM_LIMIT.
 */
export interface DaemonApi {
  /** "host:port" of the daemon. */
  readonly address: string;
  find(request: FindRequest): Promise<SessionAddress>;
  /**
   * Where the server of a session is now: still there, or another one that takes over because it is gone. DSM_ENDED: the
   * session is over.
   */
  findOrStartSuccessor(request: SuccessionRequest): Promise<SessionAddress>;
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
