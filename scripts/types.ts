/**
 * dist/client/types.txt: all that a program which imports "dsm" can see, which `dsm init` puts into projects as dsm.d.ts.
 *
 * The compiler has written one declaration file for each source; here each becomes an ambient module of its own, "dsm"
 * the client's index. So the file works wherever a tsconfig.json includes it, with nothing installed.
 */
import { dirname, join, posix } from "node:path";
import { files, replaceFile, root, runStep } from "./steps.ts";

const FOLDER = "dist/client/types";
const ENTRY = "client/index";

export async function typesStep() {
  return runStep({
    name: "types",
    inputs: [...(await files(`${FOLDER}/**/*.d.ts`)), "scripts/types.ts"],
    outputs: ["dist/client/types.txt"],
    run: async () => replaceFile(join(root, "dist/client/types.txt"), await ambientModules(join(root, FOLDER))),
  });
}

/** Every module that the entry leads to. */
async function ambientModules(folder: string): Promise<string> {
  const blocks: string[] = [];
  const known = new Set([ENTRY]);
  for (const module of known) {
    const text = await Bun.file(join(folder, `${module}.d.ts`)).text();
    const body = text
      .replace(/(from |import\()"(\.[^"]+)\.js"/g, (_, before: string, path: string) => {
        const target = posix.join(dirname(module), path);
        known.add(target);
        return `${before}"dsm/${target}"`;
      })
      .replace(/^(export )?declare /gm, "$1"); // an ambient module is all declarations
    const name = module === ENTRY ? "dsm" : `dsm/${module}`;
    blocks.push(`declare module "${name}" {\n${body.trimEnd().replace(/^(?=.)/gm, "  ")}\n}\n`);
  }
  return `// The types of "dsm", for editors and tsc. Made by dsm's build; "dsm init" writes it anew.\n\n${blocks.join("\n")}`;
}
