/**
 * The examples that compute, in both languages, with their processes on one node and on two: each compares its result
 * with that of one process.
 */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decode } from "fast-png";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const languages = ["ts", "c"] as const;
const compiled = new Map<string, string>();

/** The program of an example: the script itself, or what gcc makes of the C file. */
async function program(example: string, language: (typeof languages)[number]): Promise<string> {
  const source = join(ROOT, "examples", example, `${example}.${language}`);
  if (language === "ts") return source;
  const made = compiled.get(example);
  if (made !== undefined) return made;
  const path = join(cluster.folder, example);
  const native = join(ROOT, "native");
  const { code, stderr } = await cluster.command([
    ...["gcc", "-O2", "-Wall", "-Wextra", "-Werror", source, "-o", path, `-I${native}/include`, `-L${native}/build`],
    ...["-ldsm", "-lpthread", "-lrt", "-lm", `-Wl,-rpath,${native}/build`],
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  compiled.set(example, path);
  return path;
}

/** Runs it under `dsm run` to its good end and returns the lines it printed, without "NAME: ". */
async function run(options: string, command: string[], environment: Record<string, string> = {}): Promise<string[]> {
  const { code, stdout, stderr } = await cluster.dsm(["run", ...options.split(" "), "--", ...command], environment);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.replace(/^\w+: /, ""));
}

interface Example {
  name: string;
  args: string[];
  result: RegExp;
}

const examples: Example[] = [
  // The processes meet after 16, 32, 48 and 61 steps; rows of 1200 bytes do not begin at pages.
  {
    name: "heat",
    args: ["--size", "150", "--steps", "61"],
    result: /^150 x 150 cells, 61 steps, mean temperature 0\.1\d{9} /,
  },
  { name: "matmul", args: ["--size", "67"], result: /^67 x 67, the trace of the product is \d+\.\d{10} / },
  {
    name: "nbody",
    args: ["--size", "101", "--steps", "7"],
    result: /^101 bodies, 7 steps, energy (-0\.\d{4})\d{6} before and \1\d{6} after /,
  },
];

const places = [
  { where: "one node", options: "-n 3", processes: 3 },
  { where: "one node, not in direct mode", options: "-n 3", processes: 3, environment: { DSM_DIRECT: "0" } },
  { where: "two nodes", options: "-n 5 --nodes 2", processes: 5 },
  { where: "two nodes, order sequential", options: "-n 2 --nodes 2 --order sequential", processes: 2 },
];

describe.each(examples)("$name", ({ name, args, result }) => {
  for (const language of languages) {
    test.each(places)(`in ${language} on $where`, async ({ options, processes, environment }) => {
      const command = [await program(name, language), "--check", "--time", ...args];
      const lines = await run(options, command, environment);
      expect(lines).toEqual([
        expect.stringMatching(new RegExp(`^\\d+\\.\\d{3} seconds, ${processes} processes$`)),
        expect.stringMatching(result),
        expect.stringMatching(/^\d+\.\d{3} seconds, one process$/),
        "the same as the sequential result, byte for byte",
      ]);
    });

    test(`in ${language} says what is wrong with its arguments`, async () => {
      for (const [wrong, message] of [
        [["--size", "0"], /^\w+: --size must be a number from \d to \d+, and "0" was given\n/],
        [["--size", "1e3"], /^\w+: --size must be a number from \d to \d+, and "1e3" was given\n/],
        [["--sequential", "--check"], /^\w+: --check compares with --sequential; give one\n/],
        [["--fast"], /^\w+: .*--fast.*\n/],
      ] as const) {
        const { code, stdout, stderr } = await cluster.dsm(["run", "-n1", await program(name, language), ...wrong]);
        expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
        expect(stderr).toMatch(message);
        expect(stderr).toContain("\nusage: dsm run -n N -- ");
      }
    });
  }

  test("comes to the same in both languages, alone and together", async () => {
    const results: string[] = [];
    for (const language of languages) {
      const path = await program(name, language);
      const alone = await run("-n 1", [path, "--sequential", ...args]);
      const together = await run("-n 2", [path, ...args]);
      for (const line of [...alone, ...together]) results.push(line.replace(/\([^()]*\)$/, ""));
    }
    expect(results[0]).toMatch(result);
    expect(results).toEqual(Array<string>(4).fill(results[0] as string));
  });
});

test("heat.ts and heat.c draw the same picture, alone and together", async () => {
  const pictures: ReturnType<typeof decode>[] = [];
  for (const language of languages) {
    for (const options of [["--sequential"], []]) {
      const path = join(cluster.folder, `${language}-${options.length}.png`);
      const command = [await program("heat", language), ...options, "--size", "300", "--steps", "40", path];
      const lines = await run(options.length > 0 ? "-n 1" : "-n 4 --nodes 2", command);
      expect(lines.at(-1)).toBe(`wrote ${path}`);
      pictures.push(decode(readFileSync(path), { checkCrc: true }));
    }
  }
  const [first] = pictures as [ReturnType<typeof decode>];
  expect([first.width, first.height, first.depth, first.palette?.length]).toEqual([300, 300, 8, 256]);
  expect([first.palette?.[0], first.palette?.[255]]).toEqual([
    [0, 0, 0],
    [255, 255, 255],
  ]);
  // Hot at the top, cold at the bottom, and a ring between with a cold middle.
  const at = (row: number, column: number) => first.data[row * 300 + column];
  expect([at(0, 150), at(299, 150)]).toEqual([255, 0]);
  expect(at(150, 150)).toBe(0);
  expect(at(150, 150 + 68)).toBeGreaterThan(150);
  for (const other of pictures) {
    expect(other.palette).toEqual(first.palette as NonNullable<typeof first.palette>);
    expect(Buffer.compare(Buffer.from(other.data as Uint8Array), Buffer.from(first.data as Uint8Array))).toBe(0);
  }
});
