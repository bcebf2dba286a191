import { defineCommand } from "citty";
import { DsmError } from "../core/errors.ts";
import { createDirectory } from "./directory.ts";
import { messages } from "./messages.ts";
import { daemonOption, readDaemon, readName } from "./options.ts";

export default defineCommand({
  meta: { name: "remove", description: "End a session: its processes get an error from their next call" },
  args: {
    name: { type: "positional", required: true, description: "Session to end" },
    ...daemonOption,
  },
  async run({ args }) {
    const { address } = readDaemon(args.daemon);
    const name = readName("session", args.name);
    if (!(await createDirectory({ address, autostart: false }).remove(name))) {
      throw new DsmError("DSM_REFUSED", `there is no session "${name}" at ${address}; see "dsm sessions"`);
    }
    messages.info(`session "${name}" has been removed`);
    return 0;
  },
});
