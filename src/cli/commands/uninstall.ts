/** `dsm uninstall`: removes exactly what `dsm install` has put there. */
import { join, resolve } from "node:path";
import { DsmError } from "../../core/base/errors.ts";
import { command } from "../command.ts";
import { MANIFEST, readManifest, removeEmpty, removeFile } from "../install/manifest.ts";
import { jsonOption } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";
import { prefixOption } from "./install.ts";

export default command({
  meta: { name: "uninstall", description: "Remove exactly what dsm install has put there" },
  args: { ...prefixOption, ...jsonOption },
  manual: {
    details: ["Files that dsm has not installed stay, and so do the folders that hold them."],
    examples: [
      { does: "Undo sudo dsm install", line: "sudo dsm uninstall" },
      { does: "Undo an install for yourself", line: "dsm uninstall --prefix ~/.local" },
    ],
  },
  async run({ args }) {
    const prefix = resolve(args.prefix);
    const manifest = readManifest(prefix);
    if (!manifest) {
      throw new DsmError(
        "DSM_INVALID",
        `dsm is not installed under ${prefix}; give the --prefix it was installed with`,
      );
    }
    // The manifest goes last, so that an interrupted uninstall can be repeated.
    const files = [...manifest.files].filter((path) => path !== MANIFEST);
    const removed = [...files, MANIFEST].filter((path) => removeFile(join(prefix, path)));
    removeEmpty(prefix, manifest.directories);
    if (args.json) await printJson({ prefix, removed });
    else await print(removed.map((path) => join(prefix, path)).join("\n"));
    return 0;
  },
});
