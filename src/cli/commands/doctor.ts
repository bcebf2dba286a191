/** `dsm doctor`: whether this machine can run dsm. The checks are in ../doctor. */
import { command } from "../command.ts";
import { checkChain, checkDaemon, checkLibrary } from "../doctor/chain.ts";
import type { Finding } from "../doctor/finding.ts";
import { checkMachine, checkSignals } from "../doctor/machine.ts";
import { checkTls, checkToken } from "../doctor/security.ts";
import { daemonOption, jsonOption, readDaemon } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";
import { styled } from "../terminal/style.ts";
import { table } from "../terminal/table.ts";

export default command({
  meta: { name: "doctor", description: "Check whether this machine can run dsm, and say what to do if not" },
  args: { ...daemonOption, ...jsonOption },
  manual: {
    details: ["The last check runs a process that joins a session of its own, stores, and leaves."],
    examples: [
      { does: "Check this machine", line: "dsm doctor" },
      { does: "Check that this machine reaches the daemon of a cluster", line: "dsm doctor --daemon 10.0.0.1:4200" },
    ],
    exits: { "1": "A check failed." },
  },
  async run({ args }) {
    const daemon = readDaemon(args.daemon);
    const findings = checkMachine();
    findings.push(checkToken(daemon.host), ...checkTls(daemon.host));
    findings.push(...checkSignals(), await checkLibrary());
    const chain = await checkChain();
    findings.push(chain, await checkDaemon(daemon, chain.state === "ok"));
    const ok = findings.every(({ state }) => state !== "failure");
    if (args.json) await printJson({ ok, findings });
    else await print(report(findings));
    return ok ? 0 : 1;
  },
});

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
