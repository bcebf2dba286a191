/** `dsm arbiter`: one node's arbiter for a session. libdsm starts it and waits for the line that says it is ready. */
import { writeSync } from "node:fs";
import { hostname } from "node:os";
import { startArbiter } from "../../arbiter/arbiter.ts";
import { DsmError, systemCode } from "../../core/base/errors.ts";
import { NAME_MAX } from "../../core/base/limits.ts";
import { arbiterSocketPath } from "../../core/base/names.ts";
import { obtainCredentials } from "../../transport/credentials.ts";
import { command } from "../command.ts";
import { loadApplyRuns } from "../install/apply-runs.ts";
import { connectionsMax } from "../settings/connections-max.ts";
import {
  autostartOption,
  daemonOption,
  fromEnvironment,
  readAutostart,
  readDaemon,
  readName,
  readSessionSettings,
  readSetting,
  readWhole,
  sessionOptions,
  UsageError,
  valueOption,
} from "../settings/options.ts";
import { runtimeDirectory } from "../settings/runtime-directory.ts";
import { readSecurity } from "../settings/security.ts";
import { beginLog, logFormatOption, messages, useLogFormat } from "../terminal/messages.ts";
import { daemonClient } from "../user-daemon-client.ts";

export default command({
  meta: { name: "arbiter", description: "Run one node's arbiter for a session (the library starts it)" },
  args: {
    session: valueOption("session"),
    node: valueOption("node"),
    ...daemonOption,
    ...sessionOptions,
    socket: { type: "string", description: "Unix socket to listen on", valueHint: "PATH" },
    "status-fd": { type: "string", description: "Descriptor to report the start on [1]", valueHint: "FD" },
    ...autostartOption,
    ...logFormatOption,
  },
  manual: {
    details: [
      "The first process of a session on a node starts it, and it ends with the last. It reports its start in lines: note TEXT, then ready, or error CODE TEXT.",
    ],
    examples: [
      { does: "By hand, to see its messages", line: "dsm arbiter --session heat --processes 4" },
      { does: "As another node on the same host", line: "dsm arbiter --session heat --processes 4 --node b" },
    ],
  },
  async run({ args }) {
    useLogFormat(args["log-format"], "arbiter", fromEnvironment(args.session, "DSM_SESSION"));
    const session = fromEnvironment(args.session, "DSM_SESSION");
    if (session === undefined) throw new UsageError("the session is missing; give --session NAME");
    const statusFd = args["status-fd"];
    const fd = statusFd === undefined ? 1 : readWhole("status-fd", statusFd);
    // Lines: "note TEXT", "ready", "error CODE TEXT". The library that started this arbiter reads them.
    const say = (line: string): void => {
      try {
        writeSync(fd, `${line.replaceAll("\n", " ")}\n`);
      } catch {
        // The process that started the arbiter has exited. Others may connect.
      }
    };
    try {
      readName("session", session);
      const settings = readSessionSettings(args);
      const node = readSetting("node", args.node) ?? readName("node", hostname().slice(0, NAME_MAX));
      const { address, host } = readDaemon(args.daemon);
      const security = readSecurity(host);
      const reconnectMs = readSetting("reconnectTimeoutMs");
      const heartbeatMs = readSetting("heartbeatTimeoutMs");
      const directory = daemonClient({
        ...{ address, security },
        autostart: readAutostart(args.autostart),
        note: (text) => say(`note ${text}`),
      });
      const credentials = await obtainCredentials(directory, "arbiter");
      const arbiter = await startArbiter({
        session,
        node,
        ...settings,
        connectionsMax: connectionsMax("arbiter"),
        applyRuns: await loadApplyRuns(),
        ...(reconnectMs === undefined ? {} : { reconnectMs }),
        ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
        socket: args.socket ?? arbiterSocketPath(runtimeDirectory(), address, session, node),
        security: credentials.security,
        directory,
      });
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, arbiter.stop);
      if (statusFd === undefined) beginLog();
      say("ready");
      return await arbiter.ended;
    } catch (error) {
      if (!(error instanceof DsmError)) {
        say(`error ${systemCode(error)} ${error instanceof Error ? error.message : String(error)}`);
        throw error;
      }
      say(`error ${error.code} ${error.message}`);
      // The process that asked for the status shows it; without one it goes to stderr.
      if (statusFd === undefined) messages.error(error.message);
      return error instanceof UsageError ? 2 : 1;
    }
  },
});
