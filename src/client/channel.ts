/**
 * Channel: another connection of this process to its arbiter, for the promise forms. Many barriers, waits, sleeps and
 * posts can be in progress at once, identified by tag, without a blocked thread for each. outcomes.ts interprets the
 * replies.
 *
 * The connection keeps the program alive only while a request is in progress.
 */

import { DsmError, Status, statusCode, systemCode } from "../core/base/errors.ts";
import { CHANNEL_REQUESTS_MAX, FRAME_MAX } from "../core/base/limits.ts";
import { At, HEADER_SIZE, ReplyAt } from "../core/wire/at.ts";
import { bodyText, encode, encodeText, getUint64, ProtocolError } from "../core/wire/frame.ts";
import { FrameReader } from "../core/wire/frame-reader.ts";
import { encodeHandshake } from "../core/wire/handshake.ts";
import { Kind } from "../core/wire/kinds.ts";
import { Outbox } from "../core/wire/outbox.ts";
import { arbiterGone, hasLeft, type Outcome } from "./outcomes.ts";
import { type Connection, connect, deferred } from "./runtime.ts";

/** The parameters for opening another channel to the arbiter. */
export interface Attachment {
  /** Name of the session, for messages. */
  session: string;
  /** Path of the arbiter's Unix socket. */
  socket: string;
  /** 8 bytes. */
  token: Uint8Array;
  rank: number;
}

/** How a request ended. */
export interface Reply extends Outcome {
  /** The result of the operation: for a barrier, the number of processes in it. */
  value: number;
}

/** A request in progress. */
export interface Request {
  /** Rejects with a DsmError when the connection ends first. */
  reply: Promise<Reply>;
  /** Cancels a wait: the reply is then TIMEOUT, or OK if the grant or the wake-up came first. */
  cancel(): void;
}

