/** `npm run check`: types, format and lint, and that what is generated from tables is what they say. */
import { join } from "node:path";
import { Glob } from "bun";
import { BuildError, command, progress, root, runScript } from "./steps.ts";

const tsc = [process.execPath, join(root, "node_modules/typescript/bin/tsc"), "--noEmit", "--pretty", "false"];

const clangFormat = [join(root, "node_modules/.bin/clang-format"), "--dry-run", "-Werror"];
const sources = [...new Glob("native/{src/*,guard}/*.{c,h}").scanSync(root)].map((path) => join(root, path));

const checks: Array<[name: string, argv: string[]]> = [
  ["types", tsc],
  ["types of the dashboard", [...tsc, "-p", join(root, "src/daemon/dashboard")]],
  ["format and lint", [join(root, "node_modules/@biomejs/cli-linux-x64/biome"), "ci", "--colors=off", "."]],
  ["format of C", [...clangFormat, ...sources]],
  ["native/src/link/wire.h", [process.execPath, join(root, "scripts/wire.ts"), "--check"]],
  ["native/src/base/settings.h", [process.execPath, join(root, "scripts/settings.ts"), "--check"]],
];

await runScript(async () => {
  let failed = 0;
  for (const [name, argv] of checks) {
    try {
      await command(argv);
      progress.success(name);
    } catch (error) {
      if (!(error instanceof BuildError)) throw error;
      progress.error(`${name}: ${error.message}`);
      failed += 1;
    }
  }
  if (failed > 0) throw new BuildError(`${failed} of ${checks.length} checks failed`);
});
