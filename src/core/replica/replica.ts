/**
 * Replica: the arbiter's logic, without I/O. Applies log entries to this node's copy of the map, forwards its
 * processes' requests as proposals, and replies to each request once its entry has been applied locally.
 *
 * The connection to the server may break and come back: entry-stream.ts, proposals.ts, log-position.ts say what holds then.
 */
import { Status } from "../base/errors.ts";
import { formatRanks } from "../base/ranks.ts";
import { type ApplyRuns, MapBytes } from "../memory/map-bytes.ts";
import type { ResumeReply, ResumeRequest, Welcome } from "../messages/node-handshake.ts";
import { welcomeIncludesMap } from "../messages/session-state.ts";
import { Activity } from "../observe/activity.ts";
import type { Effects } from "../session/effects.ts";
import { Session } from "../session/session.ts";
import { At, FutexWaitAt } from "../wire/at.ts";
import { CELLS_SIZE } from "../wire/cell-layout.ts";
import { encode, encodeText, ProtocolError } from "../wire/frame.ts";
import { PartPool } from "../wire/frame-reader.ts";
import { Kind, NO_TAG } from "../wire/kinds.ts";
import { type Answer, CellDecisions } from "./cells/cell-decisions.ts";
import type { Leases } from "./cells/leases.ts";
import { type Channel, ChannelTable, requestTag } from "./channels.ts";
import { DirectModeExit } from "./direct-mode-exit.ts";
import { EntryApplier } from "./entry-applier.ts";
import { EntryStream } from "./entry-stream.ts";
import { Joins } from "./joins.ts";
import { LogPosition } from "./log-position.ts";
import type { UploadPace } from "./map-upload.ts";
import { PageShadows } from "./page-shadows.ts";
import { ProcessMemory } from "./process-memory.ts";
import { ReplyWriter } from "./process-replies.ts";
import { type NodeProcess, ProcessTable } from "./processes.ts";
import { Proposals } from "./proposals.ts";
import { PublicationIntake } from "./publications.ts";
import type { ReplicaOutput } from "./replica-output.ts";
import { Requests } from "./requests.ts";
import { StoreBufferMap } from "./store-buffer-map.ts";
import { StoreQueue } from "./store-queue.ts";
import type { Ring } from "./store-ring.ts";

/** The state on which a replica works. */
export interface ReplicaOptions {
  nodeName: string;
  /** Where processes find the map. */
  mapPath: string;
  memory: Uint8Array;
  /** One byte for each page, set once an atomic operation was executed in that page. */
  atomics: Uint8Array;
  /** CELLS_SIZE bytes that the processes share (replica/cells). Left out: they send a request each time. */
  cells?: Uint8Array;
  /** The store ring of a session whose order uses one. */
  ring?: Ring | null;
  /** A faster implementation of MapBytes.publish(). */
  applyRuns?: ApplyRuns | null;
  /** Pool of the memory that receivePart() takes over. */
  parts?: PartPool;
}

export class Replica {
  readonly session: Session;
  readonly #out: ReplicaOutput;
  readonly #entries: EntryStream;
  readonly #position: LogPosition;
  readonly #applier: EntryApplier;
  readonly #channels = new ChannelTable();
  readonly #processes = new ProcessTable();
  readonly #proposals: Proposals;
  readonly #publications: PublicationIntake;
  readonly #replies: ReplyWriter;
  readonly #queue: StoreQueue;
  readonly #exit: DirectModeExit;
  readonly #joins: Joins;
  readonly #requests: Requests;
  readonly #cells: CellDecisions;

