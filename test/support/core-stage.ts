/**
 * Plays the conversations in test/core/scenarios: a line is something a process or a node does, and the lines behind
 * it that begin with ">" are what comes of it, in order. README.txt beside them says what the lines mean.
 */

import { DEFAULT_ORDER, type Order } from "../../src/core/base/consistency.ts";
import { Status } from "../../src/core/base/errors.ts";
import { DEFAULT_ON_LOSS, type OnLoss } from "../../src/core/base/loss-policy.ts";
import { isObjectText, type NamedObject, objectName, objectText } from "../../src/core/base/names.ts";
import type { NodeHello } from "../../src/core/messages/node-handshake.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { CELL_FREE, CELL_OWNED, LOCK_CELLS_AT, NAMED_CELL_SIZE } from "../../src/core/wire/cell-layout.ts";
import { bodyText, encode, encodeText, type Frame, getUint64 } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { AtomicOp, ChangeOp, Kind } from "../../src/core/wire/kinds.ts";
import { JOINED } from "../../src/core/wire/process-hello.ts";
import { type Channel, Cluster, type Node, type Pipe, processHello } from "./core-cluster.ts";
import { publication, type Run, viewOf } from "./core-frames.ts";

/** A process, or a further channel of one. */
interface Actor {
  name: string;
  channel: Channel;
  pid: number;
  rank: number;
  token: Uint8Array;
  nextTag: number;
  /** What each tag under way was, for people. */
  asked: Map<number, string>;
  shadow: Uint8Array | null;
}

const statusName = (status: number): string =>
  Object.entries(Status).find(([, number]) => number === status)?.[0] ?? `status ${status}`;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
/** "mutex@64" and "semaphore@64" name objects in the map. */
const nameOf = (word: string): string => {
  const [object, offset] = word.split("@");
  return offset === undefined ? word : objectName(object as NamedObject, Number(offset));
};
const OBJECT_KINDS: Record<string, number> = { ...{ mutex: 1, semaphore: 2, condition: 3, rwlock: 4, barrier: 5 } };
const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));

export class Stage {
  readonly #cluster: Cluster;
  readonly #nodes = new Map<string, Node>();
  readonly #actors = new Map<string, Actor>();
  readonly #strangers = new Map<string, Pipe>();
  readonly #held = new Set<string>();
  #effects: string[] = [];
  #nextPid = 101;

  constructor(
    processes: number,
    size: number,
    order: Order = DEFAULT_ORDER,
    onLoss: OnLoss = DEFAULT_ON_LOSS,
    elastic = false,
  ) {
    this.#cluster = new Cluster(
      { name: "demo", instance: "0123456789abcdef", processes, size, base: 0x2000_0000_0000, order, onLoss, elastic },
      {
        onEnded: () => this.#say("the session has ended"),
        lend: (channel) => {
          const actor = [...this.#actors.values()].find((one) => one.channel === channel);
          return actor === undefined ? null : { shadow: this.#sibling(actor)?.shadow as Uint8Array };
        },
      },
    );
  }

  #say(effect: string): void {
    this.#effects.push(effect);
  }

  /** Does what one line says and returns what came of it. */
  play(line: string): string[] {
    const words = line.trim().split(/\s+/);
    const verb = words.shift() as string;
    this.#effects = [];
    this.#act(verb, words);
    this.#cluster.settle((pipe) => this.#held.has(pipe.name));
    return this.#effects;
  }

