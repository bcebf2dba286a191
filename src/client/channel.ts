/**
 * A further connection of this process to its arbiter, for the promise forms: any number of barriers, waits, sleeps and
 * posts under way at once, told apart by tag, without a thread that blocks for each.
 *
 * The connection keeps the program alive while something is under way and at no other time.
 */
import { DsmError, Status, statusCode, systemCode } from "../core/errors.ts";
import { FrameReader } from "../core/frames.ts";
import { CHANNEL_REQUESTS_MAX, FRAME_MAX } from "../core/limits.ts";
import { Outbox } from "../core/outbox.ts";
import {
  bodyText,
  encode,
  encodeGreeting,
  encodeText,
  getUint64,
  HEADER_SIZE,
  Kind,
  ProtocolError,
} from "../core/protocol.ts";
import { type Connection, connect, deferred } from "./runtime.ts";

/** What an arbiter wants to know of who opens a further channel. */
export interface Attachment {
  /** Path of the arbiter's Unix socket. */
  socket: string;
  /** 8 bytes. */
  token: Uint8Array;
  rank: number;
}

/** How a request ended. */
export interface Reply {
  status: Status;
  /** Why, in words; "" for OK, and where the status says it all. */
  text: string;
  /** What the operation gives: of a barrier, how many were in it. */
  value: number;
}

/** Where a request stands; `cancel()` takes back a wait for a semaphore or lock that was not granted yet, or a sleep. */
export interface Request {
  /** Rejects with a DsmError when the connection ends first. */
  reply: Promise<Reply>;
  /** The reply is then TIMEOUT, or OK if the grant or the wake-up came first. */
  cancel(): void;
}

/** Barriers, semaphore waits and sleeps under way at once. What is left of the arbiter's limit is for posts, which free them. */
export const WAITS_MAX = CHANNEL_REQUESTS_MAX - 128;
const POSTS_MAX = CHANNEL_REQUESTS_MAX - WAITS_MAX;
/** Posts that wait for their turn. */
export const QUEUED_POSTS_MAX = 1 << 16;

interface Pending {
  resolve(reply: Reply): void;
  reject(error: DsmError): void;
  isPost: boolean;
}

interface QueuedPost {
  pending: Pending;
  frame: (tag: number) => Uint8Array;
}

const ATTACH_TAG = 0;
const TAG_MAX = 0xffff;

export class Channel {
  readonly #reader = new FrameReader(FRAME_MAX);
  readonly #outbox: Outbox;
  readonly #pending = new Map<number, Pending>();
  readonly #queue: QueuedPost[] = [];
  readonly #attached = deferred<void>();
  #socket: Connection | undefined;
  #nextTag = ATTACH_TAG + 1;
  #posts = 0;
  /** Why nothing more can be asked, once that is so. */
  #ended: DsmError | undefined;

  private constructor() {
    this.#outbox = new Outbox((bytes) => this.#socket?.write(bytes) ?? 0);
    // open() may come to wait for it only after it was rejected.
    this.#attached.promise.catch(() => {});
  }

