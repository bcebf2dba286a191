import { defineCommand } from "citty";
import { readAsset } from "./assets.ts";
import { print, printJson } from "./messages.ts";
import { jsonOption } from "./options.ts";

export default defineCommand({
  meta: { name: "licenses", description: "Show the licence of dsm and of everything this program contains" },
  args: { ...jsonOption },
  async run({ args }) {
    const text = new TextDecoder().decode(await readAsset("licenses.txt"));
    if (args.json) await printJson({ licenses: text });
    else await print(text);
    return 0;
  },
});
