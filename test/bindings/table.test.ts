/**
 * The tables of examples/languages/README.md against dsm.h and the bindings: each public call and each setting of the
 * header is in them, and what they say each language has instead is there, and comes to that call.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readHeader } from "../../scripts/docs/c-reference.ts";
import { type JoinConfig, type JoinOptions, readConfig } from "../../src/client/config.ts";
import { Cluster, DSM, ROOT } from "../support/e2e-cluster.ts";

// Compilers and real processes, on machines that may be busy.
setDefaultTimeout(120_000);

/** A row: a call or field of C, and what the other languages have for it. */
interface Row {
  c: string;
  cpp: string;
  python: string;
  typescript: string;
}

const COLUMNS = ["C", "C++", "Python", "TypeScript"];
const page = readFileSync(join(ROOT, "examples/languages/README.md"), "utf8");

/** The tables of a section, cell by cell. */
function tables(section: string): string[][][] {
  const text = page.split(/^## /m).find((part) => part.startsWith(`${section}\n`));
  if (text === undefined) throw new Error(`the page has no section "${section}"`);
  return [...text.matchAll(/(?:^\|.*\|\n)+/gm)].map(([table]) =>
    table
      .trimEnd()
      .split("\n")
      .filter((line) => !/^\|[ |-]+\|$/.test(line))
      .map((line) =>
        line
          .slice(1, -1)
          .split("|")
          .map((cell) => cell.trim()),
      ),
  );
}

const code = (cell: string): string => {
  const [, text] = /^`([^`]+)`$/.exec(cell) ?? [];
  if (text === undefined) throw new Error(`"${cell}" is not one piece of code`);
  return text;
};

function rows(section: string, table = 0): Row[] {
  const [head, ...body] = tables(section)[table] as [string[], ...string[][]];
  expect(head).toEqual(COLUMNS);
  return body.map((line) => {
    const [c, cpp, python, typescript] = line.map(code) as [string, string, string, string];
    return { c, cpp, python, typescript };
  });
}

/** The last of the first table leaves the session. */
const calls = [...rows("Objects in the map", 1), ...rows("Calls")];
const settings = rows("Settings");
/** The same without a call of C for each: what is said there in words is in the first column. */
const arrays = (tables("Arrays over the map")[0] as string[][]).slice(1).map(([, c, cpp, python, typescript]) => {
  return { c: code(c ?? ""), cpp: code(cpp ?? ""), python: code(python ?? ""), typescript: code(typescript ?? "") };
});
/** How each language comes to an object in the map. */
const objects = (tables("Objects in the map")[0] as string[][]).slice(1).map(([, , , python, typescript]) => {
  return { cpp: "", python: code(python ?? ""), typescript: code(typescript ?? "") };
});
/** Calls that only C and C++ have. */
const alone = (tables("Calls")[1] as string[][]).slice(1).flatMap(([names]) => (names as string).split(", ").map(code));

const header = readHeader(readFileSync(join(ROOT, "native/include/dsm/dsm.h"), "utf8"));
const fields = (declaration: string): string[] =>
  [...declaration.replace(/\/\*[\s\S]*?\*\//g, "").matchAll(/(\w+);/g)]
    .map(([, name]) => name as string)
    .filter((name) => name !== "dsm_config");

test("every call and every setting of dsm.h is in the tables, and nothing else", () => {
  const functions = header.entries.filter(({ kind }) => kind === "function").map(({ name }) => name);
  expect(functions.length).toBeGreaterThan(40);
  expect([...calls.map(({ c }) => c), ...alone].sort()).toEqual(functions.sort());
  const config = header.entries.find(({ name }) => name === "dsm_config");
  expect(settings.map(({ c }) => c).sort()).toEqual(fields(config?.declaration ?? "").sort());
});

test("every member of a session is in the columns of its language", () => {
  const members = (path: string, member: RegExp): string[] => {
    const text = readFileSync(join(ROOT, path), "utf8");
    const body = /^(?:declare )?class Session\b.*\n((?: .*\n|\n)*)/m.exec(text)?.[1] ?? "";
    return [...new Set([...body.matchAll(member)].map(([, name]) => name as string))].sort();
  };
  const missing = (names: string[], cells: string[]): string[] => {
    expect(names.length).toBeGreaterThan(20);
    const known = ["lock", "semaphore"]; // what the text above the table says of the objects in it
    return names.filter(
      (name) => !known.includes(name) && !cells.some((cell) => new RegExp(`\\bsession\\.${name}\\b`).test(cell)),
    );
  };
  const column = (language: "cpp" | "python" | "typescript"): string[] =>
    [...calls, ...arrays, ...objects].map((row) => row[language]);
  const python = members("native/bindings/python/dsm/_session.py", /^ +(?:def |self\.)([a-z]\w*)(?=\(|: )/gm);
  expect(missing(python, column("python"))).toEqual([]);
  // A call that blocks is described above the table, workers and structs on pages of their own.
  const typescript = members("dist/client/index.d.ts", /^ {4}(?:readonly |get )?([a-z]\w*)[<(:]/gm);
  const elsewhere = ["constructor", "handle", "struct"];
  const others = typescript.filter((name) => !name.endsWith("Sync") && !elsewhere.includes(name));
  expect(missing(others, column("typescript"))).toEqual([]);
});

let cluster: Cluster;
let file: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  file = join(cluster.folder, "numbers");
  writeFileSync(file, new Uint8Array(256));
});
afterAll(() => cluster.close());

test("C++ has what its column says", async () => {
  const source = join(cluster.folder, "table.cpp");
  const parameters = `[[maybe_unused]] dsm::session &session, [[maybe_unused]] dsm::mutex &mutex,
    [[maybe_unused]] dsm::semaphore &semaphore, [[maybe_unused]] dsm::hole &hole, [[maybe_unused]] std::span<int> block,
    [[maybe_unused]] std::span<int> words, [[maybe_unused]] int fd, [[maybe_unused]] const dsm::error &error,
    [[maybe_unused]] dsm::in_map::mutex &guard, [[maybe_unused]] dsm::in_map::shared_mutex &table,
    [[maybe_unused]] dsm::in_map::condition_variable &changed, [[maybe_unused]] dsm::in_map::semaphore &units,
    [[maybe_unused]] dsm::in_map::barrier &step, [[maybe_unused]] std::unique_lock<dsm::in_map::mutex> &lock`;
  const members = settings.map(({ c }) => c);
  writeFileSync(
    source,
    `#include <dsm/dsm.hpp>