  /** Connects and says whose channel this is. Rejects with DsmError. */
  static async open({ socket: path, token, rank }: Attachment): Promise<Channel> {
    const channel = new Channel();
    try {
      channel.#socket = await connect(path, {
        data: (chunk) => channel.#receive(chunk),
        drain: () => channel.#outbox.drain(),
        close: () => channel.#end(new DsmError("DSM_UNREACHABLE", "the arbiter has ended")),
        error: (error) => channel.#end(new DsmError("DSM_UNREACHABLE", `the arbiter is lost: ${error.message}`)),
      });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new DsmError(systemCode(error, "DSM_UNREACHABLE"), `the arbiter cannot be reached at ${path}: ${reason}`);
    }
    channel.#outbox.send(encodeGreeting(Kind.ATTACH, token, { rank, tag: ATTACH_TAG }));
    await channel.#attached.promise;
    return channel;
  }

  barrier(): Request {
    return this.#wait((tag) => encode({ kind: Kind.BARRIER, tag }));
  }

  /** With `only` the reply is AGAIN where the request would have to wait. */
  semaphoreWait(name: string, initial: number, only: boolean): Request {
    const body = encodeText(name);
    const op = only ? 1 : 0;
    return this.#wait((tag) => encode({ kind: Kind.SEM_WAIT, tag, op, aux: initial, length: body.length, body }));
  }

  /**
   * Sleeps while the `width` bytes at `offset` of the map equal the first ones of `expected` (8 bytes). The reply is OK
   * for a wake-up, AGAIN if they differ.
   */
  sleep(offset: number, width: number, expected: Uint8Array): Request {
    return this.#wait((tag) => encode({ kind: Kind.SLEEP, tag, offset, length: width, body: expected }));
  }

  /** With `only` the reply is AGAIN where the request would have to wait; OWNER_DIED: locked, the last owner is gone. */
  lock(name: string, only: boolean): Request {
    const body = encodeText(name);
    return this.#wait((tag) => encode({ kind: Kind.LOCK, tag, op: only ? 1 : 0, length: body.length, body }));
  }

  /** `unmended`: the next owner is to be told of a dead one, as this one was. */
  async unlock(name: string, unmended: boolean): Promise<Reply> {
    const body = encodeText(name);
    return this.#give((tag) => encode({ kind: Kind.UNLOCK, tag, op: unmended ? 1 : 0, length: body.length, body }));
  }

  async semaphorePost(name: string, initial: number): Promise<Reply> {
    const body = encodeText(name);
    return this.#give((tag) =>
      encode({ kind: Kind.SEM_POST, tag, offset: 1, aux: initial, length: body.length, body }),
    );
  }

  /** A request that waits for nobody and lets others go on: it has its own part of the limit. */
  async #give(frame: (tag: number) => Uint8Array): Promise<Reply> {
    if (this.#ended !== undefined) throw this.#ended;
    const { promise, resolve, reject } = deferred<Reply>();
    const pending = { resolve, reject, isPost: true };
    if (this.#posts < POSTS_MAX) {
      this.#begin(pending, frame);
    } else if (this.#queue.length < QUEUED_POSTS_MAX) {
      this.#queue.push({ pending, frame });
    } else {
      throw new DsmError("DSM_LIMIT", `${QUEUED_POSTS_MAX} posts of this process are waiting to be sent; await them`);
    }
    return promise;
  }

  /** Ends the connection. What is under way rejects with `reason`. */
  close(reason: DsmError): void {
    this.#end(reason);
  }

  #wait(frame: (tag: number) => Uint8Array): Request {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#pending.size - this.#posts >= WAITS_MAX) {
      throw new DsmError("DSM_LIMIT", `${WAITS_MAX} waits of this process are under way, the limit; await some first`);
    }
    const { promise, resolve, reject } = deferred<Reply>();
    const tag = this.#begin({ resolve, reject, isPost: false }, frame);
    const cancel = (): void => {
      // The tag may have been given to another request since this one ended.
      if (this.#pending.get(tag)?.resolve === resolve) this.#send(encode({ kind: Kind.SEM_CANCEL, tag }));
    };
    return { reply: promise, cancel };
  }

  /** Sends before it returns, so that a program may block right after. */
  #begin(pending: Pending, frame: (tag: number) => Uint8Array): number {
    const tag = this.#freeTag();
    if (this.#pending.size === 0) this.#socket?.ref();
    this.#pending.set(tag, pending);
    if (pending.isPost) this.#posts += 1;
    this.#send(frame(tag));
    return tag;
  }

  #freeTag(): number {
    while (this.#pending.has(this.#nextTag)) this.#nextTag = nextTag(this.#nextTag);
    const tag = this.#nextTag;
    this.#nextTag = nextTag(tag);
    return tag;
  }

  #send(frame: Uint8Array): void {
    if (!this.#outbox.send(frame)) this.#end(new DsmError("DSM_UNREACHABLE", "the arbiter takes no more requests"));
  }

  #receive(chunk: Uint8Array): void {
    if (this.#ended !== undefined) return;
    try {
      this.#reader.push(chunk, (view, at, size, bytes) => this.#frame(view, at, size, bytes));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#end(new DsmError(statusCode(error.status), `the arbiter: ${error.message}`));
    }
  }

  #frame(view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const kind = view.getUint8(at + 4);
    const status = view.getUint8(at + 5) as Status;
    const tag = view.getUint32(at + 8, true);
    const length = Math.min(view.getUint32(at + 32, true), size - HEADER_SIZE);
    const text = status === Status.OK ? "" : bodyText(bytes, at + HEADER_SIZE, length);
    if (kind === Kind.FAIL) {
      this.#end(new DsmError(statusCode(status), text));
      return;
    }
    if (kind !== Kind.REPLY) throw new ProtocolError(`an unexpected frame of kind ${kind}`);
    if (tag === ATTACH_TAG) {
      this.#attached.resolve();
      this.#rest();
      return;
    }
    // An answer that nobody waits for: a cancel that came to an arbiter which this process has left.
    const pending = this.#pending.get(tag);
    if (pending === undefined) return;
    this.#pending.delete(tag);
    if (pending.isPost) {
      this.#posts -= 1;
      const next = this.#queue.shift();
      if (next !== undefined) this.#begin(next.pending, next.frame);
    }
    pending.resolve({ status, text, value: getUint64(view, at + 24) });
    this.#rest();
  }

  /** With nothing under way the connection does not keep the program alive. */
  #rest(): void {
    if (this.#pending.size === 0) this.#socket?.unref();
  }

  #end(error: DsmError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#attached.reject(error);
    for (const { reject } of this.#pending.values()) reject(error);
    for (const { pending } of this.#queue.splice(0)) pending.reject(error);
    this.#pending.clear();
    this.#socket?.terminate();
  }
}

const nextTag = (tag: number): number => (tag === TAG_MAX ? ATTACH_TAG + 1 : tag + 1);
