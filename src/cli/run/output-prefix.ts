/** Output of many processes on one terminal: whole lines, which may be marked with the rank. */
import { write } from "node:fs";
import { constants } from "node:os";
import { promisify } from "node:util";
import { messages } from "../terminal/messages.ts";

/** Longer lines are broken: a line that never ends must not fill the memory. */
const LINE_MAX = 64 << 10;

export class OutputPrefix {
  readonly #tagged: boolean;
  readonly #failed: (exitCode: number) => void;
  #hasFailed = false;
  /** The last write. Lines of all processes go out one after the other. */
  #last: Promise<void> = Promise.resolve();

  /** `failed` is called once, with the exit code for it, when the output has no reader any more, or cannot be written. */
  constructor(tagged: boolean, failed: (exitCode: number) => void) {
    this.#tagged = tagged;
    this.#failed = failed;
  }

  /** Passes on the lines of one stream until it ends. */
  async copy(rank: number, fd: 1 | 2, stream: ReadableStream<Uint8Array>): Promise<void> {
    const lines = this.lines(rank, fd);
    for await (const chunk of stream) await lines.push(chunk);
    await lines.end();
  }

  /** Returns functions for a stream that comes in chunks. Their promises resolve when there is room for more. */
  lines(rank: number, fd: 1 | 2): { push(chunk: Uint8Array): Promise<void>; end(): Promise<void> } {
    const tag = new TextEncoder().encode(this.#tagged ? `[${rank}] ` : "");
    let rest = new Uint8Array(0);
    return {
      push: async (chunk) => {
        const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
        const lines: Uint8Array[] = [];
        let start = 0;
        if (!this.#tagged) {
          // The bytes of the process as they are, however long its lines.
          start = bytes.length > LINE_MAX ? bytes.length : bytes.lastIndexOf(0x0a) + 1;
          if (start > 0) lines.push(bytes.subarray(0, start));
        }
        while (this.#tagged) {
          const newline = bytes.indexOf(0x0a, start);
          let end = newline < 0 ? bytes.length : newline;
          if (end - start > LINE_MAX) end = start + LINE_MAX;
          else if (newline < 0) break;
          lines.push(tag, bytes.subarray(start, end), NEWLINE);
          start = end === newline ? end + 1 : end;
        }
        rest = bytes.slice(start);
        if (lines.length > 0) await this.#write(fd, Buffer.concat(lines));
      },
      end: async () => {
        if (rest.length > 0) await this.#write(fd, Buffer.concat(this.#tagged ? [tag, rest, NEWLINE] : [rest]));
        rest = new Uint8Array(0);
      },
    };
  }

  async flush(): Promise<void> {
    await this.#last;
  }

  #write(fd: 1 | 2, bytes: Uint8Array): Promise<void> {
    this.#last = this.#last.then(async () => {
      try {
        if (!this.#hasFailed) await writeAll(fd, bytes);
      } catch (error) {
        this.#hasFailed = true;
        const { code, message } = error as NodeJS.ErrnoException;
        const hasNoReader = code === "EPIPE";
        if (!hasNoReader) messages.error(`standard ${fd === 1 ? "output" : "error"} cannot be written: ${message}`);
        this.#failed(hasNoReader ? 128 + constants.signals.SIGPIPE : 1);
      }
    });
    return this.#last;
  }
}

const NEWLINE = new Uint8Array([0x0a]);

const writeSome = promisify(write);

/** Writes all bytes. Not synchronously: signals must be handled while the reader is slow. */
export async function writeAll(fd: number, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += (await writeSome(fd, bytes, at)).bytesWritten;
    } catch (error) {
      // Another process with the same terminal or pipe has made it non-blocking, and it is full.
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
      await Bun.sleep(1);
    }
  }
}
