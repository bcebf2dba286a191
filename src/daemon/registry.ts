/**
 * The sessions of this daemon by name: finding them, starting a server for a name that has none, and noticing servers
 * that are gone. src/daemon/README.md shows the states of a record.
 *
 * Invariants: a name has at most one record; a spawned server keeps its address slot until its process is gone; after a
 * probe the registry checks the record again before it changes it.
 */
import type { Security } from "../core/access/auth.ts";
import { DEFAULT_ORDER } from "../core/base/consistency.ts";
import { DsmError } from "../core/base/errors.ts";
import { DEFAULT_SIZE, ORPHAN_MS, SESSIONS_MAX } from "../core/base/limits.ts";
import { DEFAULT_ON_LOSS } from "../core/base/loss-policy.ts";
import { pageRound, sizeMismatch } from "../core/base/size.ts";
import type { FindRequest, Registration, SessionAddress, SuccessionRequest } from "../core/messages/daemon-api.ts";
import { InstanceHistory } from "./instance-history.ts";
import { type LaunchRequest, launchServer, type ServerStart } from "./server-launch.ts";
import { endServer, findServer, isListening } from "./server-probe.ts";
import { placeOf, type SessionRecord } from "./session-record.ts";
import { AddressSlots } from "./slots.ts";
import { Succession } from "./succession.ts";

/** The time in which a server must register after its start. */
export const START_TIMEOUT_MS = 15_000;
/** A server that was told to end is killed after this long. */
const END_TIMEOUT_MS = 3_000;
/** The attempts of a find whose sessions keep ending while it looks. */
const FIND_ATTEMPTS_MAX = 16;

export interface RegistryOptions extends ServerStart {
  /** Security of the connections that probe servers. */
  security: Security;
  /** A line, and the session that it is about. */
  log(line: string, session: string): void;
  /** Called whenever the number of sessions has changed. */
  changed(): void;
}

export class SessionRegistry {
  readonly #options: RegistryOptions;
  readonly #records = new Map<string, SessionRecord>();
  readonly #slots = new AddressSlots();
  readonly #history = new InstanceHistory();
  readonly #succession: Succession;

