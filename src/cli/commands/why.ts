/** `dsm why`: which ranks wait for what, in sentences of core/observe/why.ts. */
import { DsmError } from "../../core/base/errors.ts";
import { explain, isAnyWaiting, whySilent } from "../../core/observe/why.ts";
import { command } from "../command.ts";
import { findSession } from "../find-session.ts";
import { daemonOption, jsonOption, readDaemon } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";
import { daemonClient } from "../user-daemon-client.ts";

/** Differs from the codes of failures, 1, and of a wrong command line, 2. */
const WAITING_EXIT_CODE = 3;

export default command({
  meta: {
    name: "why",
    description: "Explain a session that hangs: which ranks wait for what, and which are missing",
  },
  args: {
    name: {
      type: "positional",
      required: false,
      description: "Session that hangs; the only one if left out",
      valueHint: "SESSION",
    },
    ...jsonOption,
    ...daemonOption,
  },
  manual: {
    details: [
      "Names the ranks in a barrier and those that have not arrived, the ranks that wait for semaphores and locks with the owners of the locks, deadlocks, sleepers, lost processes, and processes that have not joined.",
    ],
    examples: [
      { does: "Why session heat hangs", line: "dsm why heat" },
      { does: "Why the only session hangs, for a program", line: "dsm why --json" },
    ],
    exits: { [WAITING_EXIT_CODE]: "A process waits." },
  },
  async run({ args }) {
    const { address } = readDaemon(args.daemon);
    const session = await findSession({ daemon: daemonClient({ address, autostart: false }), address }, args.name);
    const { name } = session;
    if (!session.answered) {
      throw new DsmError("DSM_UNREACHABLE", `session "${name}": ${whySilent(session)} (process ${session.pid})`);
    }
    const findings = explain(session);
    const waits = isAnyWaiting(session);
    if (args.json) await printJson({ session: name, waits, findings });
    else await print(findings.map(({ text }) => text).join("\n"));
    return waits ? WAITING_EXIT_CODE : 0;
  },
});
