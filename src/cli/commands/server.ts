/** `dsm server`: the server of one session, new, restored or taking over. The daemon starts it. */
import { writeSync } from "node:fs";
import { checkListening, type Tls } from "../../core/access/auth.ts";
import { slotOf } from "../../core/base/addresses.ts";
import { DsmError } from "../../core/base/errors.ts";
import { ADDRESS_SLOTS, DEFAULT_HOST } from "../../core/base/limits.ts";
import { formatAddress, isLoopback } from "../../core/base/names.ts";
import { startServer } from "../../server/server.ts";
import { obtainCredentials } from "../../transport/credentials.ts";
import { isOwnPeer, tellsPeers } from "../../transport/peer-user.ts";
import { sharing } from "../../transport/shared-memory.ts";
import { command } from "../command.ts";
import { readSnapshot } from "../files/snapshot-file.ts";
import { loadApplyRuns } from "../install/apply-runs.ts";
import { connectionsMax } from "../settings/connections-max.ts";
import {
  autostartOption,
  daemonOption,
  fromEnvironment,
  readAutostart,
  readDaemon,
  readName,
  readPort,
  readSessionSettings,
  readWhole,
  restoreOption,
  sessionOptions,
  UsageError,
  valueOption,
  wrongValue,
} from "../settings/options.ts";
import { checkTlsListens, readSecurity, readTls, readTlsFiles, readTlsOff, tlsOptions } from "../settings/security.ts";
import { announce, beginLog, logFormatOption, logsJson, messages, useLogFormat } from "../terminal/messages.ts";
import { type Progress, startProgress } from "../terminal/progress.ts";
import { daemonClient } from "../user-daemon-client.ts";
import { warnReadable } from "./daemon.ts";

export default command({
  meta: { name: "server", description: "Run the server of one session (the daemon starts it when it is needed)" },
  args: {
    session: valueOption("session"),
    ...sessionOptions,
    ...restoreOption,
    host: { type: "string", description: "Address to listen on", valueHint: "ADDRESS", default: DEFAULT_HOST },
    port: { type: "string", description: "Port to listen on; 0 takes a free one", valueHint: "PORT", default: "0" },
    ...tlsOptions,
    ...daemonOption,
    ...autostartOption,
    instance: {
      type: "string",
      description: "Identifies the session among those of its name (given by the daemon)",
      valueHint: "ID",
    },
    epoch: {
      type: "string",
      description: "Number of this server of the session (given by the daemon)",
      valueHint: "N",
    },
    predecessor: {
      type: "string",
      description: "Whether the previous server is gone or silent (given by the daemon)",
      valueHint: "STATE",
    },
    "report-progress": { type: "boolean", description: "Report how much of the snapshot has been read, for dsm run" },
    slot: { type: "string", description: "Address slot of the map (given by the daemon)", valueHint: "K" },
    ...logFormatOption,
  },
  manual: {
    examples: [
      { does: "By hand, to choose where it runs", line: "dsm server --session heat --processes 4 --size 64MiB" },
      { does: "Begin a session with a snapshot", line: "dsm server --restore heat.snap" },
    ],
  },
  async run({ args }) {
    useLogFormat(args["log-format"], "server", fromEnvironment(args.session, "DSM_SESSION"));
    const restore = args.restore === undefined ? undefined : restored(args.restore, args["report-progress"] === true);
    const saved = restore?.image.config;
    const given = fromEnvironment(args.session, "DSM_SESSION") ?? saved?.name;
    if (given === undefined) throw new UsageError("the session is missing; give --session NAME");
    const session = readName("session", given);
    const settings = readSessionSettings(args, saved);
    const { processes } = settings;
    if (processes === undefined) throw new UsageError("the number of processes is missing; give --processes N");
    const daemon = readDaemon(args.daemon);
    const { instance } = args;
    if (instance !== undefined && !/^[0-9a-f]{16}$/.test(instance)) {
      throw wrongValue(`instance "${instance}" is not 16 hex digits`);
    }
    if (isLoopback(args.host) && !isLoopback(daemon.host)) {
      throw wrongValue(`the daemon is at ${daemon.address}, but only this host reaches ${args.host}; give --host`);
    }
    const { predecessor = "gone" } = args;
    if (predecessor !== "gone" && predecessor !== "silent") {
      throw wrongValue(`predecessor "${predecessor}" is not possible; use gone or silent`);
    }
    const port = readPort(args.port);
    const epoch = args.epoch === undefined ? undefined : readWhole("epoch", args.epoch);
    const slot = args.slot === undefined ? undefined : readSlot(args.slot);
    const byHand = instance === undefined;
    const tls = readTls(readTlsFiles(args), false);
    const tlsOff = readTlsOff(args);
    const directory = daemonClient({
      address: daemon.address,
      security: readSecurity(daemon.host, tls, tlsOff),
      autostart: byHand && readAutostart(args.autostart),
      note: (text) => messages.info(text),
    });
    const own = readSecurity(args.host, tls, tlsOff);
    const refused = checkListening(own, args.host);
    if (refused !== null) throw new DsmError("DSM_INVALID", refused);
    const credentials = await obtainCredentials(directory, "server");
    checkTlsListens(credentials.security.tls);
    const server = await startServer({
      session,
      ...settings,
      processes,
      host: args.host,
      port,
      directory,
      ...(byHand ? {} : { instance }),
      ...(epoch === undefined ? {} : { epoch }),
      predecessor,
      ...(slot === undefined ? {} : { slot }),
      // The same address keeps pointers into the map valid.
      ...(restore === undefined ? {} : { restore, slot: slotOf(restore.image.config.base) }),
      endUnused: !byHand,
      connectionsMax: connectionsMax("server"),
      applyRuns: await loadApplyRuns(),
      security: { ...own, tls: credentials.security.tls },
      isOwnPeer: tellsPeers ? isOwnPeer : null,
      sharing,
    });
    credentials.renewed = () => server.useTls(credentials.security.tls as Tls);
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => server.stop());
    if (byHand) {
      beginLog();
      warnReadable(args.host, credentials.security.tls);
      const where = `session "${session}" is listening on ${formatAddress(server.host, server.port)}`;
      await announce(`dsm server: ${where}`);
      if (logsJson()) messages.info(where);
    }
    return server.ended;
  },
});

/** restored reads the snapshot, with a progress bar, or with a line for dsm run at each percent. */
function restored(file: string, report: boolean): ReturnType<typeof readSnapshot> {
  let shown = 0;
  let progress: Progress | undefined;
  try {
    return readSnapshot(file, (done, total) => {
      if (!report) {
        progress ??= startProgress(`reading ${file}`, total);
        progress.at(done);
      } else if (done - shown >= total / 100) {
        shown = done;
        writeSync(1, `progress ${done} ${total}\n`);
      }
    });
  } finally {
    progress?.end();
  }
}

function readSlot(text: string): number {
  const slot = readWhole("slot", text);
  if (slot >= ADDRESS_SLOTS) throw wrongValue(`slot ${slot} does not exist; the last one is ${ADDRESS_SLOTS - 1}`);
  return slot;
}
