/**
 * EntryDelivery: hands the entries of one connection to their receiver, and keeps those that came before there was one.
 *
 *     early (frames are kept) ----> following (frames are handed on) ----> deaf (frames are dropped)
 *
 * Invariants: the receiver gets every frame once, in sequence; after one that it cannot take it gets no more.
 */
import { ACK_BYTES } from "../core/base/limits.ts";
import { ProtocolError } from "../core/wire/frame.ts";

/**
 * Bytes of entries after which garbage is collected. Each part of a publication leaves small objects behind, of which
 * the collector would otherwise let megabytes accumulate.
 */
const COLLECT_BYTES = 32 << 20;

/** EntryReceiver: receives the entries: the replica. It throws ProtocolError when they are not the log. */
export interface EntryReceiver {
  /** Entries in sequence, whole frames or pieces of them as they came; valid during the call only. */
  receiveEntries(bytes: Uint8Array): void;
  /** One whole frame among them, a part of a large publication; its memory is the receiver's from then on. */
  receivePart(frame: Uint8Array<ArrayBuffer>): void;
  /** The last entry received. */
  readonly confirmed: number;
  /** Bytes of all entries received, and those that a publication of this node has in other parts. */
  readonly retainedBytes: number;
}

/** What the delivery tells the owner of the connection. */
export interface DeliveryEvents {
  /** Entries were received. */
  afterEvent(): void;
  /** The receiver threw: it cannot follow this log, and gets no more entries. */
  onDamage(error: ProtocolError): void;
}

export class EntryDelivery {
  readonly #collectGarbage: () => void;
  #following: { receiver: EntryReceiver; events: DeliveryEvents } | null = null;
  /** Frames that came before follow(). */
  readonly #early: Uint8Array[] = [];
  #isDeaf = false;
  /** Bytes of entries acknowledged, and their number when garbage was last collected. */
  #acknowledgedBytes = 0;
  #collectedBytes = 0;

  constructor(collectGarbage: () => void) {
    this.#collectGarbage = collectGarbage;
  }

  get isFollowed(): boolean {
    return this.#following !== null;
  }

  /** Passes the entries to the receiver from now on, those first that came before. May call the events at once. */
  follow(receiver: EntryReceiver, events: DeliveryEvents): void {
    this.#following = { receiver, events };
    for (const frames of this.#early.splice(0)) this.entries(frames);
  }

  /** Drops all further entries: the node is leaving, cannot follow, or has another connection. */
  stop(): void {
    this.#isDeaf = true;
  }

  /** Delivers entries; `bytes` is valid during the call only. */
  entries(bytes: Uint8Array): void {
    const following = this.#following;
    if (following === null) this.#early.push(new Uint8Array(bytes));
    else if (!this.#isDeaf && this.#guard(() => following.receiver.receiveEntries(bytes))) {
      following.events.afterEvent();
    }
  }

  /** Delivers a part. False: it was copied or dropped, and its memory is the caller's again. */
  part(part: Uint8Array<ArrayBuffer>): boolean {
    const following = this.#following;
    if (following === null) this.#early.push(new Uint8Array(part));
    if (following === null || this.#isDeaf) return false;
    this.#guard(() => following.receiver.receivePart(part));
    return true;
  }

  /** Whether so much was received since the last acknowledgement that it is time for the next. */
  get needsAcknowledgement(): boolean {
    return (this.#following?.receiver.retainedBytes ?? 0) - this.#acknowledgedBytes >= ACK_BYTES;
  }

  /** The last entry received, which is acknowledged now. */
  acknowledge(): number {
    const receiver = this.#following?.receiver;
    this.#acknowledgedBytes = receiver?.retainedBytes ?? 0;
    if (this.#acknowledgedBytes - this.#collectedBytes >= COLLECT_BYTES) {
      this.#collectedBytes = this.#acknowledgedBytes;
      this.#collectGarbage();
    }
    return receiver?.confirmed ?? 0;
  }

  /** Runs the work. False: the receiver cannot follow this log. */
  #guard(work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#isDeaf = true;
      this.#following?.events.onDamage(error);
      return false;
    }
  }
}
