/** `dsm remove`: ends a session. */
import { command } from "../command.ts";
import { noSession } from "../find-session.ts";
import { daemonOption, readDaemon, readName } from "../settings/options.ts";
import { messages } from "../terminal/messages.ts";
import { daemonClient } from "../user-daemon-client.ts";

export default command({
  meta: { name: "remove", description: "End a session: its processes get an error from their next call" },
  args: {
    name: { type: "positional", required: true, description: "Session to end", valueHint: "SESSION" },
    ...daemonOption,
  },
  manual: {
    examples: [
      { does: "End session heat", line: "dsm remove heat" },
      { does: "End one of a daemon elsewhere", line: "dsm remove heat --daemon 10.0.0.1:4200" },
    ],
  },
  async run({ args }) {
    const { address } = readDaemon(args.daemon);
    const name = readName("session", args.name);
    if (!(await daemonClient({ address, autostart: false }).remove(name))) {
      throw noSession(name, address);
    }
    messages.info(`session "${name}" has been removed`);
    return 0;
  },
});