  constructor(welcome: Welcome, out: ReplicaOutput, options: ReplicaOptions) {
    const { nodeName, mapPath, atomics, ring = null, applyRuns = null, parts: pool = new PartPool() } = options;
    const { cells = new Uint8Array(CELLS_SIZE) } = options;
    const { node, base, epoch, starts, snapshot } = welcome;
    const { size } = snapshot.config;
    const includesMap = welcomeIncludesMap(snapshot);
    const overlay = ring === null ? null : new StoreBufferMap(options.memory, applyRuns);
    const memory = overlay ?? new MapBytes(options.memory, applyRuns);
    const propose = (frame: Uint8Array): void => this.#propose(frame);
    const processes = this.#processes;
    const channels = this.#channels;
    const proposals = new Proposals(out, pool);
    const replies = new ReplyWriter(out);
    const entries = new EntryStream(size, base, includesMap, pool);
    const position = new LogPosition(node, base, epoch, starts, snapshot.phase === "joining" || includesMap);
    const queue = new StoreQueue(
      ring === null || overlay === null ? null : { ring, map: overlay },
      size,
      node,
      processes,
      proposals,
      (tag) => this.#reply(tag, Status.OK, 0),
    );
    const activity = new Activity(size, out.now_ms());
    activity.load(snapshot, welcome.activity);
    const effects = this.#effects(node, activity);
    const shadows = new PageShadows(memory, (isActive) => {
      effects.wantsWrites = isActive;
      // Only log entries reach a shadow, so stores must wait for their place in the log meanwhile.
      if (isActive) queue.disable("shadows");
      else queue.enable("shadows");
    });
    effects.onWrite = (offset, length) => shadows.onWrite(offset, length);
    const session = Session.fromState(snapshot, memory, effects);
    session.node = node;
    const publications = new PublicationIntake(node, size, proposals, pool, out);
    const onBegin = (): void => this.#cells.takeAll();
    const exit = new DirectModeExit({ node, memory, processes, proposals, out, propose, onBegin });
    const lent = new ProcessMemory(shadows, out);
    const common = { node, session, queue, exit, replies, shadows, memory: lent, out, propose };
    this.session = session;
    this.#out = out;
    this.#entries = entries;
    this.#position = position;
    this.#proposals = proposals;
    this.#publications = publications;
    this.#replies = replies;
    this.#queue = queue;
    this.#exit = exit;
    const decide = (view: DataView, frame: Uint8Array): void => this.#decide(view, frame);
    const wakeCell = (at: number): void => out.wakeCell(at);
    const reply = (...[tag, status, aux, value]: Answer): void => this.#reply(tag, status, aux, value);
    const drainQueue = (): void => void queue.drain();
    const add = (view: DataView, frame: Uint8Array): void => proposals.add(view, frame);
    const send = (frame: Uint8Array): void => out.propose(frame);
    const host = { session, processes, exit, decide, reply, wakeCell, drainQueue, propose: add, send };
    this.#cells = new CellDecisions(cells, host);
    this.#joins = new Joins({ ...common, nodeName, mapPath, channels, processes });
    this.#requests = new Requests({ ...common, joins: this.#joins, publications });
    this.#applier = new EntryApplier({
      node,
      session,
      activity,
      memory,
      atomics,
      entries,
      position,
      proposals,
      queue,
      pool,
      onExitRequested: () => this.#joins.beginExit(),
      onAsked: () => this.#cells.report(),
      onReturnRequested: () => this.#cells.leases.recallAll(),
      onRenewed: (askedAt) => this.#cells.leases.onRenewed(askedAt),
    });
  }

  #effects(ours: number, activity: Activity): Effects {
    return {
      wantsWrites: false,
      onWrite: () => {},
      onReply: (node, tag, { status, aux, value, old }) => {
        activity.onReply(node, tag);
        if (node === ours && !this.#cells.holdsBack(tag, status, aux, value)) this.#reply(tag, status, aux, value, old);
      },
      onRankAssigned: (node, tag, rank) => {
        activity.onRankAssigned(rank);
        if (node === ours) this.#joins.onRankAssigned(tag, rank);
      },
      onProcessGone: (node, rank) => {
        activity.onProcessGone(rank);
        if (node === ours) this.#joins.onProcessGone(rank);
      },
      onLease: (name, node) => {
        if (node === ours) this.#cells.leases.onLease(name);
      },
      onRecall: (name, node) => {
        if (node === ours) this.#cells.leases.onRecall(name);
      },
      onEnd: () => {},
    };
  }

  /** Must be called before an entry is applied, and before the state is handed over. */
  #tellTime(): void {
    this.#applier.clock = this.#out.now_ms();
  }

  /** Whether the bytes of the map have arrived: no process is admitted before. */
  get ready(): boolean {
    return !this.#entries.awaitsMap;
  }

  /** Whether a process ever came. */
  get hadProcess(): boolean {
    return this.#processes.hadProcess;
  }

  /** How fast the map is uploaded when direct mode ends. */
  protected set uploadPace(pace: UploadPace) {
    this.#exit.pace = pace;
  }

  /** After how many posts those that wait for a semaphore are sent back to its cell. */
  protected set postsToSendBack(posts: number) {
    if (this.#cells !== null) this.#cells.postsToSendBack = posts;
  }

  // --- The server --------------------------------------------------------------------------------------------------

  /**
   * Receives entries from the server. Throws ProtocolError when they are not the log: the replica is then of no use.
   */
  receiveEntries(chunk: Uint8Array): void {
    this.#tellTime();
    this.#applier.receive(chunk);
    this.#afterEvent();
  }

  /**
   * Receives a part of a publication: a whole frame between those of receiveEntries(), in memory that the replica owns
   * from now on.
   */
  receivePart(frame: Uint8Array<ArrayBuffer>): void {
    this.#applier.receivePart(frame);
  }

  /** This node's position in the log, for a server that may not know it. */
  get position(): ResumeRequest {
    return this.#applier.resumeRequest(this.#processes.anyRanked);
  }

  /** The last entry received from the server. */
  get confirmed(): number {
    return this.#entries.confirmed;
  }

  /** Bytes of all entries that this node has ever retained for others. */
  get retainedBytes(): number {
    return this.#position.retained.total;
  }

  /** Promises to follow no server of an older epoch. False: the node has already promised a newer one. */
  promise(epoch: number): boolean {
    return this.#position.promise(epoch);
  }

  /** The STATE frames with all that a server needs to take over. */
  state(): Generator<Uint8Array> {
    this.#tellTime();
    return this.#applier.state();
  }

  /** The locks that are leased to this node. The owner must renew() them, and retire() before it gives up its place. */
  get leases(): Leases {
    return this.#cells.leases;
  }

  /** Bytes of proposals that have not come back. */
  get bytesInFlight(): number {
    return this.#proposals.bytesInFlight;
  }

  /** The connection to the server is broken: drops incomplete frames, which the server sends again. */
  interrupted(): void {
    this.#entries.reset();
    this.#exit.isPaused = true;
  }

  /**
   * Resumes after a server has accepted this node again: proposes once more what the server has not ordered. Throws
   * ProtocolError.
   */
  resumed(reply: ResumeReply): void {
    this.#tellTime();
    this.#applier.resumed(reply);
    this.#cells.leases.reconnected();
    this.#exit.isPaused = false;
    this.#exit.restartUpload();
    this.#afterEvent();
  }

  // --- The store queue ---------------------------------------------------------------------------------------------

  /** Proposes the stores that processes have queued. Returns how many. Throws ProtocolError: the ring is corrupt. */
  drainQueue(): number {
    return this.#queue.drain();
  }

  /** Whether processes expect drainQueue() to be called without the doorbell. */
  get isAwake(): boolean {
    return this.#queue.isAwake;
  }

  /** Makes a process that queues a store from now on ring the doorbell. False: a store has arrived meanwhile. */
  sleep(): boolean {
    return this.#queue.sleep();
  }

  // --- Channels of this node's processes ---------------------------------------------------------------------------

  /** A new connection. Returns its number, or -1: too many, close it. */
  connect(): number {
    return this.#channels.open()?.index ?? -1;
  }

  isGreeted(index: number): boolean {
    return this.#channels.get(index)?.process != null;
  }

  /** Whether the end of the channel is the end of a process that is in the session. */
  isOfRunning(index: number): boolean {
    const channel = this.#channels.get(index);
    return channel?.process?.state === "running" && channel.isMainOf(channel.process);
  }

  receive(index: number, chunk: Uint8Array): void {
    const channel = this.#channels.get(index);
    if (channel === undefined || !channel.isOpen) return;
    this.#tellTime();
    // Stores that a process has queued come before its request.
    this.#queue.drain();
    this.#guarded(channel, () =>
      channel.reader.push(chunk, (view, at, size, bytes) => {
        if (channel.isOpen) this.#requests.receive(channel, view, at, size, bytes);
      }),
    );
    // In direct mode the requests are decided by now.
    this.#afterEvent();
  }

  /** On ProtocolError, replies FAIL with the reason and closes the channel. */
  #guarded(channel: Channel, work: () => void): void {
    const { index } = channel;
    try {
      work();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#out.reply(index, encode({ kind: Kind.FAIL, op: error.status, body: encodeText(error.message) }));
      this.#out.close(index);
      this.disconnect(index);
    }
  }

  /** The connection is closed. Its number is reused once no reply in flight can be for it. */
  disconnect(index: number): void {
    const channel = this.#channels.get(index);
    if (channel === undefined || !channel.isOpen) return;
    this.#tellTime();
    channel.isOpen = false;
    const { process } = channel;
    if (process !== null) {
      this.#publications.abortAll(channel, process);
      process.channels.delete(index);
      if (channel.isMainOf(process)) this.#processEnded(process);
    }
    this.#channels.releaseIfIdle(channel);
    this.#afterEvent();
  }

  #processEnded(process: NodeProcess): void {
    for (const index of [...process.channels]) {
      this.#out.close(index);
      this.disconnect(index);
    }
    this.#queue.drain();
    process.isDead = true;
    if (process.state === "left") this.#processes.remove(process);
    else if (process.rank >= 0 && process.state !== "leaving") this.#joins.leave(process, true);
  }

  /**
   * Proposes an operation. In direct mode this node is the only proposer, so it knows what the log will be: it decides
   * at once, and the server follows. Proposals made before direct mode began come back first.
   */
  #propose(frame: Uint8Array): void {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const { session } = this;
    // A node that waits for another node's direct mode to end decides nothing.
    const isDirect = session.direct && this.#processes.anyRanked;
    // The server has no copy of the map to compare with: a FUTEX_WAIT whose value differs never becomes an operation.
    if (isDirect && view.getUint8(At.kind) === Kind.FUTEX_WAIT) {
      if (!session.equalsMap(view, 0)) {
        this.#reply(view.getUint32(At.tag, true), Status.AGAIN, 0);
        return;
      }
      view.setUint8(FutexWaitAt.isCompared, 1);
    }
    if (!isDirect || !this.#proposals.allDecided) {
      this.#cells.leases.beforeProposal(view.getUint8(At.kind), view);
      this.#proposals.add(view, frame);
      return;
    }
    this.#cells.decide(view.getUint8(At.kind), view, frame);
  }

  #decide(view: DataView, frame: Uint8Array): void {
    this.#proposals.add(view, frame);
    this.#applier.applyDecided(view, frame);
  }

  /** Replies to a process of this node: its operation has been applied or refused at its place in the log. */
  #reply(tag: number, status: Status, aux: number, value = 0, old: DataView | null = null): void {
    if (tag === NO_TAG) return;
    const cell = this.#cells.answered(tag);
    const channel = this.#channels.ofTag(tag);
    if (channel === undefined) return;
    channel.requests -= 1;
    const { process } = channel;
    if (!channel.isOpen) {
      this.#channels.releaseIfIdle(channel);
      if (process !== null) this.#joins.onDeadAnswered(process);
    } else if (process?.state === "joining") {
      this.#joins.reply(channel, process, status, aux);
    } else if (status === Status.OK) {
      this.#replies.ok(channel.index, requestTag(tag), this.session.seq, value === 0 ? cell : value, old);
    } else if (status === Status.TIMEOUT && aux > 0 && process !== null) {
      const missing = this.#cells.missingInBarrier(process.rank);
      const text = `${formatRanks(missing)} ${missing.length === 1 ? "was" : "were"} not in the barrier`;
      this.#replies.error(channel.index, requestTag(tag), status, aux, text);
    } else {
      this.#replies.error(channel.index, requestTag(tag), status, aux, undefined, value);
    }
  }

  /** Records in the log how many barriers processes have passed by themselves; once a second. Returns whether any. */
  notePassedBarriers(): boolean {
    return this.#cells.notePassedBarriers();
  }

  // --- After each event --------------------------------------------------------------------------------------------

  #advanceExit(): void {
    if (!this.#processes.anyRanked) return;
    const deferred = this.#exit.advance();
    if (deferred === null) return;
    this.#queue.enable("direct mode");
    for (const { channel, frame } of deferred) {
      if (!channel.isOpen) continue;
      const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
      this.#guarded(channel, () => this.#requests.receive(channel, view, 0, frame.length, frame));
    }
  }

  /** Runs after every event: advances the exit from direct mode, then checks for the end. */
  #afterEvent(): void {
    this.#advanceExit();
    this.#cells.leases.settle();
    if (this.#joins.closeIfDone()) this.#out.done();
  }
}
