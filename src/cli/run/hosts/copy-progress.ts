/** Shows how far the copies of dsm to other hosts are. */
import { VERSION } from "../../../core/base/limits.ts";
import { formatSize } from "../../../core/base/size.ts";
import { messages } from "../../terminal/messages.ts";
import { type Progress, startProgress } from "../../terminal/progress.ts";

/** CopyProgress: on a terminal one bar for all hosts, elsewhere a line for each. */
export class CopyProgress {
  readonly #bytes = new Map<string, number>();
  #bar: Progress | null = null;

  copied(host: string, bytes: number, size: number): void {
    if (process.stderr.isTTY) this.#bar ??= startProgress("copying dsm to the hosts", size);
    else if (!this.#bytes.has(host)) messages.info(`copying dsm ${VERSION} (${formatSize(size)}) to ${host}`);
    this.#bytes.set(host, bytes);
    this.#bar?.at(Math.min(...this.#bytes.values()));
  }

  end(): void {
    this.#bar?.end();
    this.#bar = null;
  }
}
