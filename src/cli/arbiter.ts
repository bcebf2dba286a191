import { writeSync } from "node:fs";
import { hostname } from "node:os";
import { startArbiter } from "../arbiter/arbiter.ts";
import { DsmError, systemCode } from "../core/errors.ts";
import { NAME_MAX } from "../core/limits.ts";
import { arbiterSocketPath } from "../core/names.ts";
import { obtainCredentials } from "../link/credentials.ts";
import { loadApplyRuns } from "./apply-runs.ts";
import { command } from "./command.ts";
import { connectionsMax } from "./descriptors.ts";
import { createDirectory } from "./directory.ts";
import { logFormatOption, messages, useLogFormat } from "./messages.ts";
import {
  autostartOption,
  daemonOption,
  elasticOption,
  fromEnvironment,
  onLossOption,
  orderOption,
  readAutostart,
  readDaemon,
  readElastic,
  readHeartbeatTimeout,
  readName,
  readOnLoss,
  readOrder,
  readProcesses,
  readReconnectTimeout,
  readSize,
  readWhole,
  UsageError,
} from "./options.ts";
import { runtimeDirectory } from "./runtime-directory.ts";
import { readSecurity } from "./security.ts";

export default command({
  meta: { name: "arbiter", description: "Run one node's arbiter for a session (the library starts it)" },
  args: {
    session: { type: "string", description: "Name of the session [DSM_SESSION]", valueHint: "SESSION" },
    node: { type: "string", description: "Name of this node [DSM_NODE, else the host's name]", valueHint: "NAME" },
    ...daemonOption,
    processes: { type: "string", description: "Processes the session is for [DSM_PROCESSES]", valueHint: "N" },
    size: { type: "string", description: "Shared memory, such as 64KiB [DSM_SIZE]", valueHint: "BYTES" },
    ...orderOption,
    ...onLossOption,
    ...elasticOption,
    socket: { type: "string", description: "Unix socket to listen on", valueHint: "PATH" },
    "status-fd": { type: "string", description: "Descriptor to report the start on [1]", valueHint: "FD" },
    ...autostartOption,
    ...logFormatOption,
  },
  manual: {
    details: [
      "The first process of a session on a node starts it, and it ends with the last. Its start is told in lines: note TEXT, then ready, or error CODE TEXT.",
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
    // One line for each: "note TEXT", "ready", "error CODE TEXT". The library that started us reads them.
    const say = (line: string): void => {
      try {
        writeSync(fd, `${line.replaceAll("\n", " ")}\n`);
      } catch {
        // The process that wanted to know is gone. Others may come.
      }
    };
    try {
      const processes = fromEnvironment(args.processes, "DSM_PROCESSES");
      const size = fromEnvironment(args.size, "DSM_SIZE");
      const order = fromEnvironment(args.order, "DSM_ORDER");
      const onLoss = fromEnvironment(args["on-loss"], "DSM_ON_LOSS");
      const node = readName("node", fromEnvironment(args.node, "DSM_NODE") ?? hostname().slice(0, NAME_MAX));
      const { address, host } = readDaemon(args.daemon);
      const security = readSecurity(host);
      const reconnectMs = fromEnvironment(undefined, "DSM_RECONNECT_TIMEOUT_MS");
      const heartbeatMs = fromEnvironment(undefined, "DSM_HEARTBEAT_TIMEOUT_MS");
      readName("session", session);
      const directory = createDirectory({
        ...{ address, security },
        autostart: readAutostart(args.autostart),
        note: (text) => say(`note ${text}`),
      });
      const credentials = await obtainCredentials(directory, "arbiter");
      const arbiter = await startArbiter({
        session,
        node,
        ...(processes === undefined ? {} : { processes: readProcesses(processes) }),
        ...(size === undefined ? {} : { size: readSize(size) }),
        ...(order === undefined ? {} : { order: readOrder(order) }),
        ...(onLoss === undefined ? {} : { onLoss: readOnLoss(onLoss) }),
        connectionsMax: connectionsMax("arbiter"),
        elastic: readElastic(args.elastic),
        applyRuns: await loadApplyRuns(),
        ...(reconnectMs === undefined ? {} : { reconnectMs: readReconnectTimeout(reconnectMs) }),
        ...(heartbeatMs === undefined ? {} : { heartbeatMs: readHeartbeatTimeout(heartbeatMs) }),
        socket: args.socket ?? arbiterSocketPath(runtimeDirectory(), address, session, node),
        security: credentials.security,
        directory,
      });
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, arbiter.stop);
      say("ready");
      return await arbiter.ended;
    } catch (error) {
      if (!(error instanceof DsmError)) {
        say(`error ${systemCode(error)} ${error instanceof Error ? error.message : String(error)}`);
        throw error;
      }
      say(`error ${error.code} ${error.message}`);
      // Whoever asked for the status shows it; a person is told here.
      if (statusFd === undefined) messages.error(error.message);
      return 1;
    }
  },
});
