/** The table of sessions: who has which name, starting a server for a name nobody has, and noticing those that died. */
import { readFileSync } from "node:fs";
import type { Security } from "../core/auth.ts";
import type { FindRequest, SessionAddress, SessionSummary, SuccessionRequest } from "../core/directory.ts";
import { DsmError } from "../core/errors.ts";
import { ADDRESS_SLOTS, DEFAULT_SIZE, EPOCH_MAX, ORPHAN_MS, SESSIONS_MAX } from "../core/limits.ts";
import { DEFAULT_ON_LOSS, type OnLoss } from "../core/loss.ts";
import { DEFAULT_ORDER, type Order } from "../core/order.ts";
import { pageRound } from "../core/size.ts";
import { findServer, isListening } from "./link.ts";
import { type SpawnedServer, spawnServer } from "./spawn.ts";

/** A server must have registered this long after its start. */
export const START_TIMEOUT_MS = 15_000;
/** A server that was told to end is killed after this long. */
const END_TIMEOUT_MS = 3_000;
/** So many sessions that have ended are remembered: nobody is to take over from them. */
const ENDED_MAX = 4096;
/** A find that keeps meeting sessions that end while it looks gives up after this many. */
const FIND_ATTEMPTS_MAX = 16;

export interface Entry {
  readonly name: string;
  readonly instance: string;
  readonly epoch: number;
  readonly slot: number;
  readonly processes: number;
  readonly size: number;
  readonly order: Order;
  readonly onLoss: OnLoss;
  readonly elastic: boolean;
  /** Null for a server that was started by hand. */
  readonly server: SpawnedServer | null;
  host: string;
  port: number;
  pid: number;
  /** Address its registration came from. */
  peer: string;
  /** Resolves when the server has registered, rejects with DsmError when it will not. */
  readonly registered: PromiseWithResolvers<void>;
  running: boolean;
  /** Its server has died. Settles when another has taken over, or nobody has asked for one in time. */
  orphaned: PromiseWithResolvers<void> | null;
}

interface Launch extends Omit<SuccessionRequest, "host" | "port"> {
  predecessor?: "gone" | "silent";
}

export interface TableOptions {
  /** Program and first arguments of `dsm server`. */
  serverCommand: string[];
  /** Variables they are started with, besides those of every program. */
  serverEnvironment: Record<string, string>;
  /** How servers are asked whether they are there. */
  security: Security;
  /** Address its servers listen on. */
  serverHost: string;
  /** "host:port" at which servers find the daemon. */
  daemonAddress(): string;
  /** A line, and the session that it is about. */
  log(line: string, session: string): void;
  /** Called whenever the number of sessions has changed. */
  changed(): void;
}

export class Table {
  readonly #options: TableOptions;
  readonly #entries = new Map<string, Entry>();
  /** Slot to the instance that has its map there. */
  readonly #slots = new Map<number, string>();
  #nextSlot = 0;
  /** Instances of sessions that have ended in good order. */
  readonly #ended = new Set<string>();
  /** Successions that are being looked into, by name. */
  readonly #successions = new Map<string, Promise<Entry | SessionAddress>>();