#include <cstdio>
using namespace std::chrono_literals;
${calls.map(({ c, cpp }) => `void probe_${c}(${parameters}) { (void)(${cpp}); }`).join("\n")}
${arrays.map(({ cpp }, i) => `void probe_array_${i}(${parameters}) { (void)(${cpp}); }`).join("\n")}
${arrays.map(({ c }, i) => `void probe_c_${i}(dsm_session *session, [[maybe_unused]] void *block) { (void)(${c}); }`).join("\n")}
static void compare(const char *field, const dsm_config &a, const dsm_config &b) {
  std::printf("%s:", field);
${members.map((name) => `  if (a.${name} != b.${name}) std::printf(" ${name}");`).join("\n")}
  std::puts("");
}
int main() {
${settings.map(({ c, cpp }) => `  { dsm::config config; dsm_config before = *config.raw(); ${cpp}; compare("${c}", before, *config.raw()); }`).join("\n")}
}
`,
  );
  const native = join(ROOT, "native");
  const program = join(cluster.folder, "table");
  const compile = (...rest: string[]) =>
    cluster.command([
      ...["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror", `-I${native}/include`, `-I${native}/bindings/cpp`],
      ...[source, ...rest],
    ]);
  expect(await compile("-c", "-o", `${program}.o`)).toMatchObject({ code: 0, stderr: "" });
  const { stdout: symbols } = await cluster.command(["nm", "-u", `${program}.o`]);
  const used = new Set([...symbols.matchAll(/\bU (dsm_\w+)/g)].map(([, name]) => name));
  expect(calls.map(({ c }) => c).filter((name) => !used.has(name))).toEqual([]);
  const link = [`-L${native}/build`, "-ldsm", "-lpthread", `-Wl,-rpath,${native}/build`];
  expect(await compile("-o", program, ...link)).toMatchObject({ code: 0, stderr: "" });
  const { stdout } = await cluster.command([program]);
  expect(stdout).toBe(members.map((name) => `${name}: ${name}\n`).join(""));
});

test("Python has what its column says, and comes to those calls", async () => {
  const run = [DSM, "run", "-n1", "--", "python3", join(import.meta.dir, "programs/table.py")];
  const request = {
    calls: calls.map(({ c, python }) => [c, python]),
    file,
    arrays: [...arrays, ...objects].map(({ python }) => python),
  };
  const input = join(cluster.folder, "table.json");
  writeFileSync(input, JSON.stringify({ ...request, settings: settings.map(({ c, python }) => [c, python]) }));
  const said = await cluster.command(["sh", "-c", 'input=$1; shift; "$@" <"$input"', "sh", input, ...run], {
    PYTHONDONTWRITEBYTECODE: "1",
  });
  expect(said).toMatchObject({ code: 0, stderr: "" });
  const { earlier, calls: made, changed } = JSON.parse(said.stdout);
  for (const { c } of calls) {
    // What a cell only looks up was asked before.
    expect([c, made[c].length > 0 ? made[c] : earlier]).toEqual([c, expect.arrayContaining([c])]);
  }
  expect(changed).toEqual(Object.fromEntries(settings.map(({ c }) => [c, [c]])));
});

test("TypeScript has what its column says", async () => {
  const project = join(cluster.folder, "project");
  mkdirSync(join(project, "node_modules"), { recursive: true });
  symlinkSync(ROOT, join(project, "node_modules/dsm"));
  writeFileSync(join(project, "package.json"), '{ "type": "module" }');
  const program = join(project, "main.ts");
  const step = ({ c, typescript }: Row): string =>
    [
      "{",
      c.startsWith("dsm_unlock") ? "  await lock.lock();" : "",
      /^dsm_(mutex_unlock|cond)/.test(c) ? "  await guard.lock();" : "",
      c.startsWith("dsm_rwlock_unlock") ? "  await table.write.lock();" : "",
      c.startsWith("dsm_cond") ? "  const signals = setInterval(() => void changed.signal(), 10);" : "",
      `  const result = ${typescript};`,
      c.startsWith("dsm_lock") ? "  await lock.unlock();" : "",
      c.startsWith("dsm_cond") ? "  clearInterval(signals);" : "",
      /^dsm_(mutex_(try|timed)?lock|cond)/.test(c) ? "  await guard.unlock();" : "",
      /^dsm_rwlock_\w*rdlock/.test(c) ? "  await table.read.unlock();" : "",
      /^dsm_rwlock_\w*wrlock/.test(c) ? "  await table.write.unlock();" : "",
      c === "dsm_barrier_init" ? "  step.init(1);" : "",
      c === "dsm_hole_dig" ? "  await result.fill();" : "",
      `  if (result === null) throw new Error("${c}");`,
      "}",
    ].join("\n");
  writeFileSync(
    program,
    `import { DsmError, type JoinOptions, join as joinNow, type Session } from "dsm";
