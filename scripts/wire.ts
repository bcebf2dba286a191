/**
 * native/src/wire.h, the C view of the frames, from src/core/wire/protocol.ts, which defines them. It is committed, so that
 * the C sources can be read and compiled as they are; `--check` fails when it is stale.
 */
import { join } from "node:path";
import { wireHeader } from "../src/core/wire/protocol.ts";
import { BuildError, replaceFile, root, runScript } from "./steps.ts";

const path = join(root, "native/src/wire.h");

/** Whether wire.h is what the protocol says. */
export async function wireIsFresh(): Promise<boolean> {
  const file = Bun.file(path);
  return (await file.exists()) && (await file.text()) === wireHeader();
}

/** Writes wire.h if it is stale. */
export async function writeWire(): Promise<void> {
  if (!(await wireIsFresh())) await replaceFile(path, wireHeader());
}

if (import.meta.main) {
  await runScript(async () => {
    if (!process.argv.includes("--check")) return writeWire();
    if (!(await wireIsFresh())) {
      throw new BuildError("native/src/wire.h is stale: run `npm run build` and commit it.");
    }
  });
}
