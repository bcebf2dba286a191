/**
 * PartExchange: how parts of large publications go over one connection: as references into memory that both ends have
 * mapped, once each end has offered its memory and the other has accepted it; else as whole frames.
 */
import type { PartPool } from "../core/wire/frame-reader.ts";
import { encodeAccept, PeerParts, type Sharing } from "../core/wire/shared-parts.ts";

export class PartExchange {
  readonly #pool: PartPool;
  /** Null: no memory can be shared with this peer. */
  readonly #sharing: Sharing | null;
  /** Memory of the peer in which its parts lie. */
  readonly #peerParts = new PeerParts();
  /** The peer has mapped the arbiter's memory. */
  #peerMappedOurs = false;

  constructor(pool: PartPool, sharing: Sharing | null) {
    this.#pool = pool;
    this.#sharing = sharing;
  }

  /** The frame that offers the arbiter's memory; null: there is none to offer. */
  offer(): Uint8Array | null {
    return this.#sharing === null ? null : this.#pool.offer(this.#sharing);
  }

  /** Handles the SHARE frame at `at`. Returns the frame to answer with, or null. Throws ProtocolError. */
  handleShare(view: DataView, at: number): Uint8Array | null {
    const outcome = this.#peerParts.handleShare(this.#sharing, view, at);
    if (outcome === "peer-mapped-us") this.#peerMappedOurs = true;
    return outcome === "mapped-peer" ? encodeAccept() : null;
  }

  /** The frame to send instead of the part, or null: the part itself must be sent. */
  reference(part: Uint8Array): Uint8Array | null {
    return this.#peerMappedOurs ? this.#pool.reference(part) : null;
  }

  /** Copies the part that the reference at `at` names. Null: the peer has reused its memory. Throws ProtocolError. */
  copy(view: DataView, at: number): Uint8Array<ArrayBuffer> | null {
    return this.#peerParts.copy(view, at, this.#pool);
  }

  give(part: Uint8Array<ArrayBuffer>): void {
    this.#pool.give(part);
  }

  /** The connection is gone. */
  close(): void {
    this.#peerParts.close();
  }
}
