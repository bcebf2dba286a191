/** SessionRecord: the daemon's record of a session, and the form of it that clients get. */
import { isLoopback } from "../core/base/names.ts";
import type { SessionAddress, SessionSummary } from "../core/messages/daemon-api.ts";
import { type SessionSettings, settingsOf } from "../core/messages/session-settings.ts";
import type { SpawnedServer } from "./spawn.ts";

/**
 * One server of a session: a successor gets a record of its own.
 *
 * starting --registers--> running --its server is gone--> orphaned --taken over, or no successor requested--> dropped
 *       |                                                      |
 *       +--does not start--> dropped                           +--registers after all--> running
 */
export interface SessionRecord extends Readonly<SessionSettings> {
  readonly name: string;
  readonly instance: string;
  readonly epoch: number;
  readonly slot: number;
  /** Null for a server that was started by hand. */
  readonly server: SpawnedServer | null;
  /** Until it has registered: the address of its predecessor; "" and 0: it has none. */
  host: string;
  port: number;
  pid: number;
  /** Random number of the server's process; null: it has sent none. */
  mark: string | null;
  /** Address from which it registered. */
  peer: string;
  /** Resolves when the server has registered; rejects with DsmError when it cannot. */
  readonly registered: PromiseWithResolvers<void>;
  running: boolean;
  /**
   * Set while the server is gone. Settles when another server has taken over, or no successor was requested in
   * time.
   */
  orphaned: PromiseWithResolvers<void> | null;
}

export function publicSummary(record: SessionRecord, host: string): SessionSummary {
  return { ...publicAddress(record, host), pid: record.pid, spawned: record.server !== null };
}

export function publicAddress(record: SessionRecord, host: string): SessionAddress {
  const { name, instance, epoch, port } = record;
  return { name, instance, epoch, host, port, ...settingsOf(record) };
}

/** placeOf returns the host at which the daemon itself connects to the server. */
export function placeOf({ host, server, peer }: SessionRecord): string {
  if (!isWildcard(host)) return host;
  if (server === null && !isLoopback(peer)) return peer;
  return host === "::" ? "::1" : "127.0.0.1";
}

/** isWildcard returns whether a server at this host listens on all addresses of its machine. */
export function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}
