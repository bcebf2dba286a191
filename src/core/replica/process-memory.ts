/** Memory that a process of this node shares with the arbiter: its shadow of the map, and its staging area. */
import { MapBytes } from "../memory/map-bytes.ts";
import { encode, ProtocolError } from "../wire/frame.ts";
import { Kind } from "../wire/kinds.ts";
import type { Channel } from "./channels.ts";
import type { PageShadows } from "./page-shadows.ts";
import type { NodeProcess } from "./processes.ts";
import type { ReplicaOutput } from "./replica-output.ts";

export class ProcessMemory {
  readonly #shadows: PageShadows;
  readonly #out: ReplicaOutput;

  constructor(shadows: PageShadows, out: ReplicaOutput) {
    this.#shadows = shadows;
    this.#out = out;
  }

  /**
   * Lends memory to the process. The process gets a descriptor of it, so that both ends map the same file without a
   * name for it.
   */
  lend(channel: Channel, process: NodeProcess, tag: number): void {
    if (this.#shadows.has(process)) throw new ProtocolError("memory is asked for while holes use what was given");
    this.takeBack(process);
    const lent = this.#out.lend(channel.index, encode({ kind: Kind.REPLY, tag, aux: 1 }));
    if (lent === null) {
      this.#out.reply(channel.index, encode({ kind: Kind.REPLY, tag }));
      return;
    }
    process.shadow = new MapBytes(lent.shadow);
    process.staging = lent.staging;
  }

  /** Takes the memory back: the process is gone, or gets other memory. */
  takeBack(process: NodeProcess): void {
    for (const memory of [process.shadow?.bytes, process.staging]) if (memory != null) this.#out.unmap(memory);
    process.shadow = null;
    process.staging = null;
  }
}
