/** Output of many processes on one terminal: whole lines, each marked with its rank. */
import { writeSync } from "node:fs";

/** A longer line is broken here: one without an end must not fill the memory. */
const LINE_MAX = 64 << 10;

export class TaggedOutput {
  readonly #closed: () => void;
  /** Lines go out one after the other, whoever they come from. */
  #last: Promise<void> = Promise.resolve();

  /** `closed` is called when nobody reads the output any more. */
  constructor(closed: () => void) {
    this.#closed = closed;
  }

  /** Passes on the lines of one stream until it ends. */
  async copy(rank: number, fd: 1 | 2, stream: ReadableStream<Uint8Array>): Promise<void> {
    const tag = new TextEncoder().encode(`[${rank}] `);
    let rest = new Uint8Array(0);
    for await (const chunk of stream) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      const lines: Uint8Array[] = [];
      let start = 0;
      for (;;) {
        const newline = bytes.indexOf(0x0a, start);
        let end = newline < 0 ? bytes.length : newline;
        if (end - start > LINE_MAX) end = start + LINE_MAX;
        else if (newline < 0) break;
        lines.push(tag, bytes.subarray(start, end), NEWLINE);
        start = end === newline ? end + 1 : end;
      }
      rest = bytes.slice(start);
      if (lines.length > 0) await this.#write(fd, Buffer.concat(lines));
    }
    if (rest.length > 0) await this.#write(fd, Buffer.concat([tag, rest, NEWLINE]));
  }

  async flush(): Promise<void> {
    await this.#last;
  }

  #write(fd: 1 | 2, bytes: Uint8Array): Promise<void> {
    this.#last = this.#last.then(async () => {
      try {
        await writeAll(fd, bytes);
      } catch {
        this.#closed();
      }
    });
    return this.#last;
  }
}

const NEWLINE = new Uint8Array([0x0a]);

async function writeAll(fd: 1 | 2, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      // Somebody who shares the terminal or pipe has made it non-blocking, and it is full.
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
      await Bun.sleep(1);
    }
  }
}
