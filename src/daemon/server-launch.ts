/** Starts `dsm server`, with the parameters of a session. */
import { DsmError } from "../core/base/errors.ts";
import { SETTINGS, type Setting } from "../core/base/settings.ts";
import type { SuccessionRequest } from "../core/messages/daemon-api.ts";
import { SESSION_SETTINGS, type SessionSettings } from "../core/messages/session-settings.ts";
import { type SpawnedServer, spawnServer } from "./spawn.ts";

/** The start parameters common to all servers of a daemon. */
export interface ServerStart {
  /** Program and first arguments of `dsm server`. */
  serverCommand: string[];
  /** The program's file. Default: that of its name. */
  serverFile?: string | undefined;
  /** Variables of its servers, besides those of every program. */
  serverEnvironment: Record<string, string>;
  /** Address at which its servers listen. */
  serverHost: string;
  /** "host:port" at which servers find the daemon. */
  daemonAddress(): string;
}

/** The start parameters of the server of one session. */
export interface LaunchRequest extends Omit<SuccessionRequest, "host" | "port"> {
  /** State of the predecessor: known to be gone, or not answering. Left out: this is the first server. */
  predecessor?: "gone" | "silent";
  /** Where the predecessor was. */
  host?: string;
  port?: number;
}

/** Options of `dsm server`, by the names that the settings table gives them. */
function settingWords(settings: SessionSettings): string[] {
  return SESSION_SETTINGS.flatMap(([name, field]) => {
    const value = settings[field];
    const { option, fallback }: Setting = SETTINGS[name];
    if (typeof value !== "boolean") return `--${option}=${value}`;
    return value === fallback ? [] : `--${value ? "" : "no-"}${option}`;
  });
}

/** launchServer starts the server. Throws DSM_SYSTEM if the program cannot be started. */
export function launchServer(start: ServerStart, launch: LaunchRequest, log: (line: string) => void): SpawnedServer {
  const { name, instance, slot, epoch, predecessor } = launch;
  const options = {
    session: name,
    host: start.serverHost,
    port: 0,
    daemon: start.daemonAddress(),
    instance,
    slot,
    ...(predecessor === undefined ? {} : { epoch, predecessor }),
  };
  const words = [...settingWords(launch), ...Object.entries(options).map(([option, value]) => `--${option}=${value}`)];
  try {
    return spawnServer({
      command: [...start.serverCommand, ...words],
      file: start.serverFile,
      environment: start.serverEnvironment,
      log: (line) => log(`session "${name}": ${line}`),
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new DsmError("DSM_SYSTEM", `the server of session "${name}" cannot be started: ${reason}`);
  }
}
