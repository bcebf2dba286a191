/** `dsm licenses`: the licence of dsm and of everything inside the program. */
import { command } from "../command.ts";
import { readAsset } from "../install/assets.ts";
import { jsonOption } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";

export default command({
  meta: { name: "licenses", description: "Show the licence of dsm and of everything this program contains" },
  args: { ...jsonOption },
  manual: {
    examples: [
      { does: "Read them", line: "dsm licenses | less" },
      { does: "The same for a program", line: "dsm licenses --json" },
    ],
  },
  async run({ args }) {
    const text = new TextDecoder().decode(await readAsset("licenses.txt"));
    if (args.json) await printJson({ licenses: text });
    else await print(text);
    return 0;
  },
});
