/** How the daemon starts `dsm server`: what a session's server is told. */
import { DsmError } from "../core/base/errors.ts";
import type { SuccessionRequest } from "../core/messages/daemon-api.ts";
import { type SpawnedServer, spawnServer } from "./spawn.ts";

/** What all servers of a daemon are started with. */
export interface ServerStart {
  /** Program and first arguments of `dsm server`. */
  serverCommand: string[];
  /** Variables they are started with, besides those of every program. */
  serverEnvironment: Record<string, string>;
  /** Address its servers listen on. */
  serverHost: string;
  /** "host:port" at which servers find the daemon. */
  daemonAddress(): string;
}

/** What the server of one session is started with. */
export interface LaunchRequest extends Omit<SuccessionRequest, "host" | "port"> {
  /** It takes over from a server that is known to be gone, or that does not answer. Left out: it is the first. */
  predecessor?: "gone" | "silent";
}

/** Starts the server. Throws DSM_SYSTEM where there is no such program. */
export function launchServer(start: ServerStart, launch: LaunchRequest, log: (line: string) => void): SpawnedServer {
  const { name, processes, size, order, onLoss, elastic, instance, slot, epoch, predecessor } = launch;
  const options = {
    session: name,
    processes,
    size,
    order,
    "on-loss": onLoss,
    host: start.serverHost,
    port: 0,
    daemon: start.daemonAddress(),
    instance,
    slot,
    ...(predecessor === undefined ? {} : { epoch, predecessor }),
  };
  const words = Object.entries(options).map(([option, value]) => `--${option}=${value}`);
  try {
    return spawnServer(
      [...start.serverCommand, ...words, ...(elastic ? ["--elastic"] : [])],
      start.serverEnvironment,
      (line) => log(`session "${name}": ${line}`),
    );
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new DsmError("DSM_SYSTEM", `the server of session "${name}" cannot be started: ${reason}`);
  }
}
