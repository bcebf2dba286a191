/** A node: its replica, its connection to a server if it has one, and its processes. What src/arbiter does, in short. */
import { Status } from "../../../src/core/base/errors.ts";
import { FRAME_MAX, WELCOME_MAX } from "../../../src/core/base/limits.ts";
import type { NodeHello, ResumeReply, Welcome } from "../../../src/core/messages/node-handshake.ts";
import type { Replica } from "../../../src/core/replica/replica.ts";
import type { ReplicaOutput } from "../../../src/core/replica/replica-output.ts";
import { At, FailAt, HEADER_SIZE } from "../../../src/core/wire/at.ts";
import { bodyText, encode, encodeJson } from "../../../src/core/wire/frame.ts";
import { FrameReader } from "../../../src/core/wire/frame-reader.ts";
import { encodeHandshake } from "../../../src/core/wire/handshake.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { SmallSteps, Violation } from "../../support/core-cluster.ts";
import { showFrame } from "../../support/core-trace.ts";
import { hear } from "./actors.ts";
import { GateCell } from "./gate.ts";
import { mayRefuse } from "./refusals.ts";
import type { Server } from "./server.ts";
import { type Link, type Process, SIZE, type World } from "./world.ts";

export class Node {
  readonly #world: World;
  readonly name: string;
  readonly memory = new Uint8Array(SIZE);
  readonly secret: string;
  readonly gate = new GateCell();
  replica: Replica | null = null;
  link: Link | null = null;
  /** It has applied nothing yet. */
  fresh = true;
  /** "severed": it goes on without a connection, and finds no server any more. "gone": its server was lost while it sent the map, before any process had joined. */
  state: "alive" | "dead" | "refused" | "severed" | "done" | "gone" = "alive";
  readonly processes: Process[] = [];
  #reader = new FrameReader(WELCOME_MAX);
  /** The state it hands over, as far as it was not sent. */
  #handing: Generator<Uint8Array> | null = null;

  constructor(world: World, name: string) {
    this.#world = world;
    this.name = name;
    this.secret = `secret of ${name}`;
  }

  get number(): number {
    return this.replica?.position.node ?? -1;
  }

  connect(server: Server): void {
    const hello: NodeHello = {
      ...{ session: "simulated", node: this.name, processes: 0, size: 0, order: "" as const, onLoss: "" as const },
      ...{ secret: this.secret, reconnectMs: 1000, heartbeatMs: 0, process: this.name },
      resume: this.replica?.position ?? null,
    };
    this.#reader = new FrameReader(WELCOME_MAX);
    this.#handing = null;
    this.#world.say(`${this.name} turns to server ${server.epoch}`);
    this.link = server.accept(this);
    this.link.up.push(encodeHandshake(Kind.HELLO, encodeJson(hello)));
  }

  receives(link: Link, chunk: Uint8Array): void {
    if (link !== this.link || this.state !== "alive") return;
    this.#reader.push(chunk, (view, at, size, bytes) => {
      if (link !== this.link || this.state !== "alive") return;
      this.#frame(link, view, at, size, bytes);
    });
  }

  #frame(link: Link, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const kind = view.getUint8(at + At.kind);
    const text = bodyText(bytes, at + HEADER_SIZE, view.getUint32(at + At.length, true));
    if (kind === Kind.FAIL) {
      this.#refused(view.getUint8(at + FailAt.status) as Status, text);
    } else if (link.welcomed) {
      this.replica?.receiveEntries(bytes.subarray(at, at + size));
    } else if (kind === Kind.STATE) {
      this.#handing = (this.replica as Replica).state();
    } else if (kind === Kind.WELCOME) {
      link.welcomed = true;
      this.#reader.limit = FRAME_MAX;
      if (this.replica === null) {
        this.#welcomed(JSON.parse(text) as Welcome);
      } else {
        this.#world.report.resumed += 1;
        this.replica.resumed(JSON.parse(text) as ResumeReply);
      }
    } else if (kind !== Kind.PING) {
      throw new Violation(`${this.name} got a frame of kind ${kind} in place of its welcome`);
    }
  }

  #refused(status: Status, text: string): void {
    const { link } = this;
    if (status === Status.AGAIN) {
      link?.up.end();
      this.cut();
      return;
    }
    if (this.state === "done") return;
    if (!mayRefuse(this.#world, this, link as Link)) throw new Violation(`${this.name} is refused: ${text}`);
    this.#world.lose(this, "refused");
  }

  #welcomed(welcome: Welcome): void {
    const { makeReplica } = this.#world.options;
    const make = makeReplica ?? ((...args) => new SmallSteps(...args));
    this.#world.say(`${this.name} is welcomed behind entry ${welcome.snapshot.seq}`);
    const out: ReplicaOutput = {
      propose: (bytes) => {
        if (this.link?.welcomed === true) this.link.up.push(bytes);
      },
      reply: (channel, bytes) => hear(this.#world, this, channel, new Uint8Array(bytes)),
      close: () => {},
      now_ms: () => 0,
      token: () => new Uint8Array(8),
      ...{ lend: () => null, unmap: () => {}, wakeCell: () => {} },
      done: () => {
        if (this.state === "alive") this.#done();
      },
    };
    this.replica = make(welcome, out, {
      nodeName: this.name,
      mapPath: "/map",
      memory: this.memory,
      atomics: new Uint8Array(2),
      cells: this.gate.memory,
    });
    if (!this.replica.ready) this.#world.report.pictures += 1;
    const { session } = this.replica;
    const apply = session.apply.bind(session);
    session.apply = (view, at) => {
      this.#world.log.applies(this, session.seq + 1, view, at);
      apply(view, at);
    };
  }

  /** Its last process has left: it tells the server and ends. */
  #done(): void {
    this.state = "done";
    this.link?.up.push(encode({ kind: Kind.PING, op: 1 }));
    this.link?.up.end();
    this.link = null;
  }

  /** Hands over one piece of what a server that takes over wants. */
  hand(): boolean {
    const piece = this.#handing?.next();
    if (piece === undefined || piece.done) return false;
    this.link?.up.push(piece.value);
    return true;
  }

  closed(link: Link): void {
    link.up.end();
    if (link === this.link) this.cut();
  }

  /** It is without connection from here on. */
  cut(): void {
    this.#world.say(`${this.name} is without connection`);
    this.link = null;
    this.#handing = null;
    this.replica?.interrupted();
    // src/arbiter/arbiter.ts gives up, too: no process has joined there.
    if (this.replica?.ready === false) this.state = "gone";
  }

  /** Asks the server, as long as it has leases, whether it still has its place. */
  renew(): void {
    const { now_ms } = this.#world;
    const { replica } = this;
    if (replica?.leases.mustRenew !== true) return;
    replica.leases.renew({ monotonic_ms: now_ms, real_ms: now_ms }, replica.confirmed);
  }

  say(channel: number, frame: Uint8Array): void {
    this.#world.say(`a process of ${this.name} asks on channel ${channel}: ${showFrame(frame)}`);
    this.replica?.receive(channel, frame);
  }
}
