/**
 * The map of a node whose own stores run ahead of the order (`pipelined`).
 *
 * A process puts a store in the node's ring and into the map at once; it gets its place in the order later. Until then
 * what the order says of those bytes is kept here, beside the map. Invariants, for every byte of the map:
 *
 * - no store of this node pending on it: the map holds what the order says;
 * - some pending: the map holds the value of the newest of them, and `ordered` what the order says.
 *
 * So a remote entry never overwrites a byte that has a later store of this node pending, and the byte follows the order
 * again with the entry of the last one. It is the store buffer of x86-TSO (Owens, Sarkar and Sewell, TPHOLs 2009), one for
 * the node: what its processes have stored they all see first.
 *
 * Whoever calls add(), or a method that changes the map, holds the ring's lock or has no processes that store.
 */
import { MapBytes } from "./memory.ts";
import { type AtomicOp, ProtocolError } from "./protocol.ts";

const LINE = 64;

export class OverlayMap extends MapBytes {
  /** Lines of which some byte has a store pending, and the slot of each. */
  readonly #lines = new Map<number, number>();
  readonly #free: number[] = [];
  #slots = 0;
  /** By slot: what the order says, and how many stores are pending, of each byte; and pending bytes of the line. */
  #ordered = new Uint8Array(0);
  #pending = new Uint16Array(0);
  #totals = new Uint32Array(0);
  readonly #scratch = new DataView(new ArrayBuffer(16));
  /** What store() and publish() are given is an entry of this node's own, counted in by add() before. */
  settles = false;

  /** Lines of 64 bytes in which stores are pending. */
  get pendingLines(): number {
    return this.#lines.size;
  }

  /**
   * A store that is in the map (or will be, before anybody can look): `old` is what the map held before it. As all that
   * is pending is in the ring, and no run of a record takes less than 24 bytes of it, 16 bits count the stores of a byte.
   */
  add(offset: number, length: number, old: Uint8Array, oldAt: number): void {
    const end = offset + length;
    for (let from = offset; from < end; ) {
      const line = Math.floor(from / LINE);
      const next = Math.min(end, (line + 1) * LINE);
      const slot = this.#slotFor(line);
      let fresh = 0;
      for (let at = slot * LINE + (from % LINE), source = oldAt + from - offset, n = next - from; n > 0; n -= 1) {
        const pending = this.#pending[at] as number;
        if (pending === 0) {
          this.#ordered[at] = old[source] as number;
          fresh += 1;
        }
        this.#pending[at] = pending + 1;
        at += 1;
        source += 1;
      }
      this.#totals[slot] = (this.#totals[slot] as number) + fresh;
      from = next;
    }
  }

  #slotFor(line: number): number {
    const known = this.#lines.get(line);
    if (known !== undefined) return known;
    const slot = this.#free.pop() ?? this.#slots;
    if (slot === this.#slots) this.#grow();
    this.#lines.set(line, slot);
    return slot;
  }

  #grow(): void {
    this.#slots += 1;
    if (this.#slots <= this.#totals.length) return;
    const room = Math.max(64, 2 * this.#totals.length);
    const grown = <T extends Uint8Array | Uint16Array | Uint32Array>(to: T, from: T): T => {
      to.set(from);
      return to;
    };
    this.#ordered = grown(new Uint8Array(room * LINE), this.#ordered);
    this.#pending = grown(new Uint16Array(room * LINE), this.#pending);
    this.#totals = grown(new Uint32Array(room), this.#totals);
  }

  /** Completes what a process that died has put in the ring but maybe not in the map. */
  redo(offset: number, source: DataView, from: number, length: number): void {
    super.store(offset, source, from, length);
  }

  override store(offset: number, source: DataView, from: number, length: number): void {
    if (this.settles) this.#settle(offset, source, from, length);
    else if (this.#lines.size === 0) super.store(offset, source, from, length);
    else this.#storeLines(offset, source, from, length);
  }

  /** The entry of a pending store: the order has caught up with it. The map holds it, or a later one, already. */
  #settle(offset: number, source: DataView, from: number, length: number): void {
    const end = offset + length;
    for (let to = offset; to < end; ) {
      const line = Math.floor(to / LINE);
      const next = Math.min(end, (line + 1) * LINE);
      const slot = this.#lines.get(line);
      if (slot === undefined) throw neverPending();
      let done = 0;
      for (let at = slot * LINE + (to % LINE), n = next - to; n > 0; n -= 1) {
        const pending = this.#pending[at] as number;
        if (pending === 0) throw neverPending();
        this.#ordered[at] = source.getUint8(from + next - n - offset);
        this.#pending[at] = pending - 1;
        if (pending === 1) done += 1;
        at += 1;
      }
      const total = (this.#totals[slot] as number) - done;
      this.#totals[slot] = total;
      if (total === 0) {
        this.#lines.delete(line);
        this.#free.push(slot);
      }
      to = next;
    }
  }

  /** A store of another node: line by line, past the bytes that have a later store pending. */
  #storeLines(offset: number, source: DataView, from: number, length: number): void {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const line = Math.floor(at / LINE);
      const next = Math.min(end, (line + 1) * LINE);
      const slot = this.#lines.get(line);
      if (slot === undefined) super.store(at, source, from + at - offset, next - at);
      else this.#storeAround(slot, at, source, from + at - offset, next - at);
      at = next;
    }
  }