  constructor(options: RegistryOptions) {
    this.#options = options;
    this.#succession = new Succession({
      record: (name) => this.#records.get(name),
      hasEnded: (instance) => this.#history.hasEnded(instance),
      newestEpoch: (instance) => this.#history.newestEpoch(instance),
      probe: (host, port, instance) => findServer(host, port, instance, options.security),
      replace: (record, request) => this.#replace(record, request),
    });
  }

  get size(): number {
    return this.#records.size;
  }

  get(name: string): SessionRecord | undefined {
    const record = this.#records.get(name);
    return record?.running ? record : undefined;
  }

  running(): SessionRecord[] {
    return [...this.#records.values()].filter((record) => record.running);
  }

  /** The running session of that name, started if need be. `created`: this call started it. */
  async find(request: FindRequest): Promise<{ record: SessionRecord; created: boolean }> {
    for (let attempt = 0; attempt < FIND_ATTEMPTS_MAX; attempt++) {
      let record = this.#records.get(request.name);
      if (record?.orphaned) {
        await record.orphaned.promise;
        continue;
      }
      if (record?.running && record.instance === request.after) {
        this.#drop(record, "was replaced: a process found it ended");
        record = undefined;
      }
      let created = false;
      if (!record) {
        record = this.#start(request);
        created = true;
      }
      await record.registered.promise;
      if (!created && !record.server && !(await isListening(placeOf(record), record.port))) {
        this.#orphan(record, "does not listen any more");
      }
      if (record.orphaned) continue;
      if (this.#records.get(request.name) !== record) continue;
      checkSame(record, request);
      return { record, created };
    }
    throw new DsmError("DSM_REFUSED", `session "${request.name}" keeps ending while it is looked for; try again`);
  }

  /**
   * A server says where it is, again and again while it runs. True: the daemon had not known of it. Throws DSM_ENDED
   * when the session is over or another server has taken over, DSM_MISMATCH when another session has the name,
   * DSM_LIMIT.
   */
  async register(address: Registration, peer: string): Promise<boolean> {
    let record = this.#records.get(address.name);
    if (this.#history.hasEnded(address.instance)) {
      throw new DsmError("DSM_ENDED", `session "${address.name}" has ended`);
    }
    // Of two servers that were started for one epoch, because a daemon did not know of the first, the one it knows
    // stays. A server does not move while it runs: its registration cannot send the session's processes elsewhere.
    if (record?.instance === address.instance && record.running && record.epoch === address.epoch) {
      if (!isSameServer(record, address)) throw new DsmError("DSM_ENDED", "another server has taken over");
    }
    if (record?.instance === address.instance && record.epoch !== address.epoch) {
      if (record.epoch > address.epoch) throw new DsmError("DSM_ENDED", "another server has taken over");
      this.#drop(record, "was replaced by another server");
      record = undefined;
    }
    if (record?.orphaned && record.instance !== address.instance) {
      this.#drop(record, "was replaced");
      record = undefined;
    }
    if (record && record.instance !== address.instance) {
      const gone = record.running && !record.server && !(await isListening(placeOf(record), record.port));
      if (gone && this.#records.get(address.name) === record) this.#drop(record, "does not listen any more");
      record = this.#records.get(address.name);
      if (record && record.instance !== address.instance) {
        throw new DsmError(
          "DSM_MISMATCH",
          `session "${address.name}" is already running at ${record.host}:${record.port}; choose another name or end it`,
        );
      }
    }
    const { host, port, pid, mark = null } = address;
    if (record) {
      const again = record.running;
      record.orphaned?.resolve();
      Object.assign(record, { host, port, pid, mark, peer, running: true, orphaned: null });
      record.registered.resolve();
      if (!again) this.#options.log(`session "${record.name}" runs on port ${port} (process ${pid})`, record.name);
      return false;
    }
    this.#checkRoom();
    const { name, instance, epoch, slot, processes, size, order, onLoss, elastic } = address;
    const registered = Promise.withResolvers<void>();
    registered.resolve();
    this.#slots.hold(slot, instance);
    this.#history.sawEpoch(instance, epoch);
    this.#records.set(name, {
      ...{
        name,
        instance,
        epoch,
        slot,
        processes,
        size,
        order,
        onLoss,
        elastic,
        host,
        port,
        pid,
        mark,
        peer,
        registered,
      },
      ...{ server: null, running: true, orphaned: null },
    });
    this.#options.log(`session "${name}" was started by hand at ${host}:${port} (process ${pid})`, name);
    this.#options.changed();
    return true;
  }

  /** Removes the record of a server at its own request. False if the name belongs to another instance. */
  unregister(name: string, instance: string, epoch: number): boolean {
    const record = this.#records.get(name);
    if (record?.instance !== instance || record.epoch !== epoch) return false;
    this.#history.end(instance);
    this.#drop(record, "has ended");
    return true;
  }

  /** See Succession. */
  findOrStartSuccessor(request: SuccessionRequest): Promise<SessionRecord | SessionAddress> {
    return this.#succession.findOrStartSuccessor(request);
  }

  #replace(record: SessionRecord | undefined, request: LaunchRequest): SessionRecord {
    const orphaned = record?.orphaned;
    if (!record) this.#checkRoom();
    else this.#drop(record, "has lost its server");
    const successor = this.#launch(request);
    orphaned?.resolve();
    return successor;
  }

  /**
   * The arbiters of the session may ask for its next server. Those that look for the session wait for that, for a
   * while.
   */
  #orphan(record: SessionRecord, reason: string): void {
    if (this.#records.get(record.name) !== record || record.orphaned) return;
    const orphaned = Promise.withResolvers<void>();
    record.orphaned = orphaned;
    record.running = false;
    this.#options.log(`session "${record.name}": its server ${reason}`, record.name);
    setTimeout(() => {
      if (this.#records.get(record.name) === record && record.orphaned === orphaned) this.#drop(record, "has ended");
      orphaned.resolve();
    }, ORPHAN_MS);
  }

  /**
   * Ends the server of that name. False when there is none. Only a process that this daemon has started is signalled;
   * any other is asked over its link, and if it does not answer it ends when it registers again.
   */
  async end(name: string): Promise<boolean> {
    const record = this.#records.get(name);
    if (!record) return false;
    this.#history.end(record.instance);
    this.#drop(record, "was removed");
    if (record.server) {
      const { server } = record;
      server.kill("SIGTERM");
      const timer = setTimeout(() => server.kill("SIGKILL"), END_TIMEOUT_MS);
      await server.ended;
      clearTimeout(timer);
    } else if (!(await endServer(placeOf(record), record.port, record.instance, this.#options.security))) {
      this.#options.log(`session "${name}" was removed, but its server does not answer`, name);
    }
    return true;
  }

  /** Drops the sessions that were started by hand and whose servers are gone. */
  async sweep(): Promise<void> {
    const byHand = this.running().filter((record) => record.server === null);
    await Promise.all(
      byHand.map(async (record) => {
        if (!(await isListening(placeOf(record), record.port))) this.#orphan(record, "does not listen any more");
      }),
    );
  }

  #start(request: FindRequest): SessionRecord {
    const { name, processes } = request;
    if (processes === undefined) {
      throw new DsmError("DSM_REFUSED", `there is no session "${name}"; say how many processes it has to start it`);
    }
    this.#checkRoom();
    const slot = this.#slots.choose();
    const instance = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex");
    const size = pageRound(request.size ?? DEFAULT_SIZE);
    const order = request.order ?? DEFAULT_ORDER;
    const onLoss = request.onLoss ?? DEFAULT_ON_LOSS;
    const elastic = request.elastic === true;
    return this.#launch({ name, processes, slot, instance, size, order, onLoss, elastic, epoch: 1 });
  }

  /** Starts a server. Its record takes the name; it is "starting" until the server registers. */
  #launch(launch: LaunchRequest): SessionRecord {
    const { name, processes, slot, instance, size, order, onLoss, elastic, epoch } = launch;
    const registered = Promise.withResolvers<void>();
    // Those that wait get the reason; if there are none, it is in the log.
    registered.promise.catch(() => {});
    const server = launchServer(this.#options, launch, (line) => this.#options.log(line, name));
    this.#slots.hold(slot, instance);
    this.#history.sawEpoch(instance, epoch);
    const record: SessionRecord = {
      ...{ name, instance, epoch, slot, processes, size, order, onLoss, elastic, server, registered },
      ...{ host: "", port: 0, pid: server.pid, mark: null, peer: "", running: false, orphaned: null },
    };
    this.#records.set(name, record);
    this.#options.changed();

    const timer = setTimeout(() => {
      const seconds = START_TIMEOUT_MS / 1000;
      registered.reject(
        new DsmError("DSM_SYSTEM", `the server of session "${name}" did not register within ${seconds} s; try again`),
      );
      server.kill("SIGKILL");
    }, START_TIMEOUT_MS);
    registered.promise.then(
      () => clearTimeout(timer),
      () => clearTimeout(timer),
    );
    server.ended.then((reason) => {
      const current = this.#records.get(name);
      if (current === record && record.running) this.#orphan(record, `has ended: ${reason}`);
      else if (current === record && !record.orphaned) this.#drop(record, `has ended: ${reason}`);
      const inUse = this.#records.get(name)?.instance === instance;
      if (!inUse) this.#slots.release(slot, instance);
      registered.reject(
        new DsmError("DSM_SYSTEM", `the server of session "${name}" did not start: ${reason.slice(0, 500)}`),
      );
    });
    return record;
  }

  #drop(record: SessionRecord, reason: string): void {
    if (this.#records.get(record.name) !== record) return;
    this.#records.delete(record.name);
    // A spawned server has its slot until its process is gone.
    const mayRelease = !record.server || record.orphaned !== null;
    if (mayRelease) this.#slots.release(record.slot, record.instance);
    this.#options.log(`session "${record.name}" ${reason}`, record.name);
    this.#options.changed();
  }

  #checkRoom(): void {
    if (this.#records.size >= SESSIONS_MAX) {
      throw new DsmError("DSM_LIMIT", `the daemon has ${SESSIONS_MAX} sessions, its limit; end some first`);
    }
  }
}

