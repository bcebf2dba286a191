/** `dsm daemon`: the directory of sessions, its HTTP API and the dashboard. An autostarted one ends when it is idle. */
import { writeSync } from "node:fs";
import { hostname, networkInterfaces } from "node:os";
import type { Security, Tls } from "../../core/access/auth.ts";
import { DsmError } from "../../core/base/errors.ts";
import { DEFAULT_HOST, DEFAULT_PORT } from "../../core/base/limits.ts";
import { formatAddress, isLoopback } from "../../core/base/names.ts";
import type { DaemonAuthority } from "../../daemon/certificates.ts";
import { type Daemon, startDaemon } from "../../daemon/daemon.ts";
import { command } from "../command.ts";
import { readAsset } from "../install/assets.ts";
import { RUNNING_FILE, selfCommand } from "../install/executable.ts";
import { readPort } from "../settings/options.ts";
import {
  checkFingerprint,
  makeTokenFile,
  readSecurity,
  readTls,
  readTlsFiles,
  readTlsOff,
  readTokenFile,
  securityEnvironment,
  tlsOptions,
  tokenPath,
} from "../settings/security.ts";
import {
  announce,
  beginLog,
  logFormatOption,
  logsJson,
  messages,
  sessionMessage,
  useLogFormat,
} from "../terminal/messages.ts";
import { daemonClient } from "../user-daemon-client.ts";

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
      "On loopback the first process that needs a daemon starts it, and it ends a minute after its last session. For several machines start it by hand on one of them with --host; it makes a token, which the others need, too. Traffic between machines uses TLS: the daemon makes an authority, ~/.config/dsm/authority.pem, whose fingerprint is in the token, and signs the certificates of servers and arbiters.",
      "Opened in a browser, its address is the dashboard: what every session does, which ranks wait for which, and the memory live. Another machine reaches it by ssh -L 4200:ADDRESS:4200 ADDRESS.",
    ],
    examples: [
      { does: "For this machine alone, until ^C", line: "dsm daemon" },
      { does: "For a cluster", line: "dsm daemon --host 10.0.0.1" },
      {
        does: "With certificates of your own",
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
    const tlsOff = readTlsOff(args);
    // Reports an unusable token before it makes an authority or a token file.
    if (!isLoopback(host) && !process.env.DSM_TOKEN) readTokenFile();
    const authority = isLoopback(host) || tls !== null || tlsOff ? null : await makeAuthority(host, autostarted);
    const security = daemonSecurity(host, tls, tlsOff, authority, autostarted);
    let daemon: Daemon;
    try {
      daemon = startDaemon({
        ...{ host, port, autostarted, security, authority },
        serverEnvironment: securityEnvironment(security, host, files),
        serverCommand: [...selfCommand(), "server"],
        serverFile: RUNNING_FILE,
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
      // The process that started this one waits for the line, then closes the pipe.
      writeSync(1, `ready ${address}${authority === null ? "" : ` ${authority.authority.fingerprint}`}\n`);
    } else {
      beginLog();
      await announce(`dsm daemon: listening on ${address}`);
      if (logsJson()) messages.info(`listening on ${address}`);
      warnReadable(host, tls ?? authority);
    }
    await daemon.ended;
    if (!autostarted) messages.info("the daemon has ended; sessions that are running go on");
    return 0;
  },
});

/** makeAuthority returns the user's authority, or a temporary one for the daemon of one `dsm run`. */
async function makeAuthority(host: string, passing: boolean): Promise<DaemonAuthority> {
  // Loaded on demand: the library loads slowly, and a daemon on loopback does not need it.
  const { certifyDaemon, makeDaemonAuthority } = await import("../../transport/authority.ts");
  const authority = passing
    ? await makeDaemonAuthority()
    : await (await import("../files/authority-files.ts")).daemonAuthority();
  return { authority, own: await certifyDaemon(authority, ownNames(host)) };
}

/** ownNames returns the names by which browsers may reach the daemon. dsm itself verifies the name of the role only. */
function ownNames(host: string): string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address));
  const all = host === "0.0.0.0" || host === "::";
  return [host, ...(all ? addresses : []), hostname(), "localhost", "127.0.0.1", "::1"].map(
    (name) => name.split("%")[0] as string,
  );
}

/**
 * daemonSecurity returns token and TLS of the daemon. It makes a token if there is none, with the fingerprint of the
 * authority.
 */
function daemonSecurity(
  host: string,
  tls: Tls | null,
  tlsOff: boolean,
  authority: DaemonAuthority | null,
  passing: boolean,
): Security {
  const fingerprint = authority?.authority.fingerprint ?? null;
  if (!isLoopback(host) && !process.env.DSM_TOKEN) {
    const done = makeTokenFile(fingerprint);
    if (done === "made") messages.info(`made a token, ${tokenPath()}; copy it to the same place on the other machines`);
    if (done === "extended") {
      messages.info(`the token now names this daemon's authority; copy ${tokenPath()} to the other machines again`);
    }
  }
  const security = readSecurity(host, tls, tlsOff);
  if (fingerprint === null) return security;
  checkFingerprint(security, fingerprint, process.env.DSM_TOKEN ? "DSM_TOKEN" : `the token in ${tokenPath()}`);
  if (!passing && security.fingerprint === null) {
    const variable = process.env.DSM_TOKEN ? "DSM_TOKEN" : "DSM_TOKEN_FILE";
    messages.info(`${variable} names no authority; on the other machines add this to the token: :${fingerprint}`);
  }
  return { ...security, fingerprint };
}

/** warnReadable warns once, at the start of a role that listens without TLS. */
export function warnReadable(host: string, tls: object | null): void {
  if (isLoopback(host) || tls !== null) return;
  messages.warn(
    `without TLS an attacker on the network can read and change the memory of all sessions and all traffic with ${host}; leave out --tls-off`,
  );
}

async function whoHasThePort(host: string, port: number): Promise<string> {
  const local = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  const address = formatAddress(local, port);
  try {
    const { pid } = await daemonClient({ address, autostart: false }).health();
    return `a dsm daemon is already running at ${address} (process ${pid}); use it, or choose another --port`;
  } catch {
    return `something else is listening on ${formatAddress(host, port)}; choose another --port`;
  }
}