  /** Within one line. Each aligned word of the map is written by one store, so that it is never seen half new. */
  #storeAround(slot: number, offset: number, source: DataView, from: number, length: number): void {
    const scratch = this.#scratch;
    const end = offset + length;
    for (let word = offset - (offset % 8); word < end; word += 8) {
      scratch.setBigUint64(0, this.view.getBigUint64(word, true), true);
      for (let at = Math.max(word, offset); at < Math.min(word + 8, end); at += 1) {
        const value = source.getUint8(from + at - offset);
        const place = slot * LINE + (at % LINE);
        if (this.#pending[place] === 0) scratch.setUint8(at - word, value);
        else this.#ordered[place] = value;
      }
      this.view.setBigUint64(word, scratch.getBigUint64(0, true), true);
    }
  }

  protected override get isPlain(): boolean {
    return !this.settles && this.#lines.size === 0;
  }

  protected override storeMaskedWord(offset: number, mask: number, source: DataView, from: number): number {
    if (this.settles) throw new Error("overlay: a masked run is never queued");
    const slot = this.#lines.get(Math.floor(offset / LINE));
    if (slot === undefined) return super.storeMaskedWord(offset, mask, source, from);
    const scratch = this.#scratch;
    scratch.setBigUint64(0, this.view.getBigUint64(offset, true), true);
    let next = from;
    for (let byte = 0; byte < 8; byte += 1) {
      if (((mask >> byte) & 1) === 0) continue;
      const place = slot * LINE + ((offset + byte) % LINE);
      if (this.#pending[place] === 0) scratch.setUint8(byte, source.getUint8(next));
      else this.#ordered[place] = source.getUint8(next);
      next += 1;
    }
    this.view.setBigUint64(offset, scratch.getBigUint64(0, true), true);
    return next;
  }

  override atomic(
    op: AtomicOp,
    width: number,
    offset: number,
    source: DataView,
    from: number,
    old: DataView,
    oldAt: number,
  ): void {
    if (!this.#isPending(offset, width)) {
      super.atomic(op, width, offset, source, from, old, oldAt);
      return;
    }
    const place = new MapBytes(this.ordered(offset, width));
    place.atomic(op, width, 0, source, from, old, oldAt);
    this.#storeLines(offset, place.view, 0, width);
  }

  override equals(offset: number, length: number, source: DataView, from: number): boolean {
    if (!this.#isPending(offset, length)) return super.equals(offset, length, source, from);
    return new MapBytes(this.ordered(offset, length)).equals(0, length, source, from);
  }

  override zero(offset: number, length: number): void {
    const end = offset + length;
    const lines = [...this.#lines.keys()].filter((line) => line * LINE < end && (line + 1) * LINE > offset);
    lines.sort((a, b) => a - b);
    const zeros = new DataView(new ArrayBuffer(LINE));
    let at = offset;
    for (const line of lines) {
      const first = Math.max(at, line * LINE);
      const next = Math.min(end, (line + 1) * LINE);
      super.zero(at, first - at);
      this.#storeLines(first, zeros, 0, next - first);
      at = next;
    }
    super.zero(at, end - at);
  }

  #isPending(offset: number, length: number): boolean {
    if (this.#lines.size === 0) return false;
    for (let line = Math.floor(offset / LINE); line * LINE < offset + length; line += 1) {
      if (this.#lines.has(line)) return true;
    }
    return false;
  }

  /** A copy of what the order says. */
  ordered(offset: number, length: number): Uint8Array {
    const copy = new Uint8Array(this.bytes.subarray(offset, offset + length));
    const restore = (line: number, slot: number): void => {
      const first = Math.max(offset, line * LINE);
      const end = Math.min(offset + length, (line + 1) * LINE);
      for (let at = first; at < end; at += 1) {
        const place = slot * LINE + (at % LINE);
        if (this.#pending[place] !== 0) copy[at - offset] = this.#ordered[place] as number;
      }
    };
    if (this.#lines.size * LINE < length) {
      for (const [line, slot] of this.#lines) restore(line, slot);
    } else {
      for (let line = Math.floor(offset / LINE); line * LINE < offset + length; line += 1) {
        const slot = this.#lines.get(line);
        if (slot !== undefined) restore(line, slot);
      }
    }
    return copy;
  }
}

const neverPending = (): ProtocolError =>
  new ProtocolError("an entry of the order is damaged: this node has not queued it");