  #act(verb: string, words: string[]): void {
    const first = (): string => {
      const word = words.shift();
      if (word === undefined) throw new Error(`"${verb}" lacks a word`);
      return word;
    };
    /** The value behind a key word, as in "wish 2". */
    const option = (key: string): string | undefined => {
      const at = words.indexOf(key);
      return at < 0 ? undefined : words[at + 1];
    };
    const number = (key: string, otherwise: number): number => Number(option(key) ?? otherwise);
    switch (verb) {
      case "node": {
        const name = first();
        this.#node(name, {
          session: option("session") ?? "demo",
          node: option("named") ?? name,
          processes: number("expects", 0),
          size: number("size", 0),
          order: (option("order") ?? "") as Order | "",
          onLoss: (option("onloss") ?? "") as OnLoss | "",
          elastic: words.includes("elastic"),
        });
        return;
      }
      case "lose":
        this.#nodeOf(first()).lose();
        return;
      case "hold":
        this.#held.add(words.join(" "));
        return;
      case "release":
        this.#held.delete(words.join(" "));
        return;
      case "deliver":
        this.#deliver(words.slice(0, -1).join(" "), Number(words.at(-1)));
        return;
      case "join": {
        const name = first();
        const node = this.#nodeOf(option("on") ?? "");
        const actor = this.#actor(name, node);
        const wishes = {
          rank: number("wish", -1),
          processes: number("expects", 0),
          size: number("size", 0),
          order: (option("order") ?? "") as Order | "",
          onLoss: (option("onloss") ?? "") as OnLoss | "",
          elastic: words.includes("elastic"),
          noDirect: words.includes("ordered"),
        };
        actor.asked.set(0, "join");
        actor.channel.up.push(processHello(option("session") ?? "demo", actor.pid, wishes));
        return;
      }
      case "attach": {
        const name = first();
        const owner = this.#actorOf(option("to") ?? "");
        const actor = this.#actor(name, owner.channel.node, owner.pid);
        actor.rank = number("rank", owner.rank);
        const token = owner.token.slice();
        if (words.includes("badly")) token[7]! ^= 1;
        actor.asked.set(0, "attach");
        actor.channel.up.push(encodeHandshake(Kind.ATTACH, token, { rank: actor.rank }));
        return;
      }
      case "stranger": {
        const name = first();
        const node = option("on");
        if (node !== undefined) {
          this.#actor(name, this.#nodeOf(node));
          return;
        }
        const say = (chunk: Uint8Array): void => this.#strangerHears(name, chunk);
        this.#strangers.set(
          name,
          this.#cluster.link(name, say, () => this.#say(`${name}: closed`)),
        );
        return;
      }
      case "send":
        this.#send(first(), words);
        return;
      case "load": {
        const memory = first();
        const offset = Number(first());
        this.#say(hex(this.#memoryOf(memory).subarray(offset, offset + Number(first()))));
        return;
      }
      case "write": {
        // In direct mode the process has the node's memory itself.
        const { node } = this.#actorOf(first()).channel;
        node.memory.set(unhex(words[1] ?? ""), Number(words[0]));
        return;
      }
      case "marks":
        this.#say(
          `pages with atomics: ${[...this.#nodeOf(first()).atomics.entries()].flatMap(([page, mark]) => (mark === 0 ? [] : page)).join(" ") || "none"}`,
        );
        return;
      case "compare":
        this.#compare();
        return;
      case "scribble": {
        const actor = this.#actorOf(first());
        actor.shadow?.set(unhex(words[1] ?? ""), Number(words[0]));
        return;
      }
      case "close":
        this.#actorOf(first()).channel.up.end();
        return;
      case "crash": {
        // The kernel closes what the process had open; what it had sent still arrives.
        const actor = this.#actorOf(first());
        for (const other of this.#actors.values()) if (other.pid === actor.pid) other.channel.up.end();
        return;
      }
      case "status":
        this.#status();
        return;
      default:
        this.#operation(verb, first(), words, option);
    }
  }

  #operation(verb: string, name: string, words: string[], option: (key: string) => string | undefined): void {
    const actor = this.#actorOf(name);
    const word = (at: number): string => {
      const value = words[at];
      if (value === undefined) throw new Error(`"${verb}" lacks a word`);
      return value;
    };
    const initial = { aux: Number(option("initial") ?? (words[0]?.includes("@") ? 0 : 1)) };
    switch (verb) {
      case "store":
        this.#ask(actor, { kind: Kind.STORE, offset: Number(word(0)), body: unhex(word(1)) }, "store");
        return;
      case "atomic": {
        const op = AtomicOp[word(0).toUpperCase() as keyof typeof AtomicOp];
        const body = new Uint8Array(32);
        body.set(unhex(words[2] ?? ""), 0);
        body.set(unhex(words[3] ?? ""), 16);
        const length = unhex(words[2] ?? "").length;
        this.#ask(actor, { kind: Kind.ATOMIC, op, length, offset: Number(word(1)), body }, `atomic ${word(0)}`);
        return;
      }
      case "part":
      case "publish": {
        const list: Run[] = [];
        for (let at = 0; at < words.length; at += 2) list.push([Number(word(at)), unhex(word(at + 1))]);
        // All parts of a publication have the tag of the first.
        if (verb === "part") {
          actor.channel.up.push(encode({ ...publication(list), op: 1, tag: actor.nextTag }));
          return;
        }
        this.#ask(actor, publication(list), "publish");
        return;
      }
      case "barrier":
        this.#ask(actor, { kind: Kind.BARRIER }, "barrier");
        return;
      case "wait":
      case "try": {
        const op = verb === "try" ? 1 : 0;
        const body = encodeText(nameOf(word(0)));
        this.#ask(actor, { kind: Kind.SEM_WAIT, op, body, ...initial }, `${verb} ${word(0)}`);
        return;
      }
      case "post":
      case "create": {
        const offset = verb === "post" ? 1 : 0;
        const body = encodeText(nameOf(word(0)));
        this.#ask(actor, { kind: Kind.SEM_POST, offset, body, ...initial }, `${verb} ${word(0)}`);
        return;
      }
      case "lock":
      case "trylock":
      case "unlock": {
        const kind = verb === "unlock" ? Kind.UNLOCK : Kind.LOCK;
        const op = verb === "trylock" || words.includes("unmended") ? 1 : 0;
        this.#ask(actor, { kind, op, body: encodeText(nameOf(word(0))) }, `${verb} ${word(0)}`);
        return;
      }
      case "condwait": {
        const body = encodeText(nameOf(word(1)));
        this.#ask(actor, { kind: Kind.COND_WAIT, offset: Number(word(0)), body }, `condwait ${word(0)}`);
        return;
      }
      case "signal": {
        const aux = words[1] === "all" ? 0xffffffff : Number(words[1] ?? 1);
        this.#ask(actor, { kind: Kind.COND_SIGNAL, offset: Number(word(0)), aux }, "signal");
        return;
      }
      case "rdlock":
      case "tryrdlock":
      case "wrlock":
      case "trywrlock": {
        const [op, aux] = [verb.startsWith("try") ? 1 : 0, verb.includes("wr") ? 1 : 0];
        this.#ask(actor, { kind: Kind.RW_LOCK, op, aux, offset: Number(word(0)) }, `${verb} ${word(0)}`);
        return;
      }
      case "rwunlock": {
        const op = words.includes("unmended") ? 1 : 0;
        this.#ask(actor, { kind: Kind.RW_UNLOCK, op, offset: Number(word(0)) }, `${verb} ${word(0)}`);
        return;
      }
      case "arrive":
        this.#ask(actor, { kind: Kind.ARRIVE, offset: Number(word(0)), aux: Number(word(1)) }, `arrive ${word(0)}`);
        return;
      case "init": {
        const op = OBJECT_KINDS[word(0)] ?? Number(word(0));
        const aux = Number(words[2] ?? 0);
        this.#ask(actor, { kind: Kind.OBJECT_INIT, op, offset: Number(word(1)), aux }, `init ${word(0)} ${word(1)}`);
        return;
      }
      case "grab":
      case "drop": {
        const { node } = actor.channel;
        const cell = node.knownCells.get(word(0)) ?? -1;
        const at = LOCK_CELLS_AT + cell * NAMED_CELL_SIZE;
        const owned = CELL_OWNED + actor.rank;
        const [from, to] = verb === "grab" ? [CELL_FREE, owned] : [owned, CELL_FREE];
        this.#say(`${name}: ${verb} ${word(0)} ${cell >= 0 && node.cells.swap(at, from, to) ? "done" : "impossible"}`);
        return;
      }
      case "alloc":
      case "named": {
        const [name, size] = verb === "named" ? [word(0), word(1)] : ["", word(0)];
        const kind = verb === "named" ? Kind.NAMED : Kind.ALLOC;
        const frame = { kind, offset: Number(size), aux: Number(option("align") ?? 8), body: encodeText(name) };
        this.#ask(actor, frame, name === "" ? "alloc" : `named ${name}`);
        return;
      }
      case "free":
        this.#ask(actor, { kind: Kind.FREE, offset: Number(word(0)) }, "free");
        return;
      case "sleep": {
        const value = unhex(word(1));
        const body = new Uint8Array(8);
        body.set(value);
        this.#ask(actor, { kind: Kind.FUTEX_WAIT, offset: Number(word(0)), length: value.length, body }, "sleep");
        return;
      }
      case "wake":
        this.#ask(actor, { kind: Kind.FUTEX_WAKE, offset: Number(word(0)), aux: Number(words[1] ?? 1) }, "wake");
        return;
      case "cancel":
        // Takes back the barrier, wait, lock or sleep that was asked last.
        actor.channel.up.push(encode({ kind: Kind.SEM_CANCEL, tag: actor.nextTag - 1 }));
        return;
      case "watch":
      case "closed":
        actor.channel.up.push(encode({ kind: Kind.CHANGE, op: verb === "watch" ? ChangeOp.WATCH : ChangeOp.CLOSED }));
        return;
      case "leave":
        this.#ask(actor, { kind: Kind.LEAVE }, "leave");
        return;
      case "shadow":
      case "unshadow": {
        const page = Number(word(0));
        const from = Number(word(1));
        const hole = { offset: page, aux: from - page, length: Number(word(2)) - from };
        if (verb === "shadow" && option("without") === undefined) {
          actor.shadow ??= this.#sibling(actor)?.shadow ?? null;
          if (actor.shadow === null) {
            actor.shadow = new Uint8Array(this.#cluster.config.size);
            this.#ask(actor, { kind: Kind.MEMORY }, "memory");
          }
        }
        this.#ask(actor, { kind: verb === "shadow" ? Kind.SHADOW : Kind.UNSHADOW, ...hole }, verb);
        return;
      }
      default:
        throw new Error(`unknown verb "${verb}"`);
    }
  }

  #ask(actor: Actor, frame: Frame, what: string): void {
    const tag = actor.nextTag;
    actor.nextTag += 1;
    actor.asked.set(tag, what);
    actor.channel.up.push(encode({ ...frame, tag }));
  }

  /** Anything at all: hexadecimal bytes, or a frame of a kind with some fields. */
  #send(name: string, words: string[]): void {
    const pipe = this.#strangers.get(name) ?? this.#nodes.get(name)?.up ?? this.#actorOf(name).channel.up;
    const [what, ...rest] = words;
    if (what === "bytes") {
      pipe.push(unhex(rest.join("")));
      return;
    }
    const fields: Record<string, number> = {};
    for (let at = 0; at + 1 < rest.length; at += 2) fields[rest[at] as string] = Number(rest[at + 1]);
    const kind = Kind[what as keyof typeof Kind] ?? Number(what);
    const { body, version, ...header } = fields;
    const bytes = new Uint8Array(body ?? 0);
    if (version === undefined) {
      pipe.push(encode({ kind, body: bytes, ...header }));
      return;
    }
    const greeting = encodeHandshake(kind, bytes, header);
    if (version !== 0) viewOf(greeting).setUint32(36, version, true);
    pipe.push(greeting);
  }

  #node(name: string, hello: Partial<NodeHello>): void {
    const node = this.#cluster.node(name, hello);
    this.#nodes.set(name, node);
    node.onEvent = (event) => {
      if (event === "welcomed") {
        this.#say(`node ${name}: number ${node.number}, entry ${node.replica?.session.seq}`);
      } else if (event === "refused") {
        const [status, ...why] = (node.refusal ?? "").split(" ");
        this.#say(`node ${name}: refused, ${statusName(Number(status))}: ${why.join(" ")}`);
      } else {
        this.#say(`node ${name}: ${event}${node.fault === null ? "" : `, ${node.fault}`}`);
      }
    };
  }

  #nodeOf(name: string): Node {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`there is no node "${name}"`);
    return node;
  }

  #actorOf(name: string): Actor {
    const actor = this.#actors.get(name);
    if (actor === undefined) throw new Error(`there is no process "${name}"`);
    return actor;
  }

  #actor(name: string, node: Node, pid = this.#nextPid++): Actor {
    const channel = node.connect(
      name,
      (frame) => this.#hears(actor, frame),
      () => this.#say(`${name}: closed`),
    );
    const actor: Actor = {
      name,
      channel,
      pid,
      rank: -1,
      token: new Uint8Array(8),
      nextTag: 1,
      asked: new Map(),
      shadow: null,
    };
    this.#actors.set(name, actor);
    return actor;
  }

  /** Another channel of the same process that has its shadow. */
  #sibling(actor: Actor): Actor | undefined {
    return [...this.#actors.values()].find(({ pid, shadow }) => pid === actor.pid && shadow !== null);
  }

  #hears(actor: Actor, frame: Uint8Array): void {
    const view = viewOf(frame);
    const kind = view.getUint8(4);
    const status = view.getUint8(5);
    const text = bodyText(frame, HEADER_SIZE, view.getUint32(32, true));
    if (kind === Kind.FAIL) {
      this.#say(`${actor.name}: fails, ${statusName(status)}: ${text}`);
      return;
    }
    if (kind === Kind.CHANGE) {
      this.#say(`${actor.name}: is to close the map`);
      return;
    }
    const tag = view.getUint32(8, true);
    const what = actor.asked.get(tag);
    actor.asked.delete(tag);
    const says = `${actor.name}: ${what ?? `an answer to tag ${tag}, which it never asked,`}`;
    // It comes before the first shadow, and says nothing of its own.
    if (what === "memory") return;
    if (kind !== Kind.REPLY) throw new Error(`a process got a frame of kind ${kind}`);
    const value = getUint64(view, 24);
    if (status !== Status.OK) {
      const more = what?.startsWith("arrive") && value > 0 ? ` (${value})` : "";
      this.#say(`${says} ${statusName(status)}${more}${text === "" ? "" : `: ${text}`}`);
    } else if (what === "join") {
      actor.rank = view.getUint32(36, true);
      actor.token = frame.slice(HEADER_SIZE + JOINED.token[0], HEADER_SIZE + JOINED.token[0] + 8);
      const processes = view.getUint32(HEADER_SIZE + JOINED.processes[0], true);
      const direct = view.getUint32(HEADER_SIZE + JOINED.direct[0], true) === 1 ? ", direct" : "";
      this.#say(`${says} OK, rank ${actor.rank} of ${processes}${direct}`);
    } else if (what === "alloc" || what?.startsWith("named") || what === "wake" || what === "signal") {
      const result = what === "wake" ? "woke" : what === "signal" ? "moved" : "place";
      this.#say(`${says} OK at ${view.getUint32(16, true)}, ${result} ${getUint64(view, 24)}`);
    } else if (what?.startsWith("atomic")) {
      this.#say(
        `${says} OK at ${view.getUint32(16, true)}, was ${hex(frame.subarray(HEADER_SIZE)).replace(/(00)*$/, "") || "0"}`,
      );
    } else if (view.getUint32(16, true) > 0) {
      // The answer to a LOCK tells its cell.
      const name = what?.split(" ")[1];
      if (what?.includes("lock ") === true && value > 0) actor.channel.node.knownCells.set(name as string, value - 1);
      const last = what?.startsWith("arrive") && value === 1 ? ", the last" : "";
      this.#say(`${says} OK at ${view.getUint32(16, true)}${last}`);
    } else {
      this.#say(`${says} OK`);
    }
  }

  #strangerHears(name: string, chunk: Uint8Array): void {
    const view = viewOf(chunk);
    const text = bodyText(chunk, HEADER_SIZE, view.getUint32(32, true));
    const kind = view.getUint8(4);
    if (kind === Kind.FAIL) this.#say(`${name}: fails, ${statusName(view.getUint8(5))}: ${text}`);
    else if (kind === Kind.REPLY) this.#say(`${name}: status of ${JSON.parse(text).name}`);
    else this.#say(`${name}: gets kind ${kind}`);
  }

  #deliver(name: string, bytes: number): void {
    const pipe = this.#cluster.pipes.find((candidate) => candidate.name === name);
    if (pipe === undefined) throw new Error(`there is no connection "${name}"`);
    pipe.deliver(bytes);
  }

  /** A node's replica, the server's copy, or what a process sees through its shadow. */
  #memoryOf(name: string): Uint8Array {
    if (name === "server") return this.#cluster.memory;
    return this.#actors.get(name)?.shadow ?? this.#nodeOf(name).memory;
  }

  /** How far server and nodes are, and whether those that are equally far have the same state. */
  #compare(): void {
    const server = this.#cluster.sequencer.session;
    this.#say(`the server is at entry ${server.seq}`);
    for (const [name, { replica }] of this.#nodes) {
      if (replica === null) continue;
      const { seq } = replica.session;
      const same = JSON.stringify(replica.session.state()) === JSON.stringify(server.state());
      this.#say(`node ${name} is at entry ${seq}${seq !== server.seq ? "" : same ? ", the same" : ", and differs"}`);
    }
  }

  #status(): void {
    const { phase, direct, present, entries, bytes, nodes, ranks, semaphores, locks, objects } =
      this.#cluster.sequencer.status();
    const named = (kind: string, name: string): string => (isObjectText(name) ? name : `${kind} ${name}`);
    this.#say(
      `${phase}${direct ? ", direct" : ""}, ${present} present, ${entries} entries, ${bytes} bytes, nodes ${nodes.join(" ") || "none"}`,
    );
    for (const { rank, node, pid, state, on, holds } of ranks) {
      const has = holds === undefined ? "" : `, has ${holds.join(" ")}`;
      this.#say(`rank ${rank}: ${state}${on === undefined ? "" : ` on ${on}`}, node ${node}, process ${pid}${has}`);
    }
    for (const { name, value, waiters } of semaphores) {
      this.#say(
        `${named("semaphore", name)}: ${value}${waiters.length === 0 ? "" : `, ranks waiting ${waiters.join(" ")}`}`,
      );
    }
    for (const { name, owner, waiters } of locks) {
      const waiting = waiters.length === 0 ? "" : `, ranks waiting ${waiters.join(" ")}`;
      this.#say(`${named("lock", name)}: ${owner === null ? "free" : `rank ${owner} has it`}${waiting}`);
    }
    for (const { object, offset, holders, isWritten, count, waiting, waiters } of objects) {
      const state = object === "barrier" ? ` ${waiting} of ${count}` : "";
      const has = holders.length === 0 ? "" : ` ${isWritten ? "written" : "read"} by ${holders.join(" ")}`;
      const ranks = waiters.length === 0 ? "" : ` ranks waiting ${waiters.join(" ")}`;
      this.#say(`${objectText(object, offset)}:${[state, has, ranks].filter((part) => part !== "").join(",")}`);
    }
  }
}
