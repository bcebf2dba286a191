/**
 * Tests with a program, or a right, that the README does not ask for:
 *
 *   const { describe, test, beforeAll } = needs("tmux");
 *
 * Where it is missing they are skipped, under names that say what they need, and `npm test` ends with how to get it.
 * With CI=true or DSM_TEST_ALL=1 they fail.
 */
import * as bun from "bun:test";
import { appendFileSync } from "node:fs";
import {
  isAllDemanded,
  isMet,
  packagesFor,
  type RequirementName,
  remediesFor,
  SKIPPED_SUITES,
  type SkippedSuite,
} from "./requirements.ts";

type Suite = Pick<typeof bun, "describe" | "test" | "beforeAll" | "beforeEach" | "afterAll" | "afterEach">;

/** What registers tests and hooks that need all of these; they replace those of bun:test. */
export function needs(...names: RequirementName[]): Suite {
  const missing = names.filter((name) => !isMet(name));
  if (missing.length === 0) return bun;
  const hook = (): void => {};
  const hooks = { beforeAll: hook, beforeEach: hook, afterAll: hook, afterEach: hook };
  const [describe, test] = isAllDemanded() ? [failing(missing), failing(missing)] : skipped(missing);
  return { describe, test, ...hooks } as unknown as Suite;
}

type Rows = readonly unknown[];
type Call = (name: string, body: () => void, options?: number) => void;
/** The parts of `test` and `describe` that suites with requirements use. */
type Register = Call & {
  each(rows: Rows): Register;
  if(condition: boolean): Register;
  skipIf(condition: boolean): Register;
};

function register(call: Call, each: (rows: Rows) => Register): Register {
  const made: Register = Object.assign(call, { each, if: () => made, skipIf: () => made });
  return made;
}

function skipped(missing: RequirementName[]): [describe: Register, test: Register] {
  const record = process.env[SKIPPED_SUITES];
  const suite: SkippedSuite = { file: callingFile(), missing };
  if (record !== undefined) appendFileSync(record, `${JSON.stringify(suite)}\n`);
  const reason = ` (needs ${missing.join(", ")})`;
  // Once in the name of a test with those of its groups.
  let isInside = false;
  const inside = (body: () => void) => (): void => {
    const was = isInside;
    isInside = true;
    body();
    isInside = was;
  };
  const renamed = (skip: Register, wrap: (body: () => void) => () => void): Register =>
    register(
      (name, body, options) => skip(isInside ? name : name + reason, wrap(body), options),
      (rows) => renamed(skip.each(rows), wrap),
    );
  const [describe, test] = [bun.describe.skip, bun.test.skip] as unknown as [Register, Register];
  return [renamed(describe, inside), renamed(test, (body) => body)];
}

function failing(missing: RequirementName[]): Register {
  const packages = packagesFor(missing);
  const todo = [...(packages.length > 0 ? [`apt-get install ${packages.join(" ")}`] : []), ...remediesFor(missing)];
  const fail: Register = register(
    (name) => {
      bun.test(name, () => {
        throw new Error(`this machine lacks ${missing.join(", ")}: ${todo.join("; ")}`);
      });
    },
    () => fail,
  );
  return fail;
}

/** The test file that calls `needs`, relative to the folder of the project. */
function callingFile(): string {
  const root = new URL("../..", import.meta.url).pathname;
  const path = /(\/[^\s():]+\.test\.ts):/.exec(new Error().stack ?? "")?.[1] ?? "?";
  return path.startsWith(root) ? path.slice(root.length) : path;
}
