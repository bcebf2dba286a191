/**
 * The sessions of this daemon by name: finding them, starting a server for a name that has none, and noticing servers
 * that are gone. src/daemon/README.md shows the states of a record.
 *
 * Invariants: a name has at most one record; a spawned server keeps its address slot until its process is gone; after a
 * probe the registry checks the record again before it changes it.
 */
import type { Security } from "../core/access/auth.ts";
import { DsmError } from "../core/base/errors.ts";
import { ORPHAN_TIMEOUT_MS, SESSIONS_MAX } from "../core/base/limits.ts";
import { pageRound } from "../core/base/size.ts";
import type { FindRequest, Registration, SessionAddress, SuccessionRequest } from "../core/messages/daemon-api.ts";
import { describeMismatch, settingsOf, settingsOfNew } from "../core/messages/session-settings.ts";
import { InstanceHistory } from "./instance-history.ts";
import { type LaunchRequest, launchServer, type ServerStart } from "./server-launch.ts";
import { endServer, findServer, isListening, isRefused } from "./server-probe.ts";
import { placeOf, type SessionRecord } from "./session-record.ts";
import { AddressSlots } from "./slots.ts";
import { Succession } from "./succession.ts";

/** The time in which a server must register after its start. */
export const START_TIMEOUT_MS = 15_000;
/** Time after which a server that was asked to end is killed. */
const END_TIMEOUT_MS = 3_000;
/** The attempts of a find whose sessions keep ending while it looks. */
const FIND_ATTEMPTS_MAX = 16;

export interface RegistryOptions extends ServerStart {
  /** Security of the connections that probe servers. */
  security: Security;
  /** Logs a line about a session. */
  log(line: string, session: string): void;
  /** Called after each change of the number of sessions. */
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

  /** The session of that name. Also while its server is lost and the next one does not run yet; not before its first. */
  get(name: string): SessionRecord | undefined {
    const record = this.#records.get(name);
    const isBetweenServers = record !== undefined && (record.orphaned !== null || record.epoch > 1);
    return record?.running || isBetweenServers ? record : undefined;
  }

