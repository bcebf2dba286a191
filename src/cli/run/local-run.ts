/** The processes of a `dsm run` on this machine. */
import { constants, hostname } from "node:os";
import { NAME_MAX } from "../../core/base/limits.ts";
import { messages } from "../terminal/messages.ts";
import { CrashRecords, UNSEEN } from "./crash-records.ts";
import { DeathCauses } from "./death-causes.ts";
import { OutputPrefix } from "./output-prefix.ts";
import { anyLives, endsUnderway, signalGroup } from "./process-group.ts";
import type { Program } from "./program.ts";
import { END_TIMEOUT_MS, ProcessTerminator } from "./termination.ts";

/** How long output may still come from pipes that a process left open to its children. */
const OUTPUT_TIMEOUT_MS = 1_000;

export interface LocalRunOptions {
  program: Program;
  /** Of all processes; each gets its rank, and its node if there are several, beside it. */
  environment: Record<string, string>;
  processes: number;
  /** Simulated nodes, in blocks of ranks. */
  nodes: number;
  /** Begins every line of output with the rank. */
  tag: boolean;
}

/** All processes of one `dsm run`. Each leads a session of its own, so that a signal reaches all it has started. */
export class LocalRun {
  /** Exit code of the first that failed; 0 if none did. */
  readonly done: Promise<number>;
  readonly #ranks: Bun.Subprocess[] = [];
  /** Those whose end has not been seen yet. */
  readonly #living = new Set<Bun.Subprocess>();
  readonly #outputs: Promise<void>[] = [];
  readonly #records: CrashRecords;
  readonly #causes = new DeathCauses();
  readonly #terminator = new ProcessTerminator({
    send: (signal) => {
      for (const child of this.#ranks) signalGroup(child.pid, signal);
    },
    interruptedMs: END_TIMEOUT_MS,
    underway: () => endsUnderway(this.#living),
  });

  constructor(options: LocalRunOptions) {
    this.#terminator.passSignals();
    this.#records = new CrashRecords(options.processes);
    this.done = this.#run(options);
  }

  async #run({ program, environment, processes, nodes, tag }: LocalRunOptions): Promise<number> {
    const output = tag ? new OutputPrefix(true, () => this.#terminator.fail(128 + constants.signals.SIGPIPE)) : null;
    const endings: Promise<void>[] = [];
    for (let rank = 0; rank < processes && this.#terminator.failure === 0; rank++) {
      let child: Bun.Subprocess;
      try {
        child = Bun.spawn({
          cmd: program.command,
          env: {
            ...environment,
            DSM_RANK: String(rank),
            ...this.#records.environment(rank),
            ...(nodes > 1 ? { DSM_NODE: nodeName(Math.floor((rank * nodes) / processes)) } : {}),
          },
          stdin: rank === 0 ? "inherit" : "ignore",
          stdout: output ? "pipe" : "inherit",
          stderr: output ? "pipe" : "inherit",
          detached: true,
        });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        messages.error(`process ${rank} cannot be started: ${reason}`);
        this.#terminator.fail(126);
        break;
      }
      this.#ranks.push(child);
      this.#living.add(child);
      if (output) {
        this.#outputs.push(output.copy(rank, 1, child.stdout as ReadableStream<Uint8Array>));
        this.#outputs.push(output.copy(rank, 2, child.stderr as ReadableStream<Uint8Array>));
      }
      const ended = (): Promise<void> => {
        this.#living.delete(child);
        const why = this.#records.isUnseen(rank, child.signalCode) ? UNSEEN : this.#causes.of(child.signalCode);
        return this.#terminator.ended(`process ${rank}`, child.exitCode, child.signalCode, why);
      };
      endings.push(child.exited.then(ended));
    }
    await Promise.all(endings);
    await this.#endGroups();
    this.#terminator.stop();
    this.#records.close();
    if (output) {
      await Promise.race([Promise.all(this.#outputs), Bun.sleep(OUTPUT_TIMEOUT_MS)]);
      await output.flush();
    }
    return this.#terminator.failure;
  }

  /** Ends what the ranks have left running behind them. Nothing tells when a group is empty, so it is asked. */
  async #endGroups(): Promise<void> {
    const alive = (): boolean => anyLives(this.#ranks.map(({ pid }) => pid));
    if (!alive()) return;
    this.#terminator.end();
    while (alive()) await Bun.sleep(10);
  }
}

function nodeName(index: number): string {
  const suffix = `-${index}`;
  return `${hostname().slice(0, NAME_MAX - suffix.length)}${suffix}`;
}
