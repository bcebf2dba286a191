/**
 * Succession: an arbiter that cannot reach the server of its session asks the daemon for its address. The daemon probes
 * the known server itself, and starts the next one only if that does not answer.
 *
 * asked --> wait for a succession of this name that is under way --> record is starting:      wait until it has
 * registered, look again --> probe the known address: "there"   answer with it "gone"    start epoch + 1, told that its
 * predecessor is gone "silent"  our own server: kill it first, then as "gone"; else start epoch + 1, told that its
 * predecessor is silent
 *
 * Invariants:
 * - One succession of a name at a time; concurrent requests wait for it and then look again.
 * - A successor starts only when its predecessor does not answer. It learns whether the predecessor is known to be
 *   gone: otherwise it serves only after all nodes have promised to follow it.
 * - No two servers of one instance have the same epoch, as far as this daemon remembers.
 * - A change of the record during a probe makes its result void: the look is repeated.
 */
import { DsmError } from "../core/base/errors.ts";
import { EPOCH_MAX } from "../core/base/limits.ts";
import type { SessionAddress, SuccessionRequest } from "../core/messages/daemon-api.ts";
import type { LaunchRequest } from "./server-launch.ts";
import type { ServerState } from "./server-probe.ts";
import { placeOf, type SessionRecord } from "./session-record.ts";

/** Limit of looks of one succession while servers keep disappearing. */
const LOOKS_MAX = 16;

/** The part of the registry that succession needs. */
export interface SuccessionRegistry {
  record(name: string): SessionRecord | undefined;
  hasEnded(instance: string): boolean;
  /** The newest remembered epoch of that instance; 0: none. */
  newestEpoch(instance: string): number;
  /** Whether a server of that instance is at that address. */
  probe(host: string, port: number, instance: string): Promise<ServerState>;
  /** Starts a server that replaces `record`. Throws DsmError. */
  replace(record: SessionRecord | undefined, request: LaunchRequest): SessionRecord;
}

export class Succession {
  readonly #registry: SuccessionRegistry;
  /** The last request for each name: the next one waits for it. */
  readonly #underWay = new Map<string, Promise<SessionRecord | SessionAddress>>();

  constructor(registry: SuccessionRegistry) {
    this.#registry = registry;
  }

  /**
   * findOrStartSuccessor returns the server of a session that an arbiter cannot reach: the existing one, or its
   * successor once that has registered. It returns an address instead of a record for a server that this daemon did not
   * know.
   *
   * Throws DSM_ENDED when that instance is over, DSM_LIMIT after EPOCH_MAX servers, DSM_SYSTEM when the successor does
   * not start, DSM_REFUSED when servers keep disappearing.
   */
  findOrStartSuccessor(request: SuccessionRequest): Promise<SessionRecord | SessionAddress> {
    const { name } = request;
    const before = this.#underWay.get(name);
    // The result of the request before is not the answer: this arbiter may know a newer server.
    const found = (before?.catch(() => {}) ?? Promise.resolve()).then(() => this.#look(request));
    const settled = found.finally(() => {
      if (this.#underWay.get(name) === settled) this.#underWay.delete(name);
    });
    this.#underWay.set(name, settled);
    return settled;
  }

  async #look(request: SuccessionRequest): Promise<SessionRecord | SessionAddress> {
    const { name, instance } = request;
    for (let look = 0; look < LOOKS_MAX; look++) {
      const record = this.#registry.record(name);
      if (this.#registry.hasEnded(instance) || (record && record.instance !== instance)) {
        throw new DsmError("DSM_ENDED", `session "${name}" has ended`);
      }
      if (record && !record.running && !record.orphaned) {
        await record.registered.promise;
        continue;
      }
      const [host, port] = record ? [placeOf(record), record.port] : [request.host, request.port];
      const found = await this.#registry.probe(host, port, instance);
      if (this.#registry.record(name) !== record) continue;
      if (found.state === "there") {
        const { slot: _, ...known } = request;
        return record ?? { ...known, epoch: found.epoch };
      }
      let isGone = found.state === "gone";
      if (!isGone && record?.server) {
        // A silent server of our own is killed: then the successor need not wait for all nodes.
        record.server.kill("SIGKILL");
        await record.server.ended;
        isGone = true;
      }
      if (this.#registry.record(name) !== record) continue;
      const successor = this.#registry.replace(record, {
        ...request,
        epoch: this.#nextEpoch(request, record),
        predecessor: isGone ? "gone" : "silent",
      });
      await successor.registered.promise;
      return successor;
    }
    throw new DsmError("DSM_REFUSED", `session "${name}" keeps losing its server; try again`);
  }

  #nextEpoch({ name, instance, epoch }: SuccessionRequest, record: SessionRecord | undefined): number {
    const next = Math.max(epoch, record?.epoch ?? 0, this.#registry.newestEpoch(instance)) + 1;
    if (next > EPOCH_MAX) throw new DsmError("DSM_LIMIT", `session "${name}" has lost ${EPOCH_MAX} servers`);
    return next;
  }
}
