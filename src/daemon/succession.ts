/**
 * Succession: arbiters that cannot reach the server of their session ask the daemon where it is now. The daemon looks for
 * it itself, and starts the next server only if the old one does not answer.
 *
 *   asked --> wait for a succession of this name that is under way
 *         --> record is starting:      wait until it has registered, look again
 *         --> probe the known address: "there"   answer with it
 *                                      "gone"    start epoch + 1, told that its predecessor is gone
 *                                      "silent"  our own server: kill it first, then as "gone";
 *                                                else start epoch + 1, told that its predecessor is silent
 *
 * Invariants:
 * - One succession of a name at a time; those that ask meanwhile look at what it has left behind.
 * - A successor starts only when its predecessor does not answer, and it is told whether that one is known to be gone:
 *   otherwise it serves only once every node has promised to follow it.
 * - No two servers of one instance have one epoch, as far as this daemon remembers.
 * - Whatever changes while a probe is out makes the probe void: the look begins anew.
 */
import { DsmError } from "../core/base/errors.ts";
import { EPOCH_MAX } from "../core/base/limits.ts";
import type { SessionAddress, SuccessionRequest } from "../core/messages/daemon-api.ts";
import type { LaunchRequest } from "./server-launch.ts";
import type { ServerState } from "./server-probe.ts";
import { placeOf, type SessionRecord } from "./session-record.ts";

/** A succession that keeps meeting servers that go while it looks gives up after so many looks. */
const LOOKS_MAX = 16;

/** What succession needs of the registry. */
export interface SuccessionRegistry {
  record(name: string): SessionRecord | undefined;
  hasEnded(instance: string): boolean;
  /** The newest epoch of that instance that is remembered; 0: none. */
  newestEpoch(instance: string): number;
  /** Whether a server of that instance is at that address. */
  probe(host: string, port: number, instance: string): Promise<ServerState>;
  /** Starts a server in place of that of `record`, whose record goes. Throws DsmError. */
  replace(record: SessionRecord | undefined, request: LaunchRequest): SessionRecord;
}

export class Succession {
  readonly #registry: SuccessionRegistry;
  /** The last to ask about each name: the next one waits for it. */
  readonly #underWay = new Map<string, Promise<SessionRecord | SessionAddress>>();

  constructor(registry: SuccessionRegistry) {
    this.#registry = registry;
  }

  /**
   * The server of a session that an arbiter cannot reach: the one that is there, or the next one once it has registered.
   * An address, not a record: the server is there, and this daemon had not known of it.
   *
   * Throws DSM_ENDED when that instance is over, DSM_LIMIT after EPOCH_MAX servers, DSM_SYSTEM when the successor does not
   * start, DSM_REFUSED when servers keep going.
   */
  findOrStartSuccessor(request: SuccessionRequest): Promise<SessionRecord | SessionAddress> {
    const { name } = request;
    const before = this.#underWay.get(name);
    // What the one before found is not the answer: this arbiter may know of a newer server.
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
        // Our own server is silent: once it is killed, its nodes need not all come before the successor serves.
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
