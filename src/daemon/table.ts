/** The table of sessions: who has which name, starting a server for a name nobody has, and noticing those that died. */
import { readFileSync } from "node:fs";
import type { FindRequest, SessionAddress, SessionSummary } from "../core/directory.ts";
import { DsmError } from "../core/errors.ts";
import { ADDRESS_SLOTS, DEFAULT_SIZE, SESSIONS_MAX } from "../core/limits.ts";
import { DEFAULT_ON_LOSS, type OnLoss } from "../core/loss.ts";
import { DEFAULT_ORDER, type Order } from "../core/order.ts";
import { pageRound } from "../core/size.ts";
import { isListening } from "./link.ts";
import { type SpawnedServer, spawnServer } from "./spawn.ts";

/** A server must have registered this long after its start. */
export const START_TIMEOUT_MS = 15_000;
/** A server that was told to end is killed after this long. */
const END_TIMEOUT_MS = 3_000;
/** A find that keeps meeting sessions that end while it looks gives up after this many. */
const FIND_ATTEMPTS_MAX = 16;

export interface Entry {
  readonly name: string;
  readonly instance: string;
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
}

export interface TableOptions {
  /** Program and first arguments of `dsm server`. */
  serverCommand: string[];
  /** Variables they are started with, besides those of every program. */
  serverEnvironment: Record<string, string>;
  /** Address its servers listen on. */
  serverHost: string;
  /** "host:port" at which servers find the daemon. */
  daemonAddress(): string;
  log(line: string): void;
  /** Called whenever the number of sessions has changed. */
  changed(): void;
}

export class Table {
  readonly #options: TableOptions;
  readonly #entries = new Map<string, Entry>();
  /** Slot to the instance that has its map there. */
  readonly #slots = new Map<number, string>();
  #nextSlot = 0;

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
        this.#drop(entry, "does not listen any more");
      }
      if (this.#entries.get(request.name) !== entry) continue;
      checkSame(entry, request);
      return { entry, created };
    }
    throw new DsmError("DSM_REFUSED", `session "${request.name}" keeps ending while it is looked for; try again`);
  }

  /** A server says where it is. */
  async register(address: SessionAddress & { pid: number; slot: number }, peer: string): Promise<boolean> {
    let entry = this.#entries.get(address.name);
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
      Object.assign(entry, { host, port, pid, peer, running: true });
      entry.registered.resolve();
      this.#options.log(`session "${entry.name}" runs on port ${port} (process ${pid})`);
      return false;
    }
    this.#checkRoom();
    const { name, instance, slot, processes, size, order, onLoss, elastic } = address;
    const registered = Promise.withResolvers<void>();
    registered.resolve();
    if (!this.#slots.has(slot)) this.#slots.set(slot, instance);
    this.#entries.set(name, {
      ...{ name, instance, slot, processes, size, order, onLoss, elastic, host, port, pid, peer, registered },
      server: null,
      running: true,
    });
    this.#options.log(`session "${name}" was started by hand at ${host}:${port} (process ${pid})`);
    this.#options.changed();
    return true;
  }

  /** A server takes itself off. False when that instance does not have the name. */
  unregister(name: string, instance: string): boolean {
    const entry = this.#entries.get(name);
    if (entry?.instance !== instance) return false;
    this.#drop(entry, "has ended");
    return true;
  }

  /** Ends the server of that name. False when there is none. `local`: whether an entry's process is on this host. */
  async end(name: string, local: (entry: Entry) => boolean): Promise<boolean> {
    const entry = this.#entries.get(name);
    if (!entry) return false;
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
        if (!(await isListening(entry.host, entry.port))) this.#drop(entry, "does not listen any more");
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
        (line) => log(`session "${name}": ${line}`),
      );
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new DsmError("DSM_SYSTEM", `the server of session "${name}" cannot be started: ${reason}`);
    }
    this.#slots.set(slot, instance);
    const entry: Entry = {
      ...{ name, instance, slot, processes, size, order, onLoss, elastic, server, registered },
      ...{ host: "", port: 0, pid: server.pid, peer: "", running: false },
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
      if (this.#slots.get(slot) === instance) this.#slots.delete(slot);
      if (this.#entries.get(name) === entry) this.#drop(entry, `has ended: ${reason}`);
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
    if (!entry.server && this.#slots.get(entry.slot) === entry.instance) this.#slots.delete(entry.slot);
    this.#options.log(`session "${entry.name}" ${reason}`);
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
  const { name, instance, port, processes, size, order, onLoss, elastic } = entry;
  return { name, instance, host, port, processes, size, order, onLoss, elastic };
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