declare const process: { argv: string[] };
declare const setInterval: (act: () => void, ms: number) => object;
declare const clearInterval: (timer: object) => void;
const session = await joinNow();
const join = async (_options?: JoinOptions): Promise<Session> => session;
const lock = session.lock("table");
const semaphore = session.semaphore("table", 100);
const hole = session.hole(session.named("part", 64));
const block = session.alloc(Int32Array, 16);
const words = session.named("words", Int32Array, 16);
const place = session.named("objects", 320);
const [guard, table, changed] = [session.mutexAt(place), session.rwlockAt(place.subarray(64)), session.condAt(place.subarray(128))];
const [units, step] = [session.semaphoreAt(place.subarray(192)), session.barrierAt(place.subarray(256))];
const fd = (await import("node:fs" as string)).openSync(process.argv[2]) as number;
let error = new DsmError("DSM_INVALID", "");
try {
  session.alloc(0);
} catch (failure) {
  error = failure as DsmError;
}
${settings.map(({ typescript }) => `void ${typescript};`).join("\n")}
${[...arrays, ...objects].map(({ typescript }) => `void ${typescript};`).join("\n")}
${calls.map(step).join("\n")}
console.log("ok");
`,
  );
  const types = await cluster.command([
    ...[process.execPath, join(ROOT, "node_modules/typescript/bin/tsc"), "--ignoreConfig", program],
    ...["--noEmit", "--strict", "--module", "nodenext", "--target", "esnext", "--types", "", "--pretty", "false"],
  ]);
  expect(types).toMatchObject({ code: 0, stdout: "" });
  const said = await cluster.dsm(["run", "-n1", "--", process.execPath, program, file]);
  expect(said).toMatchObject({ code: 0, stdout: "ok\n", stderr: "" });

  const defaults = readConfig({ session: "default" }, {});
  for (const { c, typescript } of settings) {
    const [, options] = /^join\((\{.*\})\)$/.exec(typescript) as RegExpExecArray;
    const given = new Function(`return ${options}`)() as JoinOptions;
    const config = readConfig({ session: "default", ...given }, {});
    const names = Object.keys(config) as (keyof JoinConfig)[];
    const changed = names.filter((name) => config[name] !== defaults[name]);
    expect([c, changed]).toEqual([c, [c.replace(/_(\w)/g, (_, letter) => letter.toUpperCase())]] as never);
  }
});
