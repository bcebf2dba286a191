/**
 * `npm run docs`: the reference of the TypeScript and the C interface, in dist/docs, made by TypeDoc from the comments in
 * src/client and native/include. Fails when something that can be called has none.
 */
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { readHeader, undocumented, writeReference } from "./docs/c-reference.ts";
import { BuildError, command, progress, replaceFile, root, runScript } from "./steps.ts";

const HEADERS = ["native/include/dsm/dsm.h", "native/include/dsm/dsm_util.h"];
const typedoc = join(root, "scripts/docs/node_modules/typedoc/bin/typedoc");
/** What must have a comment; a property may say all with its name and type. */
const DOCUMENTED = [
  "Enum",
  "EnumMember",
  "Variable",
  "Function",
  "Class",
  "Interface",
  "Method",
  "Accessor",
  "TypeAlias",
];

/** Writes the reference of a module and of C headers to `folder`, in place of what was there. */
export async function writeDocs(folder: string, entry: string, headers: string[]): Promise<void> {
  if (!existsSync(typedoc)) throw new BuildError("TypeDoc is not installed; run npm install");
  const part = `${folder}.part`;
  await rm(part, { recursive: true, force: true });
  await mkdir(part, { recursive: true });
  try {
    const read = await Promise.all(
      headers.map(async (path) => [path, readHeader(await Bun.file(path).text())] as const),
    );
    const missing = read.flatMap(([path, header]) => undocumented(header).map((name) => `${path}: ${name}`));
    if (missing.length > 0) throw new BuildError(`nothing is said of:\n${missing.join("\n")}`);
    const named = read.map(([path, header]) => [path.replace(/^.*\/include\//, ""), header] as const);
    await replaceFile(join(part, "c.md"), writeReference(Object.fromEntries(named)));
    await replaceFile(
      join(part, "typedoc.json"),
      JSON.stringify(options(entry, join(part, "c.md"), join(part, "html"))),
    );
    await command(["env", "NO_COLOR=1", process.execPath, typedoc, "--options", join(part, "typedoc.json")]);
    await rm(folder, { recursive: true, force: true });
    await mkdir(dirname(folder), { recursive: true });
    await rename(join(part, "html"), folder);
  } finally {
    await rm(part, { recursive: true, force: true });
  }
}

function options(entry: string, document: string, out: string) {
  return {
    ...{ name: "dsm", entryPoints: [entry], projectDocuments: [document], readme: "none", out },
    tsconfig: join(root, "tsconfig.json"),
    // `npm run check` does that, with the compiler that counts.
    skipErrorChecking: true,
    ...{ excludePrivate: true, excludeInternal: true, requiredToBeDocumented: DOCUMENTED },
    ...{ disableSources: true, includeVersion: true, githubPages: false, hideGenerator: true, pretty: false },
    alwaysCreateEntryPointModule: false,
    highlightLanguages: ["typescript", "javascript", "json", "c", "cpp", "bash"],
    validation: { notExported: false, invalidLink: true, notDocumented: true },
    treatWarningsAsErrors: true,
  };
}

if (import.meta.main) {
  await runScript(async () => {
    const folder = join(root, "dist/docs");
    await writeDocs(
      folder,
      join(root, "src/client/index.ts"),
      HEADERS.map((path) => join(root, path)),
    );
    progress.success(join(folder, "index.html"));
  });
}
