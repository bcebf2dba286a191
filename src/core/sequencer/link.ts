/** One connection of the server, from the handshake on. */
import { GREETING_FRAME_MAX } from "../base/limits.ts";
import { FrameReader, type PartPool } from "../wire/frame-reader.ts";
import { PeerParts } from "../wire/shared-parts.ts";
import { PublicationAssembler } from "./publication-assembler.ts";

export class Link {
  readonly id: number;
  readonly reader: FrameReader;
  readonly publications: PublicationAssembler;
  /** Memory of the peer in which its parts lie. */
  readonly peerParts = new PeerParts();
  /** -1 until it is welcomed as a node. */
  node = -1;
  /** The node's processes must join again when the session has ended. */
  waitsForEnd = false;

  constructor(id: number, pool: PartPool, mapSize: number) {
    this.id = id;
    this.reader = new FrameReader(GREETING_FRAME_MAX, pool);
    this.publications = new PublicationAssembler(pool, mapSize);
  }

  /** Closes the link: no more frames come from it. */
  close(): void {
    this.publications.close();
    this.reader.end();
    this.peerParts.close();
  }
}
