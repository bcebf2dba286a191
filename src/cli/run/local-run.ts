/** The processes of a `dsm run` on this machine. */
import { hostname } from "node:os";
import { NAME_MAX } from "../../core/base/limits.ts";
import { messages } from "../terminal/messages.ts";
import { DeathCauses } from "./death-causes.ts";
import { JoinMonitor } from "./join-monitor.ts";
import { OutputPrefix } from "./output-prefix.ts";
import { endsUnderway, livingRanks, signalRank } from "./process-group.ts";
import type { Program } from "./program.ts";
import { RunGuard } from "./run-guard.ts";
import { RunRecords, UNSEEN } from "./run-records.ts";
import { StuckJoinWatch } from "./stuck-join.ts";
import { END_TIMEOUT_MS, ProcessTerminator } from "./termination.ts";

/** How long output may still come from pipes that a process has left open in its children. */
const OUTPUT_TIMEOUT_MS = 1_000;

export interface LocalRunOptions {
  program: Program;
  /** Variables of all processes; each also gets its rank, and its node if there are several. */
  environment: Record<string, string>;
  processes: number;
  /** Simulated nodes, in blocks of ranks. */
  nodes: number;
  /** Begin every line of output with the rank. */
  tag: boolean;
  /** The others go on when a process fails. */
  continues: boolean;
  /** A server of this run alone, which ends with it. */
  server: Bun.Subprocess | null;
}

/** LocalRun: all processes of one `dsm run`. Each leads a process group, so that a signal reaches all it has started. */
export class LocalRun {
  /** Exit code of the first process that failed; 0 if none did. */
  readonly done: Promise<number>;
  readonly #ranks: Bun.Subprocess[] = [];
  /** The processes whose end has not been observed yet. */
  readonly #living = new Set<Bun.Subprocess>();
  readonly #outputs: Promise<void>[] = [];
  readonly #continues: boolean;
  /** Ranks of which processes may be living; signals go to these. */
  readonly #present = new Set<number>();
  readonly #records: RunRecords;
  readonly #stuckJoin: StuckJoinWatch;
  readonly #causes = new DeathCauses();
  readonly #terminator = new ProcessTerminator({
    send: (signal) => {
      for (const pid of this.#present) signalRank(pid, signal);
    },
    interruptedMs: END_TIMEOUT_MS,
    underway: () => endsUnderway(this.#living),
    goesOn: () => this.#continues && this.#living.size > 0,
  });

  constructor(options: LocalRunOptions) {
    this.#terminator.passSignals();
    this.#continues = options.continues;
    this.#records = new RunRecords(options.processes);
    this.#stuckJoin = new StuckJoinWatch(options.processes, this.#terminator);
    this.done = this.#run(options);
  }

  async #run({ program, environment, processes, nodes, tag, server }: LocalRunOptions): Promise<number> {
    const guard = await RunGuard.start(true);
    const monitor = new JoinMonitor({
      ranks: this.#ranks,
      records: this.#records,
      report: (rank, joins) => {
        const { pid } = this.#ranks[rank] as Bun.Subprocess;
        // Its id may become another process's.
        if (joins.isGone && this.#present.delete(pid)) guard.gone(pid);
        this.#stuckJoin.update(rank, joins);
      },
    });
    if (server !== null) guard.addRole(server.pid);
    const output = tag ? new OutputPrefix(true, (exitCode) => this.#terminator.fail(exitCode)) : null;
    const endings: Promise<void>[] = [];
    for (let rank = 0; rank < processes && !this.#terminator.isEnding; rank++) {
      let child: Bun.Subprocess;
      const record = this.#records.environment(rank);
      const node = nodes > 1 ? nodeName(Math.floor((rank * nodes) / processes)) : null;
      guard.starts(record);
      try {
        child = Bun.spawn({
          cmd: program.command,
          env: {
            ...environment,
            DSM_RANK: String(rank),
            ...record,
            ...(node === null ? {} : { DSM_NODE: node }),
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
      guard.started(child.pid);
      this.#ranks.push(child);
      this.#present.add(child.pid);
      this.#living.add(child);
      if (output) {
        this.#outputs.push(output.copy(rank, 1, child.stdout as ReadableStream<Uint8Array>));
        this.#outputs.push(output.copy(rank, 2, child.stderr as ReadableStream<Uint8Array>));
      }
      const ended = (): Promise<void> => {
        this.#living.delete(child);
        monitor.start();
        const why = this.#records.isUnseen(rank, child.signalCode) ? UNSEEN : this.#causes.of(child.signalCode);
        const who = `process ${rank} (${node === null ? "" : `node ${node}, `}pid ${child.pid})`;
        return this.#terminator.ended(who, child.exitCode, child.signalCode, why);
      };
      endings.push(child.exited.then(ended));
    }
    await Promise.all(endings);
    monitor.stop();
    this.#stuckJoin.stop();
    await this.#endGroups();
    this.#terminator.stop();
    await guard.done();
    this.#records.close();
    if (output) {
      await Promise.race([Promise.all(this.#outputs), Bun.sleep(OUTPUT_TIMEOUT_MS)]);
      await output.flush();
    }
    return this.#terminator.failure;
  }

  /** Ends the processes that the ranks have left running. The kernel does not report their end, so this polls. */
  async #endGroups(): Promise<void> {
    const alive = (): boolean => livingRanks([...this.#present]).size > 0;
    if (!alive()) return;
    this.#terminator.end();
    while (alive()) await Bun.sleep(10);
  }
}

function nodeName(index: number): string {
  const suffix = `-${index}`;
  return `${hostname().slice(0, NAME_MAX - suffix.length)}${suffix}`;
}
