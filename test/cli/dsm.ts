/** `dsm` from source, with folders and a daemon address of its own, so that tests can run beside each other. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";

export const MAIN = join(import.meta.dir, "../../src/cli/main.ts");

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | number | null;
  stdout: string;
  stderr: string;
}

export type Child = Bun.Subprocess<"pipe" | "ignore", "pipe", "pipe">;

let addresses = 0;

export class Place {
  readonly folder = mkdtempSync(join(tmpdir(), "dsm-test-"));
  /** A loopback address of its own: every port of it is free. */
  readonly host = `127.${1 + (addresses++ % 250)}.${(process.pid >> 8) & 0xff}.${1 + (process.pid % 254)}`;
  readonly daemonAddress = `${this.host}:4200`;
  readonly environment: Record<string, string>;

  constructor() {
    const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("DSM_"));
    this.environment = {
      ...(Object.fromEntries(kept) as Record<string, string>),
      XDG_RUNTIME_DIR: this.folder,
      XDG_CACHE_HOME: join(this.folder, "cache"),
      XDG_CONFIG_HOME: join(this.folder, "config"),
      DSM_DAEMON: this.daemonAddress,
      NO_COLOR: "1",
    };
  }

  spawn(args: string[], environment: Record<string, string> = {}, stdin: "pipe" | "ignore" = "ignore"): Child {
    return Bun.spawn({
      cmd: [process.execPath, MAIN, ...args],
      env: { ...this.environment, ...environment },
      stdio: [stdin, "pipe", "pipe"],
    });
  }

  async dsm(args: string[], environment: Record<string, string> = {}): Promise<Outcome> {
    return outcome(this.spawn(args, environment));
  }

  /** Ends the daemon and all its sessions. */
  async close(): Promise<void> {
    const base = `http://${this.daemonAddress}/v1`;
    const health = (await (await fetch(`${base}/health`).catch(() => null))?.json()) as { pid?: number } | undefined;
    if (health?.pid) {
      const { sessions } = (await (await fetch(`${base}/sessions`)).json()) as { sessions: { name: string }[] };
      for (const { name } of sessions)
        await fetch(`${base}/sessions/${encodeURIComponent(name)}`, { method: "DELETE" });
      process.kill(health.pid, "SIGTERM");
      await gone(() => isRunning(health.pid as number));
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export async function outcome(child: Child): Promise<Outcome> {
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code: child.exitCode, signal: child.signalCode, stdout, stderr };
}

/** Reads on until all of `texts` have come. */
export async function until(stream: ReadableStream<Uint8Array>, ...texts: string[]): Promise<string> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let said = "";
  while (!texts.every((text) => said.includes(text))) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`ended without saying "${texts.join('" and "')}": ${said}`);
    said += decoder.decode(value, { stream: true });
  }
  reader.releaseLock();
  return said;
}

/** Processes whose command line has `marker` in it. */
export function processesWith(marker: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => commandLine(pid).includes(marker));
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

/** Whether the process exists and has not ended. A zombie has ended. */
export function isRunning(pid: number): boolean {
  return commandLine(pid) !== "";
}

/** The state letter of a process, such as S or T. */
export function stateOf(pid: number): string | undefined {
  return /^State:\s*(\w)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
}

/** Polls until `there` is false: the kernel reports the end of a process to its parent only. */
export async function gone(there: () => boolean): Promise<void> {
  await eventually("it has ended", () => !there());
}
