/**
 * The daemon's client as commands use it: with the user's token and TLS settings, and a daemon started where none is.
 */
import type { Security } from "../core/access/auth.ts";
import { DsmError } from "../core/base/errors.ts";
import { DAEMON_IDLE_MS } from "../core/base/limits.ts";
import { formatAddress, parseAddress } from "../core/base/names.ts";
import { inheritedEnvironment } from "../core/launch/environment.ts";
import type { DaemonApi } from "../core/messages/daemon-api.ts";
import { createDaemonClient } from "../transport/daemon-client.ts";
import { selfCommand } from "./install/executable.ts";
import { readSecurity } from "./settings/security.ts";
import { firstLine } from "./terminal/split-lines.ts";

const AUTOSTART_TIMEOUT_MS = 15_000;

export interface DaemonOptions {
  /** "host:port" */
  address: string;
  /** Whether to start a daemon if nothing listens at a loopback address. */
  autostart: boolean;
  /** Token and TLS; left out: those of the user's settings. */
  security?: Security;
  /** Called with a line for the user when a daemon was started. */
  note?(text: string): void;
}

/** daemonClient returns the client. Throws DSM_INVALID for a bad address, or settings that cannot be used. */
export function daemonClient({ address, autostart, security, note }: DaemonOptions): DaemonApi {
  return createDaemonClient({
    address,
    security: security ?? readSecurity(parseAddress(address)?.host ?? ""),
    startDaemon: autostart ? startLocalDaemon : null,
    onStarted: () =>
      note?.(`started a session daemon at ${address}; it ends ${DAEMON_IDLE_MS / 1000} s after its last session`),
  });
}

/**
 * startLocalDaemon returns true if it started the daemon that now listens, false if another process was faster. Throws
 * DSM_UNREACHABLE when none listens.
 */
async function startLocalDaemon(host: string, port: number): Promise<boolean> {
  const address = formatAddress(host, port);
  const child = Bun.spawn({
    cmd: [...selfCommand(), "daemon", "--autostarted", `--host=${host}`, `--port=${port}`],
    cwd: "/",
    env: inheritedEnvironment(process.env),
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), AUTOSTART_TIMEOUT_MS);
  try {
    const said = await firstLine(child.stdout);
    if (said.startsWith("ready ")) {
      child.unref();
      return true;
    }
    // The child ended before it was ready. Either another process started a daemon at the same moment, which the next
    // attempt will find, or the reason is in the child's error message.
    const reason = (await firstLine(child.stderr)).replace(/^dsm: /, "");
    await child.exited;
    if (reason.startsWith("a dsm daemon is already running") || reason.startsWith("something else is listening")) {
      return false;
    }
    throw new DsmError(
      "DSM_UNREACHABLE",
      `a session daemon at ${address} could not be started: ${reason || "it gave no reason"}`,
    );
  } finally {
    clearTimeout(timer);
  }
}
