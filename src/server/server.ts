/**
 * `dsm server`: the shell of the sequencer. It carries bytes between connections and the core, and decides nothing.
 *
 *     epoch 1: sequencing ----------------------------------> finishing ----> closed
 *     later:   recovering ----> sequencing
 *
 * While it recovers, a Recovery has the connections; then a Sequencer gets them, with their handshakes. While it is
 * finishing, the nodes still get all entries.
 */
import { randomBytes } from "node:crypto";
import { mustProve, OPEN, type Security, type Tls } from "../core/access/auth.ts";
import { DsmError, Status } from "../core/base/errors.ts";
import {
  DEFERRED_BROADCAST_MS,
  LINKS_MAX,
  OUTBOX_MAX,
  UNUSED_AGAIN_TIMEOUT_MS,
  UNUSED_TIMEOUT_MS,
} from "../core/base/limits.ts";
import { serverSocketName } from "../core/base/names.ts";
import { formatSize } from "../core/base/size.ts";
import type { ApplyRuns } from "../core/memory/map-bytes.ts";
import type { SavedSession } from "../core/messages/saved-session.ts";
import { settingsOf } from "../core/messages/session-settings.ts";
import { type Recovered, Recovery, type RecoveryConfig } from "../core/sequencer/recovery.ts";
import { Sequencer } from "../core/sequencer/sequencer.ts";
import type { SequencerOutput } from "../core/sequencer/sequencer-output.ts";
import { encode, encodeText } from "../core/wire/frame.ts";
import { PartPool } from "../core/wire/frame-reader.ts";
import { Kind } from "../core/wire/kinds.ts";
import { STAGED_PER_MAP_BYTE } from "../core/wire/runs.ts";
import type { Sharing } from "../core/wire/shared-parts.ts";
import { hasEnded, isContained, isInside } from "../transport/own-process.ts";
import { systemClock } from "./clock.ts";
import type { Connection } from "./connection.ts";
import { Connections } from "./connections.ts";
import { GracePeriods } from "./grace-periods.ts";
import { Listeners } from "./listeners.ts";
import { ReaderSender } from "./reader-sender.ts";
import { RecoveryTimers } from "./recovery-timers.ts";
import { Registration } from "./registration.ts";
import { type ServerOptions, sessionConfig, slotOf } from "./server-options.ts";

export interface Server {
  host: string;
  port: number;
  /** Settles when the session has ended and all nodes have been told, with the exit code. */
  ended: Promise<number>;
  stop(): void;
  /** Uses that certificate for new connections; existing ones stay. */
  useTls(tls: Tls): void;
}

/** Starts the server of a session. Throws DsmError when an option is invalid, the port is taken or memory is short. */
export async function startServer(options: ServerOptions): Promise<Server> {
  const { security = OPEN } = options;
  const config = sessionConfig(options);
  const epoch = options.epoch ?? 1;
  const server = new ServerShell({
    known: { config, epoch, predecessorIsDead: options.predecessor !== "silent" },
    memory: options.restore?.map ?? allocate(config.size),
    saved: options.restore?.image ?? null,
    connectionsMax: options.connectionsMax ?? LINKS_MAX,
    applyRuns: options.applyRuns ?? null,
    sharing: options.sharing ?? null,
    isOwnPeer: options.isOwnPeer ?? null,
  });
  const { host } = options;
  const port = server.listen(host, options.port, security);
  let registration: Registration | undefined;
  if (options.directory !== null) {
    const { elastic = false } = config;
    const registered = {
      ...settingsOf({ ...config, elastic }),
      ...{ name: config.name, instance: config.instance, epoch, host, port },
      pid: process.pid,
      mark: randomBytes(8).toString("hex"),
      slot: slotOf(options),
    };
    try {
      registration = await Registration.begin(options.directory, registered, () => server.replaced());
    } catch (error) {
      server.stop();
      throw error;
    }
  }
  if (options.endUnused === true) server.endUnused();
  // The session is over even if the daemon is gone: then it has no entry to remove.
  const removed = server.over.then((isOurs) => registration?.end(isOurs));
  const ended = server.ended.then(async (code) => {
    await removed;
    return code;
  });
  return { host, port, ended, stop: () => server.stop(), useTls: (tls) => server.useTls(tls) };
}

function allocate(size: number): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch {
    throw new DsmError(
      "DSM_NO_MEMORY",
      `no memory for a map of ${formatSize(size)}; choose a smaller --size, or lift the limit of the address space (ulimit -v)`,
    );
  }
}

interface ShellOptions {
  known: RecoveryConfig;
  memory: Uint8Array;
  /** The state with which a new session begins. */
  saved: SavedSession | null;
  connectionsMax: number;
  applyRuns: ApplyRuns | null;
  sharing: Sharing | null;
  isOwnPeer: ((socket: object) => boolean) | null;
}

