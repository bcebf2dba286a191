import { writeSync } from "node:fs";
import type { Tls } from "../../core/access/auth.ts";
import { DsmError } from "../../core/base/errors.ts";
import { DEFAULT_HOST, DEFAULT_PORT } from "../../core/base/limits.ts";
import { formatAddress, isLoopback } from "../../core/base/names.ts";
import { type Daemon, startDaemon } from "../../daemon/daemon.ts";
import { command } from "../command.ts";
import { createDirectory } from "../directory.ts";
import { readAsset } from "../install/assets.ts";
import { selfCommand } from "../install/executable.ts";
import { readPort } from "../settings/options.ts";
import {
  makeTokenFile,
  readSecurity,
  readTls,
  readTlsFiles,
  securityEnvironment,
  tlsOptions,
  tokenPath,
} from "../settings/security.ts";
import { logFormatOption, logsJson, messages, print, sessionMessage, useLogFormat } from "../terminal/messages.ts";

export default command({
  meta: { name: "daemon", description: "Run the session daemon: the directory of sessions, one per cluster" },
  args: {
    host: {
      type: "string",
      description: "Address to listen on; servers it starts listen on it too",
      valueHint: "ADDRESS",
      default: DEFAULT_HOST,
    },
    port: {
      type: "string",
      description: "Port to listen on; 0 takes a free one",
      valueHint: "PORT",
      default: String(DEFAULT_PORT),
    },
    ...tlsOptions,
    ...logFormatOption,
    autostarted: { type: "boolean", description: "End a minute after the last session (used by dsm itself)" },
  },
  manual: {
    details: [
      "On loopback it is started by whoever needs it and ends a minute after its last session. For several machines start it by hand on one of them with --host; it makes a token, which the others need too.",
      "Opened in a browser, its address is the dashboard: what every session does, who waits for whom, and the memory live. From another machine it is reached by ssh -L 4200:ADDRESS:4200 ADDRESS.",
    ],
    examples: [
      { does: "For this machine alone, until ^C", line: "dsm daemon" },
      { does: "For a cluster", line: "dsm daemon --host 10.0.0.1" },
      {
        does: "The same with TLS",
        line: "dsm daemon --host 10.0.0.1 --tls-ca ca.pem --tls-cert 10.0.0.1.pem --tls-key 10.0.0.1-key.pem",
      },
    ],
  },
  async run({ args }) {
    useLogFormat(args["log-format"], "daemon");
    const autostarted = args.autostarted === true;
    const host = args.host;
    const port = readPort(args.port);
    const files = readTlsFiles(args);
    const tls = readTls(files, true);
    if (!isLoopback(host) && !process.env.DSM_TOKEN && makeTokenFile()) {
      messages.info(`made a token, ${tokenPath()}; copy it to the same place on the other machines`);
    }
    const security = readSecurity(host, tls);
    let daemon: Daemon;
    try {
      daemon = startDaemon({
        ...{ host, port, autostarted, security },
        serverEnvironment: securityEnvironment(security, host, files),
        serverCommand: [...selfCommand(), "server"],
        readPage: readAsset,
        log: (line, session) => {
          if (autostarted) return;
          if (session === undefined) messages.info(line);
          else sessionMessage(session, line);
        },
      });
    } catch (error) {
      if (!(error instanceof DsmError) || error.code !== "DSM_BUSY") throw error;
      throw new DsmError("DSM_BUSY", await whoHasThePort(host, port));
    }
    const address = formatAddress(daemon.host, daemon.port);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, daemon.stop);
    if (autostarted) {
      // Whoever started this one waits for the line, then closes the pipe.
      writeSync(1, `ready ${address}\n`);
    } else {
      await print(`dsm daemon: listening on ${address}`);
      if (logsJson()) messages.info(`listening on ${address}`);
      warnReadable(host, tls);
    }
    await daemon.ended;
    if (!autostarted) messages.info("the daemon has ended; sessions that are running go on");
    return 0;
  },
});

/** For roles that listen: said once, at the start. */
export function warnReadable(host: string, tls: Tls | null): void {
  if (isLoopback(host) || tls !== null) return;
  messages.warn(`without TLS who is on the way can read and change what goes over ${host}; see "dsm cert --help"`);
}

async function whoHasThePort(host: string, port: number): Promise<string> {
  const local = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  const address = formatAddress(local, port);
  try {
    const { pid } = await createDirectory({ address, autostart: false }).health();
    return `a dsm daemon is already running at ${address} (process ${pid}); use it, or choose another --port`;
  } catch {
    return `something else is listening on ${formatAddress(host, port)}; choose another --port`;
  }
}
