/** `dsm header`: the C header of the structs that a TypeScript module exports. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { DsmError } from "../../core/base/errors.ts";
import { command } from "../command.ts";
import { isStdout, writeOutput } from "../files/output-file.ts";
import { checkFile, scriptProgram } from "../run/program.ts";
import { print } from "../terminal/messages.ts";

/** The command replaces only headers that it made: their first line says so. */
const HEADER = {
  what: "a header of dsm",
  isOne: (head: Buffer): boolean => /^\/\* Made from [^\n]* by `dsm header`\./.test(head.toString("latin1")),
  mode: 0o666,
};

export default command({
  meta: { name: "header", description: "Print the C header of the structs that a TypeScript module exports" },
  args: {
    module: {
      type: "positional",
      required: true,
      description: "Module with: export const state = struct({ ... })",
      valueHint: "FILE",
    },
    export: { type: "string", description: "Only the struct exported by that name", valueHint: "NAME" },
    out: { type: "string", description: "File to write instead; an earlier header is replaced", valueHint: "FILE" },
  },
  manual: {
    details: ["A C program that includes it uses the same fields as the TypeScript program."],
    examples: [
      { does: "The structs of state.ts, as C", line: "dsm header state.ts" },
      { does: "One of them, into a file", line: "dsm header state.ts --export state --out state.h" },
    ],
  },
  async run({ args }) {
    const toStdout = args.out === undefined || isStdout(args.out);
    const problem = checkFile(args.module, "R_OK", "read");
    if (problem !== null) throw new DsmError("DSM_INVALID", problem.error.replace(/program/, "module"));
    const { runtimeFiles } = await import("../install/assets.ts");
    const { header } = await runtimeFiles();
    const folder = mkdtempSync(join(tmpdir(), "dsm-header-"));
    try {
      const made = join(folder, "header");
      const program = await scriptProgram(header, [resolve(args.module), made, args.export ?? ""]);
      const child = Bun.spawn({
        cmd: program.command,
        env: { ...process.env, ...program.environment },
        // Output of the module itself is not part of the header.
        stdio: ["ignore", 2, 2],
      });
      // The child has printed the reason.
      if ((await child.exited) !== 0) return 1;
      const text = readFileSync(made, "utf8");
      if (toStdout) await print(text);
      else writeOutput(args.out as string, HEADER, text);
      return 0;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
});
