/** `dsm why`: who waits for what, in words. They come from core/observe/why.ts. */
import { DsmError } from "../../core/base/errors.ts";
import { explain, isAnybodyWaiting } from "../../core/observe/why.ts";
import { command } from "../command.ts";
import { daemonOption, jsonOption, readDaemon, readName } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";
import { daemonClient } from "../user-daemon-client.ts";

/** Told apart from failures, which are 1, and a wrong command line, which is 2. */
const WAITING_EXIT_CODE = 3;

export default command({
  meta: {
    name: "why",
    description: "Say in words who waits for what, and who has not arrived",
  },
  args: {
    name: { type: "positional", required: true, description: "Session that hangs", valueHint: "SESSION" },
    ...jsonOption,
    ...daemonOption,
  },
  manual: {
    details: [
      "Names who is in a barrier and who has not come to it, who waits for which semaphore or lock and who has that, circles of processes that wait for each other, sleepers, processes that were lost, and those that have not joined.",
    ],
    examples: [
      { does: "Why session heat hangs", line: "dsm why heat" },
      { does: "The same for a program", line: "dsm why heat --json" },
    ],
    exits: { [WAITING_EXIT_CODE]: "A process waits." },
  },
  async run({ args }) {
    const { address } = readDaemon(args.daemon);
    const name = readName("session", args.name);
    const session = await daemonClient({ address, autostart: false }).get(name);
    if (!session) throw new DsmError("DSM_REFUSED", `there is no session "${name}" at ${address}; see "dsm sessions"`);
    if (!session.answered) {
      throw new DsmError("DSM_UNREACHABLE", `the server of session "${name}" (process ${session.pid}) does not answer`);
    }
    const findings = explain(session);
    const waits = isAnybodyWaiting(session);
    if (args.json) await printJson({ session: name, waits, findings });
    else await print(findings.map(({ text }) => text).join("\n"));
    return waits ? WAITING_EXIT_CODE : 0;
  },
});
