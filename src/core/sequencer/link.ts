/** One connection of the server, from the handshake on. */
import { GREETING_FRAME_MAX } from "../base/limits.ts";
import { FrameReader, type PartPool } from "../wire/frame-reader.ts";
import { Borrowed, encodeAccept } from "../wire/shared-parts.ts";
import type { SequencerOutput } from "./output.ts";
import { PublicationAssembler } from "./publication-assembler.ts";

export class Link {
  readonly id: number;
  readonly reader: FrameReader;
  readonly publications: PublicationAssembler;
  /** Memory of the peer in which parts lie. */
  readonly borrowed = new Borrowed();
  /** -1 until it is welcomed as a node. */
  node = -1;
  /** Its processes are to come back when the session has ended. */
  waitsForEnd = false;

  constructor(id: number, pool: PartPool, mapSize: number) {
    this.id = id;
    this.reader = new FrameReader(GREETING_FRAME_MAX, pool);
    this.publications = new PublicationAssembler(pool, mapSize);
  }

  /** Takes a SHARE frame: the peer, on our host, offers memory, or has mapped what it was offered. Throws ProtocolError. */
  handleShare(view: DataView, at: number, out: SequencerOutput, pool: PartPool): void {
    const sharing = out.sharing?.(this.id) ?? null;
    const heard = this.borrowed.heard(sharing, view, at);
    if (heard === "borrows") out.borrows?.(this.id);
    if (heard !== "lends" || sharing === null) return;
    out.send(this.id, encodeAccept());
    const offer = pool.offer(sharing);
    if (offer !== null) out.send(this.id, offer);
  }

  /** Nothing more comes from it. */
  close(): void {
    this.publications.close();
    this.reader.end();
    this.borrowed.close();
  }
}