class ServerShell {
  readonly #options: ShellOptions;
  /** Settles when all nodes have been told of the end. */
  readonly #ended = Promise.withResolvers<number>();
  /** Settles when this server has no more work. False: the session continues with another server. */
  readonly #over = Promise.withResolvers<boolean>();
  readonly #parts = new PartPool();
  readonly #listeners: Listeners<Connection>;
  readonly #connections: Connections;
  readonly #readers = new ReaderSender(() => this.#sequencer);
  readonly #gracePeriods: GracePeriods;
  /** Null while the server recovers. */
  #sequencer: Sequencer | null = null;
  #recovering: { recovery: Recovery; timers: RecoveryTimers } | null = null;
  /** Runs while the broadcast of an entry is deferred. */
  #deferTimer: Timer | undefined;
  #isFinishing = false;
  #isClosed = false;
  #endsUnused = false;
  #unusedTimer: Timer | undefined;

  constructor(options: ShellOptions) {
    this.#options = options;
    const { known, memory, saved, connectionsMax, isOwnPeer } = options;
    this.#connections = new Connections({
      connectionsMax,
      // The backlog allowed for a connection: one largest publication comes on top, because it is sent as a whole.
      outboxLimit: OUTBOX_MAX + memory.length * STAGED_PER_MAP_BYTE,
      parts: this.#parts,
      events: {
        connect: (id) => this.#core.connect(id),
        receive: (connection, chunk) => this.#receive(connection, chunk),
        onDrain: (connection) => this.#readers.serve(connection),
        onClose: (connection) => this.#onClose(connection),
        isWelcomed: (id) => this.#core.isWelcomed(id),
        afterEvent: () => this.#afterEvent(),
      },
    });
    const usesTls = (): boolean => this.#listeners.usesTls;
    this.#listeners = new Listeners((isLocal) => this.#connections.handlers(isLocal ? isOwnPeer : null, usesTls));
    this.#gracePeriods = new GracePeriods({
      clock: systemClock,
      hasEnded,
      evict: (node) => {
        this.#tellTime();
        this.#sequencer?.evict(node);
        this.#afterEvent();
      },
    });
    if (known.epoch > 1) {
      this.#recover();
    } else {
      this.#sequencer = this.#sequence(null);
      if (saved !== null) this.#sequencer.session.adopt(saved);
    }
  }

  get ended(): Promise<number> {
    return this.#ended.promise;
  }

  get over(): Promise<boolean> {
    return this.#over.promise;
  }

  get #core(): Sequencer | Recovery {
    return (this.#sequencer ?? this.#recovering?.recovery) as Sequencer | Recovery;
  }

  // --- The core ----------------------------------------------------------------------------------------------------

  /** Waits for the nodes of the session, then continues from the most up-to-date of them. */
  #recover(): void {
    const { known, memory } = this.#options;
    const output = {
      ...this.#toConnections(),
      waits: (reconnectMs: number) => this.#recovering?.timers.waitAtLeast(reconnectMs),
      failed: () => this.#close(true),
      recovered: (recovered: Recovered, handshakes: Map<number, Uint8Array>) => this.#takeOver(recovered, handshakes),
    };
    const recovery = new Recovery(known, memory, output, systemClock.now_ms());
    this.#recovering = { recovery, timers: new RecoveryTimers(recovery, systemClock) };
  }

  #takeOver(recovered: Recovered, handshakes: Map<number, Uint8Array>): void {
    this.#recovering?.timers.stop();
    this.#recovering = null;
    const sequencer = this.#sequence(recovered);
    this.#sequencer = sequencer;
    // Connect all links first: the effects of one handshake may concern any of them.
    for (const id of handshakes.keys()) sequencer.connect(id);
    for (const [id, handshake] of handshakes) sequencer.receive(id, handshake);
    if (sequencer.session.phase === "ended") this.#onEnd();
    this.#afterEvent();
  }

  #sequence(recovered: Recovered | null): Sequencer {
    const { known, memory, applyRuns } = this.#options;
    return new Sequencer(known.config, memory, this.#output(), {
      applyRuns,
      recovered,
      now_ms: systemClock.now_ms(),
      parts: this.#parts,
    });
  }

  #toConnections(): Pick<SequencerOutput, "send" | "close" | "drop" | "stop"> {
    return {
      send: (id, bytes) => this.#connections.get(id)?.send(bytes),
      close: (id) => this.#connections.get(id)?.closeWhenSent(),
      drop: (id) => this.#connections.get(id)?.terminate(),
      // Deferred until the bytes that ask for it have been handled.
      stop: () => setImmediate(() => this.stop()),
    };
  }

  #output(): SequencerOutput {
    return {
      ...this.#toConnections(),
      broadcast: (bytes, onSent, except) => this.#connections.broadcast(bytes, onSent, except),
      sharing: (id) => (this.#connections.get(id)?.isLocal === true ? this.#options.sharing : null),
      onPeerMapped: (id) => {
        const connection = this.#connections.get(id);
        if (connection !== undefined) connection.peerMapsParts = true;
      },
      welcomed: (id, heartbeatMs) =>
        this.#connections.welcome(id, heartbeatMs, () => {
          this.#tellTime();
          this.#sequencer?.sendHeartbeat(id);
        }),
      detains: (leaver, others) => isContained && isInside(leaver) && !others.every(isInside),
      onDisconnected: (node, member) => this.#gracePeriods.start(node, member),
      onReturnedOrEvicted: (node) => this.#gracePeriods.stop(node),
      replaced: () => this.replaced(),
      ended: () => this.#onEnd(),
    };
  }

  #tellTime(): void {
    this.#core.clock = systemClock.now_ms();
  }

  // --- Connections -------------------------------------------------------------------------------------------------

  /** Returns the port. Throws DsmError. */
  listen(host: string, port: number, security: Security): number {
    this.#connections.token = mustProve(security, host) ? security.token : null;
    const actual = this.#listeners.listen(host, port, security.tls);
    const { known, isOwnPeer } = this.#options;
    if (isOwnPeer !== null) this.#listeners.listenLocal(serverSocketName(known.config.instance, known.epoch, actual));
    return actual;
  }

  useTls(tls: Tls): void {
    this.#listeners.useTls(tls);
  }

  #receive(connection: Connection, chunk: Uint8Array): void {
    this.#tellTime();
    this.#core.receive(connection.id, chunk);
    this.#readers.serve(connection);
  }

  #onClose({ id, isWelcomed }: Connection): void {
    this.#tellTime();
    this.#core.disconnect(id);
    if (this.#endsUnused && isWelcomed && this.#sequencer?.hadProcess === false) {
      this.endUnused(UNUSED_AGAIN_TIMEOUT_MS);
    }
  }

  /** Runs after every event: applies backpressure, and checks for the end. */
  #afterEvent(): void {
    // The retained log is full while a member is disconnected: the connected nodes wait.
    this.#connections.regulate(this.#sequencer?.full ?? false);
    this.#broadcastLater();
    if (!this.#isFinishing || this.#sequencer?.awaited !== false) return;
    this.#sequencer.sendTrace(false);
    if (this.#connections.hasSentAll) this.#close(true);
  }

  /** Sets a limit to the time for which the broadcast of an entry is deferred. */
  #broadcastLater(): void {
    if (this.#deferTimer !== undefined || this.#sequencer?.hasDeferred !== true) return;
    this.#deferTimer = setTimeout(() => {
      this.#deferTimer = undefined;
      this.#sequencer?.flush();
      this.#afterEvent();
    }, DEFERRED_BROADCAST_MS);
  }

  // --- The end -----------------------------------------------------------------------------------------------------

  /** The session has ended: closes the server once all nodes have all entries. */
  #onEnd(): void {
    this.#isFinishing = true;
    this.#over.resolve(true);
  }

  /** Ends the server if no process has come after `timeoutMs` and no node is connected. */
  endUnused(timeoutMs: number = UNUSED_TIMEOUT_MS): void {
    this.#endsUnused = true;
    clearTimeout(this.#unusedTimer);
    this.#unusedTimer = setTimeout(() => {
      if (this.#sequencer?.hadProcess === false && this.#connections.areAllUnproven) this.stop();
    }, timeoutMs);
  }

  /** Ends the session for all nodes, which then look for no other server. */
  stop(): void {
    if (this.#isClosed) return;
    const why = encodeText(
      `session "${this.#options.known.config.name}" was ended by dsm remove, or by a signal to its server; ` +
        "start its processes again for a new session",
    );
    this.#connections.sendToNodes(encode({ kind: Kind.FAIL, op: Status.UNREACHABLE, body: why }));
    this.#close(true);
  }

  /** The session continues with another server: ends this one without telling the nodes anything. */
  replaced(): void {
    if (this.#isClosed) return;
    this.#connections.terminate();
    this.#close(false);
  }

  #close(isOurs: boolean): void {
    this.#isClosed = true;
    this.#recovering?.timers.stop();
    clearTimeout(this.#deferTimer);
    clearTimeout(this.#unusedTimer);
    this.#listeners.stop();
    this.#gracePeriods.stopAll();
    this.#connections.end();
    this.#over.resolve(isOurs);
    this.#ended.resolve(0);
  }
}
