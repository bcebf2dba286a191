/**
 * Connections of this node's processes. A process has one main channel, whose end is the process's end, and may attach
 * further ones, so that several threads and promises can have requests in flight at once.
 *
 * A request is known by its tag. In the log the high half of the tag is the number of its channel, so that a reply can
 * be routed from the tag alone. Invariant: a channel number is reused only when no reply for it can arrive any more.
 */
import { CHANNEL_REQUESTS_MAX, CHANNELS_MAX, GREETING_FRAME_MAX } from "../base/limits.ts";
import { ProtocolError } from "../wire/frame.ts";
import { FrameReader } from "../wire/frame-reader.ts";
import type { NodeProcess } from "./processes.ts";

export class Channel {
  readonly index: number;
  readonly reader = new FrameReader(GREETING_FRAME_MAX);
  process: NodeProcess | null = null;
  /** Requests without a reply. */
  requests = 0;
  /** Incomplete publications: bytes so far, by tag. */
  readonly publishing = new Map<number, number>();
  /** Frames deferred until direct mode ends. */
  deferred = 0;
  isOpen = true;

  constructor(index: number) {
    this.index = index;
  }

  /** Whether this is the main channel of `process`. */
  isMainOf(process: NodeProcess): boolean {
    return process.channel === this.index;
  }

  /** Counts one more request in flight. Throws ProtocolError when there are CHANNEL_REQUESTS_MAX. */
  beginRequest(): void {
    if (this.requests >= CHANNEL_REQUESTS_MAX) throw new ProtocolError("too many requests under way");
    this.requests += 1;
  }

  /** The tag that a request of this channel has in the log. */
  stamp(tag: number): number {
    if (tag > 0xffff) throw new ProtocolError("a tag has 16 bits");
    return ((this.index << 16) | tag) >>> 0;
  }
}

/** The tag that the process gave the request. */
export const requestTag = (stamped: number): number => stamped & 0xffff;

export class ChannelTable {
  readonly #channels: (Channel | undefined)[] = [];
  readonly #free: number[] = [];

  /** Opens a channel; null: there are CHANNELS_MAX. */
  open(): Channel | null {
    const index = this.#free.pop() ?? this.#channels.length;
    if (index >= CHANNELS_MAX) return null;
    const channel = new Channel(index);
    this.#channels[index] = channel;
    return channel;
  }

  get(index: number): Channel | undefined {
    return this.#channels[index];
  }

  /** The channel to which the reply with this tag goes. */
  ofTag(stamped: number): Channel | undefined {
    return this.#channels[stamped >>> 16];
  }

  /** Releases the number of a closed channel if no reply for it can arrive any more. */
  releaseIfIdle(channel: Channel): void {
    const isIdle = !channel.isOpen && channel.requests === 0;
    // In direct mode the end of the process answers its requests before the channel is closed: the number may be free
    // already.
    if (!isIdle || this.#channels[channel.index] !== channel) return;
    this.#channels[channel.index] = undefined;
    this.#free.push(channel.index);
  }
}
