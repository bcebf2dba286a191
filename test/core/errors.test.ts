/** Codes of errors and their numbers, as dsm.h has them. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { DsmError, Status, statusCode, statusOf } from "../../src/core/base/errors.ts";
import { NAME_MAX, PROCESSES_MAX, SEMAPHORE_VALUE_MAX, SIZE_MAX } from "../../src/core/base/limits.ts";

const header = readFileSync(`${import.meta.dir}/../../native/include/dsm/dsm.h`, "utf8");

describe("dsm.h says the same", () => {
  test("enum dsm_status", () => {
    const body = /enum dsm_status \{([^}]*)\}/.exec(header)?.[1] ?? "";
    const inHeader = [...body.matchAll(/\bDSM_([A-Z_]+) = (\d+),/g)].map(([, name, number]) => [name, Number(number)]);
    expect(inHeader).toEqual(Object.entries(Status));
    expect(inHeader.length).toBeGreaterThan(10);
  });

  test.each([
    ["DSM_NAME_MAX", NAME_MAX],
    ["DSM_PROCESSES_MAX", PROCESSES_MAX],
    ["DSM_SIZE_MAX", SIZE_MAX],
    ["DSM_SEM_MAX", SEMAPHORE_VALUE_MAX],
  ])("#define %s", (name, limit) => {
    const text = new RegExp(`#define ${name}\\s+(\\([^)]*\\)|\\S+)`).exec(header)?.[1] ?? "";
    const [base, shift] = text.replace(/[()]|ull/g, "").split("<<");
    expect(Number(base) * 2 ** Number(shift ?? 0)).toBe(limit);
  });
});

test("codes and numbers come back from each other", () => {
  for (const [name, number] of Object.entries(Status)) {
    if (number === Status.OK) continue;
    expect(statusCode(number)).toBe(`DSM_${name}` as ReturnType<typeof statusCode>);
    expect(statusOf(statusCode(number))).toBe(number);
  }
  for (const unknown of [-1, 21, 255, Number.NaN]) expect(statusCode(unknown)).toBe("DSM_PROTOCOL");
});

test("a DsmError has its code and one line", () => {
  const error = new DsmError("DSM_FULL", "one too many");
  expect(error).toBeInstanceOf(Error);
  expect([error.name, error.code, error.message]).toEqual(["DsmError", "DSM_FULL", "one too many"]);
});