  running(): SessionRecord[] {
    return [...this.#records.values()].filter((record) => record.running);
  }

  /**
   * find returns the running session of that name, and starts its server if there is none. `created`: this call started
   * it.
   */
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
        this.#orphan(record, "no longer listens");
      }
      if (record.orphaned) continue;
      if (this.#records.get(request.name) !== record) continue;
      checkSame(record, request);
      return { record, created };
    }
    throw new DsmError("DSM_REFUSED", `session "${request.name}" keeps ending while it is looked for; try again`);
  }

  /**
   * register records the address of a server, which registers periodically while it runs. It returns true if the daemon
   * did not know the server. Throws DSM_ENDED when the session is over or another server has taken over, DSM_MISMATCH
   * when another session has the name, DSM_LIMIT.
   */
  async register(address: Registration, peer: string): Promise<boolean> {
    let record = this.#records.get(address.name);
    if (this.#history.hasEnded(address.instance)) {
      throw new DsmError("DSM_ENDED", `session "${address.name}" has ended`);
    }
    // If two servers were started for one epoch, because a daemon did not know the first, the known one stays. A
    // running
    // server does not move: a registration must not redirect the processes of its session.
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
      if (gone && this.#records.get(address.name) === record) this.#drop(record, "no longer listens");
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
    const { name, instance, epoch, slot } = address;
    const registered = Promise.withResolvers<void>();
    registered.resolve();
    this.#slots.hold(slot, instance);
    this.#history.sawEpoch(instance, epoch);
    this.#records.set(name, {
      ...settingsOf(address),
      ...{ name, instance, epoch, slot, host, port, pid, mark, peer, registered },
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

  /** findOrStartSuccessor: see Succession. */
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
   * orphan marks a session whose server is gone. Its arbiters may request a successor; clients that look for the
   * session wait for that, for at most ORPHAN_MS.
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
    }, ORPHAN_TIMEOUT_MS);
  }

  /**
   * end asks the server of that name to end. It returns false if there is none. It signals only processes that this
   * daemon started; it asks other servers over a connection, and one that does not answer ends when it registers again.
   */
  async end(name: string): Promise<boolean> {
    const record = this.#records.get(name);
    if (!record) return false;
    this.#history.end(record.instance);
    const { server } = record;
    this.#drop(record, server === null ? null : "was removed");
    if (server !== null) {
      server.kill("SIGTERM");
      const timer = setTimeout(() => server.kill("SIGKILL"), END_TIMEOUT_MS);
      await server.ended;
      clearTimeout(timer);
    } else {
      this.#options.log(`session "${name}" was removed${await this.#endByHand(record)}`, name);
    }
    return true;
  }

  /** Asks the server, which was started by hand, to end. Returns what became of it, for the log. */
  async #endByHand(record: SessionRecord): Promise<string> {
    const place = placeOf(record);
    if (await endServer(place, record.port, record.instance, this.#options.security)) return "";
    return (await isRefused(place, record.port)) ? "; its server had ended" : ", but its server does not answer";
  }

  /** sweep drops sessions that were started by hand and whose servers are gone. */
  async sweep(): Promise<void> {
    const byHand = this.running().filter((record) => record.server === null);
    await Promise.all(
      byHand.map(async (record) => {
        if (!(await isListening(placeOf(record), record.port))) this.#orphan(record, "no longer listens");
      }),
    );
  }

  #start(request: FindRequest): SessionRecord {
    const { name } = request;
    const settings = settingsOfNew(request);
    if (settings === null) {
      throw new DsmError("DSM_REFUSED", `there is no session "${name}"; say how many processes it has to start it`);
    }
    this.#checkRoom();
    const slot = this.#slots.choose();
    const instance = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex");
    return this.#launch({ ...settings, name, slot, instance, epoch: 1 });
  }

  /** Starts a server, and records it under the name as "starting" until it registers. */
  #launch(launch: LaunchRequest): SessionRecord {
    const { name, slot, instance, epoch } = launch;
    const registered = Promise.withResolvers<void>();
    // Waiting clients get the reason; without any it is only in the log.
    registered.promise.catch(() => {});
    const { host = "", port = 0 } = launch;
    const server = launchServer(this.#options, launch, (line) => this.#options.log(line, name));
    this.#slots.hold(slot, instance);
    this.#history.sawEpoch(instance, epoch);
    const record: SessionRecord = {
      ...settingsOf(launch),
      ...{ name, instance, epoch, slot, server, registered },
      ...{ host, port, pid: server.pid, mark: null, peer: "", running: false, orphaned: null },
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

  /** Deletes the record. `reason`: for the log; null: the caller logs it. */
  #drop(record: SessionRecord, reason: string | null): void {
    if (this.#records.get(record.name) !== record) return;
    this.#records.delete(record.name);
    // A spawned server keeps its slot until its process has exited.
    const mayRelease = !record.server || record.orphaned !== null;
    if (mayRelease) this.#slots.release(record.slot, record.instance);
    if (reason !== null) this.#options.log(`session "${record.name}" ${reason}`, record.name);
    this.#options.changed();
  }

  #checkRoom(): void {
    if (this.#records.size >= SESSIONS_MAX) {
      throw new DsmError("DSM_LIMIT", `the daemon has ${SESSIONS_MAX} sessions, its limit; end some first`);
    }
  }
}

/** isSameServer: a process id alone does not identify a process, as PID namespaces may share it. */
function isSameServer(record: SessionRecord, { host, port, pid, mark }: Registration): boolean {
  return record.pid === pid && record.host === host && record.port === port && record.mark === (mark ?? null);
}

function checkSame(record: SessionRecord, request: FindRequest): void {
  const wished = request.size === undefined ? request : { ...request, size: pageRound(request.size) };
  const mismatch = describeMismatch(record, wished);
  if (mismatch !== null) throw new DsmError("DSM_MISMATCH", mismatch);
}
