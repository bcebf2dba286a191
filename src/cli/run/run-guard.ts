/** RunGuard: a process that ends the ranks of this machine when `dsm run` or `dsm node` is killed (native/guard). */
import { closeSync, writeSync } from "node:fs";
import { DsmError } from "../../core/base/errors.ts";
import { inheritedEnvironment } from "../../core/launch/environment.ts";
import { isOwnProc } from "../../transport/own-process.ts";
import { logsJson, messages } from "../terminal/messages.ts";

const WITHOUT = "if dsm run is killed, its processes go on";

export class RunGuard {
  readonly #process: Bun.Subprocess | null;
  /** Our end of the guard's input. The kernel closes it when this process ends, in any way. */
  #input: number;

  private constructor(guard: Bun.Subprocess | null) {
    this.#process = guard;
    this.#input = typeof guard?.stdio[3] === "number" ? guard.stdio[3] : -1;
  }

  /**
   * Starts the guard. Where it cannot run there is a warning, and the run goes on without it. `says`: it has the standard
   * error of this process, for a line when this one is killed; logs that are JSON do not have that line.
   */
  static async start(says = false): Promise<RunGuard> {
    try {
      const { guard } = await (await import("../install/assets.ts")).runtimeFiles();
      // In a session of its own, so that no signal to the group of dsm run reaches it.
      const stderr = says && !logsJson() ? "inherit" : "ignore";
      const stdio = ["ignore", "ignore", stderr, "pipe"] as ["ignore", "ignore", "inherit" | "ignore", "pipe"];
      const env = inheritedEnvironment(process.env);
      const child = Bun.spawn({ cmd: [guard], cwd: "/", env, stdio, detached: true });
      child.unref();
      const made = new RunGuard(child);
      if (!isOwnProc()) made.#say("groups");
      return made;
    } catch (error) {
      if (!(error instanceof DsmError) && (error as { code?: string }).code === undefined) throw error;
      messages.warn(`${WITHOUT}: ${(error as Error).message}`);
      return new RunGuard(null);
    }
  }

  /** A rank is about to be started with these variables. */
  starts(environment: Record<string, string>): void {
    const { DSM_RUN_RECORD: mark } = environment;
    if (mark !== undefined) this.#say(`starts DSM_RUN_RECORD=${mark}`);
  }

  /** The rank has been started, as the leader of a session of processes. */
  started(pid: number): void {
    this.#say(`rank ${pid}`);
  }

  /** The rank, and all processes of its session, have ended. */
  gone(pid: number): void {
    this.#say(`gone ${pid}`);
  }

  /** The process serves this run alone. */
  addRole(pid: number): void {
    this.#say(`role ${pid}`);
  }

  /** Ends the guard: the run has ended as it should. */
  async done(): Promise<void> {
    this.#say("done");
    if (this.#input >= 0) closeSync(this.#input);
    this.#input = -1;
    await this.#process?.exited;
  }

  #say(line: string): void {
    if (this.#input < 0) return;
    try {
      writeSync(this.#input, `${line}\n`);
    } catch {
      // It was killed.
      this.#input = -1;
      messages.warn(WITHOUT);
    }
  }
}
