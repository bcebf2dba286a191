/** `dsm man`: the page says all that is, and the tools that read such pages have nothing to say against it. */
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { COMMANDS } from "../../src/cli/commands/commands.ts";
import { manualPage } from "../../src/cli/help/man.ts";
import { usageOf } from "../../src/cli/help/usage.ts";
import { VARIABLES } from "../../src/cli/help/variables.ts";
import { needs } from "../support/needs.ts";

setDefaultTimeout(60_000);

/** Bold text, for printers: each letter twice. */
const once = (text: string): string =>
  text
    .split("\b")
    .map((part, at, all) => (at < all.length - 1 ? part.slice(0, -1) : part))
    .join("");

let page: string;
beforeAll(async () => {
  page = await manualPage();
});

const run = (cmd: string[], input: string): { stdout: string; stderr: string } => {
  const { stdout, stderr } = Bun.spawnSync(cmd, { stdin: Buffer.from(input), stdout: "pipe", stderr: "pipe" });
  return { stdout: stdout.toString(), stderr: stderr.toString() };
};

needs("mandoc").test("mandoc reports no fault, and shows every command, option and example", async () => {
  expect(run(["mandoc", "-T", "lint", "-W", "all"], page)).toEqual({ stdout: "", stderr: "" });
  // It does find what is wrong.
  expect(run(["mandoc", "-T", "lint", "-W", "all"], `${page}.XX\n`).stdout).toContain("unknown macro");
  const shown = once(run(["mandoc", "-T", "ascii", "-O", "width=200"], page).stdout);
  for (const [name, load] of Object.entries(COMMANDS)) {
    const usage = usageOf(name, await load());
    expect(shown).toContain(`   dsm ${name} ${usage.synopsis}\n`);
    for (const option of usage.options) expect(shown).toContain(`--${option.name}`);
    for (const { line } of usage.manual.examples) expect(shown).toContain(` ${line}\n`);
  }
});

needs("groff").test("groff has no warning", () => {
  expect(run(["groff", "-man", "-ww", "-T", "ascii"], page).stderr).toBe("");
  expect(run(["groff", "-man", "-ww", "-T", "ascii"], `${page}.XX\n`).stderr).toContain("warning");
});

test("exit codes, and every variable that options or the reference name", async () => {
  expect(page).toContain(".SH EXIT STATUS");
  const known = VARIABLES.map(([name]) => name);
  const reference = await Bun.file(join(import.meta.dir, "../../examples/reference/configuration.md")).text();
  const documented = reference.match(/^- `DSM_[^:]+:/gm)?.join(" ") ?? "";
  expect(documented).toContain("DSM_DAEMON");
  for (const [variable] of `${documented} ${page}`.matchAll(/DSM_[A-Z_]+[A-Z]/g)) expect(known).toContain(variable);
  for (const name of known.filter((name) => name.startsWith("DSM_"))) expect(documented).toContain(`\`${name}\``);
});
