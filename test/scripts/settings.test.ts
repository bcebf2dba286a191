/** The settings table is the only list of variables: what code and documents mention is in it, and what is made of it has all. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Glob } from "bun";
import { chapterOf, referenceOf, settingsHeader } from "../../scripts/settings.ts";
import { COMMANDS } from "../../src/cli/commands/commands.ts";
import { usageOf } from "../../src/cli/help/usage.ts";
import { Status } from "../../src/core/base/errors.ts";
import { PROCESSES_MAX } from "../../src/core/base/limits.ts";
import { checkSetting, SETTINGS, type Setting, type SettingName } from "../../src/core/base/settings.ts";

const root = join(import.meta.dir, "../..");
const settings: Setting[] = Object.values(SETTINGS);

/** DSM_ names that are no variables of dsm: those of make and of the tests. */
const OTHERS = ["DSM_PREFIX", "DSM_TEST_ALL"];

const word = /\bDSM_[A-Z0-9_]*[A-Z0-9]\b/g;

async function texts(): Promise<[file: string, text: string][]> {
  const found: [string, string][] = [];
  for (const pattern of ["README.md", "src/**/*.{ts,md}", "native/{src,include,bindings}/**/*.{c,h,py,hpp,md}"]) {
    for await (const file of new Glob(pattern).scan(root)) found.push([file, await Bun.file(join(root, file)).text()]);
  }
  return found;
}

test("every DSM_ name in code and documents is a status, a name of C, or a setting", async () => {
  const all = await texts();
  expect(all.length).toBeGreaterThan(200);
  const known = new Set<string>([...OTHERS, ...settings.map(({ variable }) => variable)]);
  for (const status of Object.keys(Status)) known.add(`DSM_${status}`);
  for (const [file, text] of all) {
    if (!/^native\/.*\.[ch]/.test(file)) continue;
    // Macros and members of enums, whose names begin a line or stand behind a comma or a brace.
    for (const [, name] of text.matchAll(
      /(?:#\s*(?:define|ifndef|ifdef)\s+|^\s+|[{,]\s*)(DSM_[A-Z0-9_]+)(?=\s*[=,}\s(]|$)/gm,
    )) {
      known.add(name as string);
    }
  }
  const unknown = all.flatMap(([file, text]) =>
    (text.match(word) ?? []).filter((name) => !known.has(name)).map((name) => `${file}: ${name}`),
  );
  expect(unknown).toEqual([]);
});

test("what C and TypeScript read of the environment is a setting", async () => {
  const read = new Map<string, string>();
  const reads = [
    /(?:getenv|variable)\("(DSM_[A-Z_]+)"\)/g,
    /(?:getenv|variable)\((SETTING_[A-Z_]+)\)/g,
    /\benv(?:ironment)?\.(DSM_[A-Z_]+)/g,
    /fromEnvironment\([^,]+, "(DSM_[A-Z_]+)"\)/g,
  ];
  for (const [file, text] of await texts()) {
    for (const pattern of reads) {
      for (const [, name = ""] of text.matchAll(pattern)) read.set(name.replace(/^SETTING_/, "DSM_"), file);
    }
  }
  // The scan does find them: in C, in TypeScript, and one that only the library reads.
  for (const name of ["DSM_SESSION", "DSM_TOKEN_FILE", "DSM_QUIET"]) expect([...read.keys()]).toContain(name);
  const variables = settings.map(({ variable }) => variable as string);
  expect([...read].filter(([name]) => !variables.includes(name))).toEqual([]);
});

test("every setting is read: none is left over", async () => {
  const code = (await texts())
    .filter(([file]) => /\.(ts|c|h|py)$/.test(file) && !/base\/settings\.ts$|src\/settings\.h$/.test(file))
    .map(([, text]) => text)
    .join("\n");
  const unread = (Object.keys(SETTINGS) as SettingName[]).filter((name) => {
    const { variable } = SETTINGS[name];
    return !code.includes(variable) && !code.includes(`readSetting("${name}"`) && !code.includes(`given("${name}")`);
  });
  expect(unread.filter((name) => !["tlsCa", "tlsCert", "tlsKey"].includes(name))).toEqual([]);
});

test("names are each one's own, and options of the table are options of commands", async () => {
  for (const of of ["variable", "option", "json"] as const) {
    const names = settings.map((setting) => setting[of]).filter((name) => name !== undefined);
    expect(new Set(names).size).toBe(names.length);
  }
  const options = new Map<string, string>();
  for (const [name, load] of Object.entries(COMMANDS)) {
    for (const option of usageOf(name, await load()).options) options.set(option.name, option.description);
  }
  for (const { option, variable, fallback } of settings) {
    if (option === undefined) continue;
    const form = fallback === true ? `no-${option}` : option;
    expect(options.get(form)).toContain(variable);
  }
});

test("defaults are within their limits", () => {
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const { fallback, kind, choices }: Setting = SETTINGS[name];
    if (fallback === undefined) continue;
    if (choices !== undefined) expect(choices).toContain(String(fallback));
    if (kind === "whole" || kind === "size") expect(checkSetting(name, fallback, name)).toBeNull();
  }
  expect(checkSetting("heartbeatTimeoutMs", 99, "DSM_HEARTBEAT_TIMEOUT_MS")).toBe(
    "DSM_HEARTBEAT_TIMEOUT_MS is 99; give 100 to 3600000",
  );
});

test("the header has every variable, with its limits; stale lists are replaced, and what is around them stays", async () => {
  const header = settingsHeader();
  for (const { variable } of settings) expect(header).toContain(` "${variable}"\n`);
  expect(header).toContain(`#define SETTING_PROCESSES_MOST ${PROCESSES_MAX}u\n`);
  expect(header).toContain('#define SETTING_ON_LOSS_CHOICES "fail", "continue"\n');
  for (const [path, made] of [
    ["src/cli/README.md", chapterOf],
    ["examples/reference/configuration.md", referenceOf],
  ] as const) {
    const now = await Bun.file(join(root, path)).text();
    for (const { variable, of } of settings) if (of !== "process") expect(now).toContain(`\n- \`${variable}\``);
    const otherHead = now.replace(/^# .*/, "# Another head");
    const stale = otherHead.replace("- `DSM_ORDER`", "- `DSM_ODER`");
    expect(stale).not.toBe(otherHead);
    expect(made(stale)).toBe(otherHead);
    expect(() => made("# A chapter without a place\n")).toThrow("no place");
  }
});
