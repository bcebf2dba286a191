/** Suites whose programs are missing: skipped by name and counted, or failed where everything is demanded. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closingLines } from "../../scripts/test.ts";

// Each run of the test runner looks whether the build is up to date, on machines that may be busy.
setDefaultTimeout(120_000);

const ROOT = join(import.meta.dir, "../..");
const SUITE = `
import { expect, test as plain } from "bun:test";
import { needs } from ${JSON.stringify(join(import.meta.dir, "needs.ts"))};

plain("needs nothing", () => {});
const { beforeAll, describe, test } = needs("valgrind", "make");
let ready = false;
beforeAll(() => {
  if (process.env.HOOK_FAILS) throw new Error("the hook ran");
  ready = true;
});
test("a test", () => expect(ready).toBe(true));
test.each([1, 2])("row %i", (row) => expect([1, 2]).toContain(row));
test.if(true)("on a condition", () => {});
describe("a group", () => {
  beforeAll(() => {});
  plain("its test", () => expect(ready).toBe(true));
  test("its other test", () => expect(ready).toBe(true));
});
`;

let folder: string;
let file: string;
let programs: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "needs-"));
  file = join(folder, "example.test.ts");
  writeFileSync(file, SUITE);
  programs = join(folder, "bin");
  mkdirSync(programs);
  // What the build looks for, and none of the optional programs.
  for (const name of ["sh", "dirname", "gcc", "python3", "cargo", "objcopy", "strip", "ar", "objdump"]) {
    const path = Bun.which(name);
    if (path !== null) symlinkSync(path, join(programs, name));
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What `npm test -- example.test.ts` prints, without colours and times. */
async function run(environment: Record<string, string>): Promise<{ code: number; said: string }> {
  const { CI: _, DSM_TEST_ALL: __, ...inherited } = process.env;
  const child = Bun.spawn([process.execPath, join(ROOT, "scripts/test.ts"), file], {
    env: { ...inherited, PATH: programs, NO_COLOR: "1", ...environment },
    ...({ stdin: "ignore", stdout: "pipe", stderr: "pipe" } as const),
  });
  const [, said, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, said: said.replace(/ \[[\d.]+m?s\]/g, "") };
}

const NEEDS = "(needs valgrind, make)";

test("they are skipped by name, and the run ends with what to install", async () => {
  const { code, said } = await run({ HOOK_FAILS: "1" });
  expect({ code, said: code === 0 ? "" : said }).toEqual({ code: 0, said: "" });
  for (const name of [`a test ${NEEDS}`, `row 1 ${NEEDS}`, `row 2 ${NEEDS}`, `on a condition ${NEEDS}`]) {
    expect(said).toContain(`(skip) ${name}\n`);
  }
  for (const name of ["its test", "its other test"]) expect(said).toContain(`(skip) a group ${NEEDS} > ${name}\n`);
  expect(said).toContain("\n 1 pass\n 6 skip\n 0 fail\n");
  expect(said).toEndWith(
    `\n1 suite in 1 file skipped; this machine lacks what they need:\n  ${file} (valgrind, make)\n` +
      "To install all of the programs:\napt-get install libc6-dbg make valgrind\n",
  );
});

test.each([{ CI: "true" }, { DSM_TEST_ALL: "1" }])("with %j they fail by name", async (environment) => {
  const { code, said } = await run(environment as Record<string, string>);
  expect(code).toBe(1);
  for (const name of ["a test", "row %i", "on a condition", "a group"]) expect(said).toContain(`(fail) ${name}\n`);
  expect(said).toContain("this machine lacks valgrind, make: apt-get install libc6-dbg make valgrind");
  expect(said).toContain("\n 1 pass\n 4 fail\n");
  expect(said).not.toContain("skipped");
});

test("where all is there they run, with their hooks", async () => {
  for (const name of ["valgrind", "make"]) writeFileSync(join(programs, name), "#!/bin/sh\n", { mode: 0o755 });
  expect(await run({})).toMatchObject({ code: 0, said: expect.stringContaining("\n 7 pass\n 0 fail\n") });
  expect((await run({ HOOK_FAILS: "1" })).said).toContain("the hook ran");
  chmodSync(join(programs, "make"), 0o644); // scripts/test-bare.ts puts such files over programs
  expect((await run({})).said).toContain(`(skip) a test (needs make)\n`);
});

describe("the closing lines", () => {
  test("say nothing where nothing was skipped", () => expect(closingLines([])).toBe(""));

  test("name every file once, and every package once", () => {
    expect(
      closingLines([
        { file: "test/b.test.ts", missing: ["zsh"] },
        { file: "test/a.test.ts", missing: ["ip", "namespaces"] },
        { file: "test/b.test.ts", missing: ["fish", "zsh"] },
        { file: "test/a.test.ts", missing: ["root"] },
      ]).split("\n"),
    ).toEqual([
      "4 suites in 2 files skipped; this machine lacks what they need:",
      "  test/a.test.ts (ip, namespaces, root)",
      "  test/b.test.ts (zsh, fish)",
      "For namespaces: run the tests as root where namespaces may be made (a container: --privileged).",
      "For root: run the tests as root.",
      "To install all of the programs:",
      "apt-get install fish iproute2 zsh",
      "",
    ]);
  });
});