/** A process id alone does not tell: two PID namespaces may have the same one. */
function isSameServer(record: SessionRecord, { host, port, pid, mark }: Registration): boolean {
  return record.pid === pid && record.host === host && record.port === port && record.mark === (mark ?? null);
}

function checkSame(record: SessionRecord, request: FindRequest): void {
  if (request.processes !== undefined && request.processes !== record.processes) {
    throw new DsmError(
      "DSM_MISMATCH",
      `session "${record.name}" has ${record.processes} processes, not ${request.processes}; ` +
        "all who join must say the same",
    );
  }
  if (request.size !== undefined && pageRound(request.size) !== record.size) {
    throw new DsmError("DSM_MISMATCH", sizeMismatch(record.name, record.size, pageRound(request.size)));
  }
  if (request.order !== undefined && request.order !== record.order) {
    throw new DsmError(
      "DSM_MISMATCH",
      `session "${record.name}" has the order ${record.order}, not ${request.order}; all who join must say the same`,
    );
  }
  if (request.onLoss !== undefined && request.onLoss !== record.onLoss) {
    throw new DsmError(
      "DSM_MISMATCH",
      `session "${record.name}" answers a loss with ${record.onLoss}, not ${request.onLoss}; all who join must say the same`,
    );
  }
  if (request.elastic === true && !record.elastic) {
    throw new DsmError(
      "DSM_MISMATCH",
      `session "${record.name}" is not elastic; its first process has to ask for that`,
    );
  }
}
