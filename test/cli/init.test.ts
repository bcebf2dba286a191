/** `dsm init`: each project runs as it is written, with what a user has who has the dsm binary alone. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { needs } from "../support/needs.ts";
import { onTerminal } from "../support/terminal.ts";
import { MAIN, Place } from "./dsm.ts";

// A compiler and real processes, on machines that may be busy.
setDefaultTimeout(120_000);

const ROOT = join(import.meta.dir, "../..");
const DSM = join(ROOT, "dist/dsm");
const RESULT = "4 processes added up to 500000500000\n";

let place: Place;
let bin: string;
beforeAll(() => {
  place = new Place();
  // A PATH with the built program on it; what else there is of dsm is in the source tree, which is not.
  bin = join(place.folder, "bin");
  mkdirSync(bin);
  symlinkSync(DSM, join(bin, "dsm"));
});
afterAll(() => place.close());

async function shell(script: string, cwd: string, path = bin): Promise<string> {
  const env = { ...place.environment, PATH: `${path}:${process.env.PATH}` };
  const child = Bun.spawn(["sh", "-ec", script], { env, cwd, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  return stdout;
}

/** Runs `dsm init` and then the very commands that it says come next. */
async function follow(language: string, path = bin, name = `my ${language} project`) {
  const { next } = JSON.parse(await shell(`dsm init '${name}' --language ${language} --json`, place.folder, path));
  expect(next).toHaveLength(2);
  return { folder: join(place.folder, name), said: await shell(next.join("\n"), place.folder, path) };
}

