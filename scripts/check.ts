/** `npm run check`: types, format and lint of TypeScript, and that the generated C header is that of the protocol. */
import { join } from "node:path";
import { BuildError, command, progress, root, runScript } from "./steps.ts";

const tsc = [process.execPath, join(root, "node_modules/typescript/bin/tsc"), "--noEmit", "--pretty", "false"];

const checks: Array<[name: string, argv: string[]]> = [
  ["types", tsc],
  ["types of the dashboard", [...tsc, "-p", join(root, "src/daemon/dashboard")]],
  ["format and lint", [join(root, "node_modules/@biomejs/cli-linux-x64/biome"), "ci", "--colors=off", "."]],
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
