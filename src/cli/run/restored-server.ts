/** The server of a session that `dsm run --restore` begins. */
import { DsmError } from "../../core/base/errors.ts";
import { inheritedEnvironment } from "../../core/launch/environment.ts";
import { selfCommand } from "../install/executable.ts";
import { type Progress, startProgress } from "../terminal/progress.ts";
import { lines } from "../terminal/split-lines.ts";

export interface RestoredServerOptions {
  /** The snapshot. */
  file: string;
  /** Options of `dsm server` that have values. */
  options: Record<string, string | number>;
  elastic: boolean;
  autostart: boolean;
  /** Variables beside those that a process of dsm inherits. */
  environment?: Record<string, string>;
}

/** Starts the server of a session that begins with a snapshot, and waits until it has registered with the daemon. Throws DsmError. */
export async function startRestoredServer({
  file,
  options,
  elastic,
  autostart,
  environment = {},
}: RestoredServerOptions): Promise<Bun.Subprocess> {
  const words = Object.entries(options).map(([option, value]) => `--${option}=${value}`);
  const server = Bun.spawn({
    cmd: [
      ...selfCommand(),
      "server",
      `--restore=${file}`,
      "--report-progress",
      ...words,
      ...(elastic ? ["--elastic"] : []),
      ...(autostart ? [] : ["--no-autostart"]),
    ],
    env: { ...inheritedEnvironment(process.env), ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    // `dsm run` passes signals of its group on to the ranks; the server ends after them.
    detached: true,
  });
  let progress: Progress | undefined;
  let ready = false;
  for await (const line of lines(server.stdout)) {
    const [, done, total] = /^progress (\d+) (\d+)$/.exec(line) ?? [];
    if (done === undefined) {
      ready = line.startsWith("dsm server: ");
      break;
    }
    progress ??= startProgress(`reading ${file}`, Number(total));
    progress.at(Number(done));
  }
  progress?.end();
  if (ready) return server;
  const reason = (await server.stderr.text())
    .trim()
    .split("\n")
    .at(-1)
    ?.replace(/^dsm: /, "");
  await server.exited;
  throw new DsmError("DSM_SYSTEM", reason || "the server of the restored session did not start");
}
