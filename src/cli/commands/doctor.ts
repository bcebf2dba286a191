/** `dsm doctor`: whether this machine can run dsm. The checks are in ../doctor. */
import { DEFAULT_ORDER, usesRing } from "../../core/base/consistency.ts";
import { DEFAULT_SIZE, NODES_MAX } from "../../core/base/limits.ts";
import { command } from "../command.ts";
import { checkChain, checkDaemon, checkLibrary } from "../doctor/chain.ts";
import { type Finding, notTried } from "../doctor/finding.ts";
import { checkLimits } from "../doctor/limits.ts";
import { checkMachine, checkSignals } from "../doctor/machine.ts";
import { checkMemory, fileSizeOf } from "../doctor/memory.ts";
import { checkTls, checkToken } from "../doctor/security.ts";
import {
  daemonOption,
  jsonOption,
  readDaemon,
  readSetting,
  readWhole,
  valueOption,
  wrongValue,
} from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";
import { styled } from "../terminal/style.ts";
import { table } from "../terminal/table.ts";

export default command({
  meta: { name: "doctor", description: "Check whether this machine can run dsm, and say what to do if not" },
  args: {
    size: valueOption("size", { does: "Check that a session of this size fits", otherwise: "1MiB" }),
    nodes: { type: "string", description: "Nodes that the session has on this machine [1]", valueHint: "N" },
    ...daemonOption,
    ...jsonOption,
  },
  manual: {
    details: [
      "It looks at the processor and kernel, the folders for sockets and libraries, the room for maps in /dev/shm and in memory, the limits of this shell, container or service (ulimit, control groups), token and certificates, and the daemon. The last check but one is a real one: a process joins a session of its own, stores, and leaves.",
      "Run it where the programs run: in the same container, as the same user, from the same shell.",
    ],
    examples: [
      { does: "Check this machine", line: "dsm doctor" },
      { does: "Check that 2 nodes with 1 GiB of shared memory fit here", line: "dsm doctor --size 1GiB --nodes 2" },
      { does: "Check that the daemon of a cluster is reached from here", line: "dsm doctor --daemon 10.0.0.1:4200" },
    ],
    exits: { "1": "A check failed." },
  },
  async run({ args }) {
    const daemon = readDaemon(args.daemon);
    const demand = {
      size: readSetting("size", args.size) ?? DEFAULT_SIZE,
      nodes: readNodes(args.nodes),
      withRing: usesRing(readSetting("order") ?? DEFAULT_ORDER),
    };
    const limits = checkLimits(fileSizeOf(demand));
    const findings = [...checkMachine(), ...checkMemory(demand), ...limits];
    findings.push(checkToken(daemon.host), ...checkTls(daemon.host), ...checkSignals());
    findings.push(...(await checkWhole(daemon, limits)));
    const ok = findings.every(({ state }) => state !== "failure");
    if (args.json) await printJson({ ok, findings });
    else await print(report(findings));
    return ok ? 0 : 1;
  },
});

/** The checks that start processes and threads, which a lack of them would end without a word. */
async function checkWhole(daemon: { host: string; address: string }, limits: Finding[]): Promise<Finding[]> {
  const lack = limits.find(({ check, state }) => check === "processes" && state === "failure");
  if (lack !== undefined) return ["library", "trapped store", "daemon"].map((check) => notTried(check, lack.check));
  const library = await checkLibrary();
  const chain = await checkChain();
  return [library, chain, await checkDaemon(daemon, chain.state === "ok")];
}

function readNodes(text = "1"): number {
  const nodes = readWhole("nodes", text);
  if (nodes < 1 || nodes > NODES_MAX) throw wrongValue(`${nodes} nodes are not possible; give 1 to ${NODES_MAX}`);
  return nodes;
}

const MARKS = {
  ok: styled("green", "ok"),
  warning: styled("yellow", "warning"),
  failure: styled(["bold", "red"], "FAILURE"),
};

function report(findings: Finding[]): string {
  const rows = findings.flatMap(({ check, state, found, advice }) => [
    [MARKS[state], check, found],
    ...(advice === undefined ? [] : [["", "", `-> ${advice}`]]),
  ]);
  return table(rows);
}
