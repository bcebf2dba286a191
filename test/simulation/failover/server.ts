/** A server: it orders, or takes over from the one before, and may be stopped or dead. */

import { type Recovered, Recovery } from "../../../src/core/sequencer/recovery.ts";
import { Sequencer } from "../../../src/core/sequencer/sequencer.ts";
import type { DisconnectedMember } from "../../../src/core/sequencer/sequencer-output.ts";
import { At } from "../../../src/core/wire/at.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import type { Node } from "./node.ts";
import { mayFail } from "./refusals.ts";
import { type Link, SIZE, type World } from "./world.ts";

export class Server {
  readonly #world: World;
  readonly epoch: number;
  readonly memory = new Uint8Array(SIZE);
  state: "up" | "stopped" | "dead" = "up";
  core: Sequencer | Recovery;
  readonly links = new Map<number, Link>();
  /** Names of the nodes that are away, by number. */
  readonly away = new Map<number, string>();
  /** Until when they must keep their places. */
  readonly keeps = new Map<number, number>();
  readonly begun_ms: number;
  failed = false;
  /** It has been alone for longer than any node looks for a server. */
  abandoned = false;
  /** Link of the node that is to hand over its state. */
  source = -1;
  #nextLink = 1;

  constructor(world: World, epoch: number, certain: boolean) {
    this.#world = world;
    this.epoch = epoch;
    this.begun_ms = world.now_ms;
    const { config } = world;
    if (epoch === 1) {
      this.core = this.#sequencer(null);
      return;
    }
    this.core = new Recovery({ config, epoch, predecessorIsDead: certain }, this.memory, {
      send: (id, bytes) => {
        if (bytes[At.kind] === Kind.STATE) this.source = id;
        this.#send(id, bytes);
      },
      close: (id) => this.#close(id),
      drop: (id) => this.#close(id),
      waits: () => {},
      stop: () => {},
      failed: (why) => {
        world.say(`server ${epoch} cannot take over: ${why}`);
        if (!mayFail(world, certain)) throw new Violation(`a server could not take over: ${why}`);
        this.failed = true;
        this.state = "dead";
        for (const { down } of this.links.values()) down.end();
      },
      recovered: (recovered, greetings) => {
        world.say(`server ${epoch} goes on behind entry ${recovered.snapshot.seq}`);
        world.log.truncate(this, recovered);
        world.leaveOldServers(this);
        const sequencer = this.#sequencer(recovered);
        this.core = sequencer;
        for (const id of greetings.keys()) sequencer.connect(id);
        for (const [id, greeting] of greetings) sequencer.receive(id, greeting);
      },
    });
  }

  #sequencer(recovered: Recovered | null): Sequencer {
    const out = {
      send: (id: number, bytes: Uint8Array) => this.#send(id, bytes),
      broadcast: (bytes: Uint8Array, _sent?: () => void, except?: number) => {
        if (this.recovering) return;
        for (const link of this.links.values()) {
          if (link.id !== except && this.core.isWelcomed(link.id)) link.down.push(bytes);
        }
      },
      close: (id: number) => this.#close(id),
      drop: (id: number) => this.#close(id),
      welcomed: () => {},
      onDisconnected: (node: number, { process, leaseMs }: DisconnectedMember) => {
        this.away.set(node, process);
        this.keeps.set(node, this.#world.now_ms + leaseMs);
      },
      onReturnedOrEvicted: (node: number) => this.away.delete(node),
      replaced: () => {
        this.#world.report.replaced += 1;
      },
      ended: () => {},
      stop: () => {},
    };
    return new Sequencer(this.#world.config, this.memory, out, { recovered });
  }

  get recovering(): boolean {
    return !(this.core instanceof Sequencer);
  }

  #send(id: number, bytes: Uint8Array): void {
    this.links.get(id)?.down.push(bytes);
  }

  #close(id: number): void {
    this.links.get(id)?.down.end();
    this.links.delete(id);
  }

  accept(node: Node): Link {
    const id = this.#nextLink;
    this.#nextLink += 1;
    const link: Link = {
      ...{ id, server: this, node, silent: false, welcomed: false },
      up: this.#world.pipe(
        `${node.name} to ${this.epoch}`,
        (chunk) => this.core.receive(id, chunk),
        () => this.closed(id),
      ),
      down: this.#world.pipe(
        `${this.epoch} to ${node.name}`,
        (chunk) => node.receives(link, chunk),
        () => node.closed(link),
      ),
    };
    this.links.set(id, link);
    this.core.connect(id);
    return link;
  }

  closed(id: number): void {
    if (!this.links.has(id)) return;
    this.links.get(id)?.down.end();
    this.links.delete(id);
    this.core.disconnect(id);
  }
}