/**
 * The most barriers, waits and sleeps in progress at once. The rest of the arbiter's limit is for posts, which end
 * waits.
 */
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
  /** The error for an ended connection. */
  readonly #gone: (reason?: string) => DsmError;
  #socket: Connection | undefined;
  #nextTag = ATTACH_TAG + 1;
  #posts = 0;
  /** The reason why the channel accepts no more requests, or undefined. */
  #ended: DsmError | undefined;

  private constructor(gone: (reason?: string) => DsmError) {
    this.#gone = gone;
    this.#outbox = new Outbox((bytes) => this.#socket?.write(bytes) ?? 0);
    // open() may come to wait for it only after it was rejected.
    this.#attached.promise.catch(() => {});
  }

  /**
   * Connects, and identifies this process to the arbiter. Rejects with DsmError. `left` says whether the process has left,
   * when the connection ends.
   */
  static async open({ session, socket: path, token, rank }: Attachment, left = () => false): Promise<Channel> {
    const gone = (reason?: string): DsmError => (left() ? hasLeft(session) : arbiterGone(session, reason));
    const channel = new Channel(gone);
    try {
      channel.#socket = await connect(path, {
        data: (chunk) => channel.#receive(chunk),
        drain: () => channel.#outbox.drain(),
        close: () => channel.#end(gone()),
        error: (error) => channel.#end(gone(error.message)),
      });
    } catch (error) {
      if (left()) throw hasLeft(session);
      const reason = error instanceof Error ? error.message : String(error);
      throw new DsmError(systemCode(error, "DSM_UNREACHABLE"), `the arbiter cannot be reached at ${path}: ${reason}`);
    }
    channel.#outbox.send(encodeHandshake(Kind.ATTACH, token, { rank, tag: ATTACH_TAG }));
    await channel.#attached.promise;
    return channel;
  }

  barrier(): Request {
    return this.#wait((tag) => encode({ kind: Kind.BARRIER, tag }));
  }

  /** With `tryOnly` the reply is AGAIN where the request would have to wait. */
  semaphoreWait(name: string, initial: number, tryOnly: boolean): Request {
    const body = encodeText(name);
    const op = tryOnly ? 1 : 0;
    return this.#wait((tag) => encode({ kind: Kind.SEM_WAIT, tag, op, aux: initial, length: body.length, body }));
  }

  /**
   * Sleeps while the `width` bytes at `offset` of the map equal the first ones of `expected` (8 bytes). The reply is OK
   * for a wake-up, AGAIN if they differ.
   */
  sleep(offset: number, width: number, expected: Uint8Array): Request {
    return this.#wait((tag) => encode({ kind: Kind.FUTEX_WAIT, tag, offset, length: width, body: expected }));
  }

  /**
   * With `tryOnly` the reply is AGAIN where the request would have to wait; OWNER_DIED: locked, the previous owner
   * died.
   */
  lock(name: string, tryOnly: boolean): Request {
    const body = encodeText(name);
    return this.#wait((tag) => encode({ kind: Kind.LOCK, tag, op: tryOnly ? 1 : 0, length: body.length, body }));
  }

  /** `inconsistent`: the next owner gets OWNER_DIED as well. */
  async unlock(name: string, inconsistent: boolean): Promise<Reply> {
    const body = encodeText(name);
    return this.#post((tag) => encode({ kind: Kind.UNLOCK, tag, op: inconsistent ? 1 : 0, length: body.length, body }));
  }

  async semaphorePost(name: string, initial: number): Promise<Reply> {
    const body = encodeText(name);
    return this.#post((tag) =>
      encode({ kind: Kind.SEM_POST, tag, offset: 1, aux: initial, length: body.length, body }),
    );
  }

  /** The reply is as for lock(); with `isWriter` it locks for writing. `offset`: the place of an object in the map. */
  rwLock(offset: number, isWriter: boolean, tryOnly: boolean): Request {
    const [op, aux] = [tryOnly ? 1 : 0, isWriter ? 1 : 0];
    return this.#wait((tag) => encode({ kind: Kind.RW_LOCK, tag, op, offset, aux }));
  }

  /** Ends the write of this process, else one of its reads. */
  async rwUnlock(offset: number, inconsistent: boolean): Promise<Reply> {
    return this.#post((tag) => encode({ kind: Kind.RW_UNLOCK, tag, op: inconsistent ? 1 : 0, offset }));
  }

  /**
   * Unlocks the mutex of that name, waits, and locks it again. The process has it with OK, OWNER_DIED and TIMEOUT (the
   * wait was cancelled), and where nothing was done.
   */
  condWait(offset: number, mutex: string): Request {
    const body = encodeText(mutex);
    return this.#wait((tag) => encode({ kind: Kind.COND_WAIT, tag, offset, length: body.length, body }));
  }

  async condSignal(offset: number, count: number): Promise<Reply> {
    return this.#post((tag) => encode({ kind: Kind.COND_SIGNAL, tag, offset, aux: count }));
  }

  /** The reply's value is 1 for the last that arrives; for MISMATCH what others wait for, for TIMEOUT how many are missing. */
  arrive(offset: number, count: number): Request {
    return this.#wait((tag) => encode({ kind: Kind.ARRIVE, tag, offset, aux: count }));
  }

  /** A request that is answered at once and may end a wait of another process: it has its own part of the limit. */
  async #post(frame: (tag: number) => Uint8Array): Promise<Reply> {
    if (this.#ended !== undefined) throw sameError(this.#ended);
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

  /** Ends the connection. Requests in progress reject with `reason`. */
  close(reason: DsmError): void {
    this.#end(reason);
  }

  #wait(frame: (tag: number) => Uint8Array): Request {
    if (this.#ended !== undefined) throw sameError(this.#ended);
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

  /** Sends before it returns, so that the program may block immediately afterwards. */
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
    if (!this.#outbox.send(frame)) this.#end(this.#gone("it takes no more requests"));
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
    const kind = view.getUint8(at + At.kind);
    const status = view.getUint8(at + ReplyAt.status) as Status;
    const tag = view.getUint32(at + At.tag, true);
    const length = Math.min(view.getUint32(at + ReplyAt.bodyLength, true), size - HEADER_SIZE);
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
    // The reply to a cancel that reached the arbiter after this process had left.
    const pending = this.#pending.get(tag);
    if (pending === undefined) return;
    this.#pending.delete(tag);
    if (pending.isPost) {
      this.#posts -= 1;
      const next = this.#queue.shift();
      if (next !== undefined) this.#begin(next.pending, next.frame);
    }
    pending.resolve({ status, text, value: getUint64(view, at + ReplyAt.value) });
    this.#rest();
  }

  /** Lets the program exit if no request is in progress. */
  #rest(): void {
    if (this.#pending.size === 0) this.#socket?.unref();
  }

  #end(error: DsmError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#attached.reject(error);
    for (const { reject } of this.#pending.values()) reject(sameError(error));
    for (const { pending } of this.#queue.splice(0)) pending.reject(sameError(error));
    this.#pending.clear();
    this.#socket?.terminate();
  }
}

/** Each call that fails gets an error of its own, whose stack is that of the call. */
const sameError = ({ code, message }: DsmError): DsmError => new DsmError(code, message);

const nextTag = (tag: number): number => (tag === TAG_MAX ? ATTACH_TAG + 1 : tag + 1);