test("TypeScript: runs, and tsc and editors know the types", async () => {
  const { folder, said } = await follow("ts");
  expect(said).toBe(RESULT);
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  const check = () => Bun.spawnSync([process.execPath, tsc, "-p", folder, "--pretty", "false"], { stdout: "pipe" });
  expect(check().stdout.toString()).toBe("");
  // The types are no empty promise.
  writeFileSync(
    join(folder, "wrong.ts"),
    `import { join, DsmError, type Order } from "dsm";
const session = await join({ order: "sequential" satisfies Order });
const view: Float32Array = session.view(Float64Array);
session.barier();
console.log(view, new DsmError("DSM_NONSENSE", ""));
`,
  );
  const problems = check().stdout.toString();
  expect(problems.match(/wrong\.ts\(\d+/g)).toHaveLength(3);
});

test("TypeScript: what can be imported by type can be imported at run time, and nothing else", async () => {
  const { folder } = await follow("ts", bin, "imports");
  const declared = readFileSync(join(folder, "dsm.d.ts"), "utf8");
  expect(declared.match(/^ *declare module .*$/gm)).toEqual(['declare module "dsm" {']);
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  const check = (text: string): string => {
    writeFileSync(join(folder, "imports.ts"), text);
    // The declarations themselves are checked, too.
    const words = [process.execPath, tsc, "-p", folder, "--pretty", "false", "--skipLibCheck", "false"];
    return Bun.spawnSync(words, { stdout: "pipe" }).stdout.toString();
  };
  // Each name that the module exports as a value is one that a program gets.
  const listed = /^ {2}export \{ (.*) \};$/m.exec(declared)?.[1]?.split(", ") ?? [];
  const values = listed.filter((name) => !name.startsWith("type ")).sort();
  expect(check(`import { ${listed.join(", ")} } from "dsm";\nvoid [${values.join(", ")}];\n`)).toBe("");
  writeFileSync(
    join(folder, "names.mjs"),
    'import * as dsm from "dsm";\nconsole.log(Object.keys(dsm).sort().join(" "));\n',
  );
  expect(await shell("dsm run -n 1 -- names.mjs", folder)).toBe(`${values.join(" ")}\n`);
  for (const [text, fault] of [
    ['import { DsmError } from "dsm/core/base/errors";\nvoid DsmError;\n', "TS2307"],
    ['import { Session } from "dsm/client/session";\nvoid Session;\n', "TS2307"],
    ['import { Status } from "dsm";\nvoid Status;\n', "TS2459"],
    ['import { Session } from "dsm";\nvoid new Session();\n', "TS1362"],
  ] as const) {
    expect(check(text)).toMatch(new RegExp(`^[^\\n]*imports\\.ts\\(\\d+,\\d+\\): error ${fault}: .*\\n$`));
  }
});

test("Python: runs with nothing installed, as a script and through an interpreter", async () => {
  const { folder, said } = await follow("python");
  expect(said).toBe(RESULT);
  expect(await shell("dsm run -n 4 -- python3 main.py", folder)).toBe(RESULT);
  // An executable script is started as its first line says.
  writeFileSync(join(folder, "own.py"), "#!/bin/sh\necho $DSM_RANK $0\n", { mode: 0o755 });
  expect(await shell("dsm run -n 1 -- ./own.py", folder)).toEndWith("own.py\n");
  const missing = await place.dsm(["run", "-n1", "--", join(folder, "none.py")]);
  expect([missing.code, missing.stderr]).toEqual([127, `dsm: there is no program "${join(folder, "none.py")}"\n`]);
});

needs("make").test("C: runs after dsm install; Python and the shells find theirs there too", async () => {
  const prefix = join(place.folder, "prefix");
  await shell(`dsm install --prefix '${prefix}'`, place.folder);
  const { said } = await follow("c", join(prefix, "bin"));
  expect(said).toEndWith(RESULT);
  // Without dsm run: the library beside the dsm in the PATH.
  const python = `PYTHONPATH='${prefix}/share/dsm/python' DSM_SESSION=alone DSM_PROCESSES=1 python3 -c "
import dsm
with dsm.join() as session: print(session.name, session.rank)"`;
  expect(await shell(python, place.folder, join(prefix, "bin"))).toBe("alone 0\n");
  expect(readFileSync(join(prefix, "share/man/man1/dsm.1"), "utf8")).toBe((await place.dsm(["man"])).stdout);
  for (const [shellName, path] of [
    ["bash", "share/bash-completion/completions/dsm"],
    ["zsh", "share/zsh/site-functions/_dsm"],
    ["fish", "share/fish/vendor_completions.d/dsm.fish"],
  ] as const) {
    const installed = readFileSync(join(prefix, path), "utf8");
    expect(installed).toEndWith((await place.dsm(["completion", shellName])).stdout);
  }
});

test("no file is overwritten, and where one is there none is written", async () => {
  const folder = join(place.folder, "taken");
  mkdirSync(folder);
  writeFileSync(join(folder, "README.md"), "mine");
  const { code, stderr } = await place.dsm(["init", folder, "--language", "python"]);
  expect([code, stderr]).toEqual([1, `dsm: ${join(folder, "README.md")} already exists; choose another folder\n`]);
  expect(readdirSync(folder)).toEqual(["README.md"]);
  expect(readFileSync(join(folder, "README.md"), "utf8")).toBe("mine");

  const below = await place.dsm(["init", join(folder, "README.md", "below"), "--language", "c"]);
  expect(below.code).toBe(1);
  expect(below.stderr).toMatch(/^dsm: [^\n]+ cannot be written: ENOTDIR; choose another folder\n$/);
});

test("on a terminal it asks for the language", async () => {
  const folder = join(place.folder, "asked");
  const asking = onTerminal([process.execPath, MAIN, "init", folder], { env: place.environment });
  await asking.until(/Which language\?[\s\S]*Python/);
  asking.type("\x1b[B"); // arrow down
  await asking.until(/● C/);
  asking.type("\r");
  expect(await asking.ended()).toBe(0);
  await asking.close();
  expect(existsSync(join(folder, "main.c"))).toBe(true);

  const given = onTerminal([process.execPath, MAIN, "init", join(place.folder, "not")], { env: place.environment });
  await given.until(/Python/);
  given.type("\x03");
  expect(await given.ended()).toBe(130);
  await given.close();
  expect(existsSync(join(place.folder, "not"))).toBe(false);
});