  constructor(options: TableOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(name: string): Entry | undefined {
    const entry = this.#entries.get(name);
    return entry?.running ? entry : undefined;
  }

  running(): Entry[] {
    return [...this.#entries.values()].filter((entry) => entry.running);
  }

  /** The running session of that name, started if need be. `created`: this call started it. */
  async find(request: FindRequest): Promise<{ entry: Entry; created: boolean }> {
    for (let attempt = 0; attempt < FIND_ATTEMPTS_MAX; attempt++) {
      let entry = this.#entries.get(request.name);
      if (entry?.orphaned) {
        await entry.orphaned.promise;
        continue;
      }
      if (entry?.running && entry.instance === request.after) {
        this.#drop(entry, "was replaced: a process found it ended");
        entry = undefined;
      }
      let created = false;
      if (!entry) {
        entry = this.#start(request);
        created = true;
      }
      await entry.registered.promise;
      if (!created && !entry.server && !(await isListening(entry.host, entry.port))) {
        this.#orphan(entry, "does not listen any more");
      }
      if (entry.orphaned) continue;
      if (this.#entries.get(request.name) !== entry) continue;
      checkSame(entry, request);
      return { entry, created };
    }
    throw new DsmError("DSM_REFUSED", `session "${request.name}" keeps ending while it is looked for; try again`);
  }

  /** A server says where it is. */
  async register(address: SessionAddress & { pid: number; slot: number }, peer: string): Promise<boolean> {
    let entry = this.#entries.get(address.name);
    if (this.#ended.has(address.instance)) {
      throw new DsmError("DSM_ENDED", `session "${address.name}" has ended`);
    }
    // Of two that were started for one epoch, because a daemon did not know of the first, the one it knows stays.
    if (entry?.instance === address.instance && entry.running && entry.epoch === address.epoch) {
      if (entry.pid !== address.pid) throw new DsmError("DSM_ENDED", "another server has taken over");
    }
    if (entry?.instance === address.instance && entry.epoch !== address.epoch) {
      if (entry.epoch > address.epoch) throw new DsmError("DSM_ENDED", "another server has taken over");
      this.#drop(entry, "was replaced by another server");
      entry = undefined;
    }
    if (entry?.orphaned && entry.instance !== address.instance) {
      this.#drop(entry, "was replaced");
      entry = undefined;
    }
    if (entry && entry.instance !== address.instance) {
      const gone = entry.running && !entry.server && !(await isListening(entry.host, entry.port));
      if (gone && this.#entries.get(address.name) === entry) this.#drop(entry, "does not listen any more");
      entry = this.#entries.get(address.name);
      if (entry && entry.instance !== address.instance) {
        throw new DsmError(
          "DSM_MISMATCH",
          `session "${address.name}" is already running at ${entry.host}:${entry.port}; choose another name or end it`,
        );
      }
    }
    const { host, port, pid } = address;
    if (entry) {
      const again = entry.running;
      entry.orphaned?.resolve();
      Object.assign(entry, { host, port, pid, peer, running: true, orphaned: null });
      entry.registered.resolve();
      // It says so again and again.
      if (!again) this.#options.log(`session "${entry.name}" runs on port ${port} (process ${pid})`, entry.name);
      return false;
    }
    this.#checkRoom();
    const { name, instance, epoch, slot, processes, size, order, onLoss, elastic } = address;
    const registered = Promise.withResolvers<void>();
    registered.resolve();
    if (!this.#slots.has(slot)) this.#slots.set(slot, instance);
    this.#entries.set(name, {
      ...{ name, instance, epoch, slot, processes, size, order, onLoss, elastic, host, port, pid, peer, registered },
      ...{ server: null, running: true, orphaned: null },
    });
    this.#options.log(`session "${name}" was started by hand at ${host}:${port} (process ${pid})`, name);
    this.#options.changed();
    return true;
  }

  /** A server takes itself off. False when that instance does not have the name. */
  unregister(name: string, instance: string, epoch: number): boolean {
    const entry = this.#entries.get(name);
    if (entry?.instance !== instance || entry.epoch !== epoch) return false;
    this.#end(instance);
    this.#drop(entry, "has ended");
    return true;
  }

  #end(instance: string): void {
    this.#ended.add(instance);
    for (const oldest of this.#ended) {
      if (this.#ended.size <= ENDED_MAX) break;
      this.#ended.delete(oldest);
    }
  }

  /**
   * The server of a session that somebody cannot reach: the one that is there, or the next one. Invariants: a successor
   * is started only when its predecessor does not answer; there is one for each epoch; and it is told whether its
   * predecessor is known to be gone, without which it goes on only if that one has nobody left to serve.
   */
  succeed(request: SuccessionRequest, hostOf: (entry: Entry) => string): Promise<Entry | SessionAddress> {
    const { name } = request;
    const running = this.#successions.get(name);
    // What was found for another may be older than what this one knows.
    const found = (running?.catch(() => {}) ?? Promise.resolve()).then(() => this.#succeed(request, hostOf));
    const settled = found.finally(() => {
      if (this.#successions.get(name) === settled) this.#successions.delete(name);
    });
    this.#successions.set(name, settled);
    return settled;
  }

  async #succeed(request: SuccessionRequest, hostOf: (entry: Entry) => string): Promise<Entry | SessionAddress> {
    const { name, instance } = request;
    for (let attempt = 0; attempt < FIND_ATTEMPTS_MAX; attempt++) {
      const entry = this.#entries.get(name);
      if (this.#ended.has(instance) || (entry && entry.instance !== instance)) {
        throw new DsmError("DSM_ENDED", `session "${name}" has ended`);
      }
      if (entry && !entry.running && !entry.orphaned) {
        await entry.registered.promise;
        continue;
      }
      const [host, port] = entry ? [hostOf(entry), entry.port] : [request.host, request.port];
      const found = await findServer(host, port, instance, this.#options.security);
      if (this.#entries.get(name) !== entry) continue;
      if (found.state === "there") {
        const { slot: _, ...known } = request;
        return entry ?? { ...known, epoch: found.epoch };
      }
      let certain = found.state === "gone";
      if (!certain && entry?.server) {
        // Our own, and it does not answer: nobody is to be served by it any more.
        entry.server.kill("SIGKILL");
        await entry.server.ended;
        certain = true;
      }
      if (this.#entries.get(name) !== entry) continue;
      const epoch = Math.max(entry?.epoch ?? 0, request.epoch) + 1;
      if (epoch > EPOCH_MAX) throw new DsmError("DSM_LIMIT", `session "${name}" has lost ${EPOCH_MAX} servers`);
      const orphaned = entry?.orphaned;
      if (entry) this.#drop(entry, "has lost its server");
      const successor = this.#launch({ ...request, epoch, predecessor: certain ? "gone" : "silent" });
      orphaned?.resolve();
      await successor.registered.promise;
      return successor;
    }
    throw new DsmError("DSM_REFUSED", `session "${name}" keeps losing its server; try again`);
  }

  /** Its arbiters may ask for another server; whoever looks for the session waits for that, for a while. */
  #orphan(entry: Entry, reason: string): void {
    if (this.#entries.get(entry.name) !== entry || entry.orphaned) return;
    const orphaned = Promise.withResolvers<void>();
    entry.orphaned = orphaned;
    entry.running = false;
    this.#options.log(`session "${entry.name}": its server ${reason}`, entry.name);
    setTimeout(() => {
      if (this.#entries.get(entry.name) === entry && entry.orphaned === orphaned) this.#drop(entry, "has ended");
      orphaned.resolve();
    }, ORPHAN_MS);
  }

  /** Ends the server of that name. False when there is none. `local`: whether an entry's process is on this host. */
  async end(name: string, local: (entry: Entry) => boolean): Promise<boolean> {
    const entry = this.#entries.get(name);
    if (!entry) return false;
    this.#end(entry.instance);
    this.#drop(entry, "was removed");
    if (entry.server) {
      const { server } = entry;
      server.kill("SIGTERM");
      const timer = setTimeout(() => server.kill("SIGKILL"), END_TIMEOUT_MS);
      await server.ended;
      clearTimeout(timer);
    } else if (local(entry) && isServerProcess(entry.pid, name)) {
      process.kill(entry.pid, "SIGTERM");
    }
    return true;
  }

  /** Drops the sessions that were started by hand and whose servers are gone. */
  async sweep(): Promise<void> {
    const byHand = this.running().filter((entry) => entry.server === null);
    await Promise.all(
      byHand.map(async (entry) => {
        if (!(await isListening(entry.host, entry.port))) this.#orphan(entry, "does not listen any more");
      }),
    );
  }

  #start(request: FindRequest): Entry {
    const { name, processes } = request;
    if (processes === undefined) {
      throw new DsmError("DSM_REFUSED", `there is no session "${name}"; say how many processes it has to start it`);
    }
    this.#checkRoom();
    const slot = this.#takeSlot();
    const instance = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex");
    const size = pageRound(request.size ?? DEFAULT_SIZE);
    const order = request.order ?? DEFAULT_ORDER;
    const onLoss = request.onLoss ?? DEFAULT_ON_LOSS;
    const elastic = request.elastic === true;
    return this.#launch({ name, processes, slot, instance, size, order, onLoss, elastic, epoch: 1 });
  }

  /** Starts a server. `predecessor`: it takes over, from one that is known to be gone or does not answer. */
  #launch(launch: Launch): Entry {
    const { name, processes, slot, instance, size, order, onLoss, elastic, epoch, predecessor } = launch;
    const registered = Promise.withResolvers<void>();
    // Whoever waits gets the reason; if nobody does, it is in the log.
    registered.promise.catch(() => {});
    const { serverCommand, serverEnvironment, serverHost, log } = this.#options;
    const options = {
      session: name,
      processes,
      size,
      order,
      "on-loss": onLoss,
      host: serverHost,
      port: 0,
      daemon: this.#options.daemonAddress(),
      instance,
      slot,
      ...(predecessor === undefined ? {} : { epoch, predecessor }),
    };
    let server: SpawnedServer;
    try {
      server = spawnServer(
        [
          ...serverCommand,
          ...Object.entries(options).map(([option, value]) => `--${option}=${value}`),
          ...(elastic ? ["--elastic"] : []),
        ],
        serverEnvironment,
        (line) => log(`session "${name}": ${line}`, name),
      );
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new DsmError("DSM_SYSTEM", `the server of session "${name}" cannot be started: ${reason}`);
    }
    if (!this.#slots.has(slot)) this.#slots.set(slot, instance);
    const entry: Entry = {
      ...{ name, instance, epoch, slot, processes, size, order, onLoss, elastic, server, registered },
      ...{ host: "", port: 0, pid: server.pid, peer: "", running: false, orphaned: null },
    };
    this.#entries.set(name, entry);
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
      const current = this.#entries.get(name);
      if (current === entry && entry.running) this.#orphan(entry, `has ended: ${reason}`);
      else if (current === entry && !entry.orphaned) this.#drop(entry, `has ended: ${reason}`);
      const inUse = this.#entries.get(name)?.instance === instance;
      if (!inUse && this.#slots.get(slot) === instance) this.#slots.delete(slot);
      registered.reject(
        new DsmError("DSM_SYSTEM", `the server of session "${name}" did not start: ${reason.slice(0, 500)}`),
      );
    });
    return entry;
  }

  #drop(entry: Entry, reason: string): void {
    if (this.#entries.get(entry.name) !== entry) return;
    this.#entries.delete(entry.name);
    // A spawned server has its slot until its process is gone.
    const mayRelease = !entry.server || entry.orphaned !== null;
    if (mayRelease && this.#slots.get(entry.slot) === entry.instance) this.#slots.delete(entry.slot);
    this.#options.log(`session "${entry.name}" ${reason}`, entry.name);
    this.#options.changed();
  }

  #checkRoom(): void {
    if (this.#entries.size >= SESSIONS_MAX) {
      throw new DsmError("DSM_LIMIT", `the daemon has ${SESSIONS_MAX} sessions, its limit; end some first`);
    }
  }

  /** Round robin, so that a slot rests as long as possible: a process that left a session keeps its map's addresses. */
  #takeSlot(): number {
    for (let tried = 0; tried < ADDRESS_SLOTS; tried++) {
      const slot = (this.#nextSlot + tried) % ADDRESS_SLOTS;
      if (this.#slots.has(slot)) continue;
      this.#nextSlot = (slot + 1) % ADDRESS_SLOTS;
      return slot;
    }
    throw new DsmError("DSM_LIMIT", `all ${ADDRESS_SLOTS} address slots are taken by running sessions; end some first`);
  }
}

export function summary(entry: Entry, host: string): SessionSummary {
  return { ...address(entry, host), pid: entry.pid, spawned: entry.server !== null };
}

export function address(entry: Entry, host: string): SessionAddress {
  const { name, instance, epoch, port, processes, size, order, onLoss, elastic } = entry;
  return { name, instance, epoch, host, port, processes, size, order, onLoss, elastic };
}

function checkSame(entry: Entry, request: FindRequest): void {
  if (request.processes !== undefined && request.processes !== entry.processes) {
    throw new DsmError(
      "DSM_MISMATCH",
      `session "${entry.name}" has ${entry.processes} processes, not ${request.processes}; ` +
        "all who join must say the same",
    );
  }
  if (request.size !== undefined && pageRound(request.size) !== entry.size) {
    throw new DsmError(
      "DSM_MISMATCH",
      `session "${entry.name}" has a map of ${entry.size} bytes, not ${pageRound(request.size)}; ` +
        "all who join must say the same",
    );
  }
  if (request.order !== undefined && request.order !== entry.order) {
    throw new DsmError(
      "DSM_MISMATCH",
      `session "${entry.name}" has the order ${entry.order}, not ${request.order}; all who join must say the same`,
    );
  }
  if (request.onLoss !== undefined && request.onLoss !== entry.onLoss) {
    throw new DsmError(
      "DSM_MISMATCH",
      `session "${entry.name}" answers a loss with ${entry.onLoss}, not ${request.onLoss}; all who join must say the same`,
    );
  }
  if (request.elastic === true && !entry.elastic) {
    throw new DsmError("DSM_MISMATCH", `session "${entry.name}" is not elastic; its first process has to ask for that`);
  }
}

/** A registration may name any process; only one that plays the server of that session is ever signalled. */
function isServerProcess(pid: number, name: string): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return args.includes(`--session=${name}`) || args[args.indexOf("--session") + 1] === name;
  } catch {
    return false;
  }
}
