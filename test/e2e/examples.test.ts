/** Every example in TypeScript and in C, under `dsm run` with its processes on one node and on two. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodePgm } from "../../examples/contrast/pgm.ts";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const compiled = new Map<string, string>();

/** The program of an example: the script itself, or what gcc makes of the C file. */
async function program(example: string, file: string): Promise<string> {
  const source = join(ROOT, "examples", example, file);
  if (!file.endsWith(".c")) return source;
  const path = compiled.get(file) ?? join(cluster.folder, file.slice(0, -2));
  if (!compiled.has(file)) {
    const native = join(ROOT, "native");
    const { code, stderr } = await cluster.command([
      ...["gcc", "-O2", "-Wall", "-Wextra", "-Werror", source, "-o", path],
      ...[`-I${native}/include`, `-L${native}/build`, "-ldsm", "-lpthread", "-lrt", `-Wl,-rpath,${native}/build`],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    compiled.set(file, path);
  }
  return path;
}

/** Runs it to its good end and returns what it printed. */
async function run(processes: number, nodes: number, command: string[]): Promise<string> {
  const { code, stdout, stderr } = await cluster.dsm([
    "run",
    "-n",
    `${processes}`,
    "--nodes",
    `${nodes}`,
    "--",
    ...command,
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return stdout;
}

for (const nodes of [1, 2]) {
  describe(nodes === 1 ? "on one node" : "on two nodes", () => {
    for (const language of ["ts", "c"]) {
      test(`template.${language}`, async () => {
        const said = await run(4, nodes, [await program("template", `template.${language}`)]);
        expect(said).toBe("squares of 4 processes: 0 1 4 9\n");
      });

      test(`pingpong.${language}`, async () => {
        const said = await run(3, nodes, [await program("pingpong", `pingpong.${language}`), "both", "100"]);
        expect(said).toMatch(/^busy: .*200 times.*100 rounds.*\nsemaphore: .*200 times.*100 rounds.*\n$/);
      });

      test(`pi.${language}`, async () => {
        const said = await run(4, nodes, [await program("pi", `pi.${language}`), "1000000"]);
        expect(Number(/3\.\d+/.exec(said)?.[0])).toBeCloseTo(Math.PI, 10);
        expect(said.trimEnd().split("\n")).toHaveLength(1);
      });

      test(`primes.${language}`, async () => {
        const said = await run(4, nodes, [await program("primes", `primes.${language}`)]);
        const lines = said.trimEnd().split("\n");
        expect(lines.slice(0, -1).map((line) => /(\d+) primes/.exec(line)?.[1])).toEqual([
          ...["9592", "8392", "8013", "7863", "7678"],
        ]);
        expect(lines.at(-1)).toMatch(/^41538 primes/);
      });

      test(`contrast.${language} gives the sequential program's picture, byte for byte`, async () => {
        const [before, alone, together] = ["before", "alone", "together"].map((name) =>
          join(cluster.folder, `${name}.pgm`),
        ) as [string, string, string];
        writeFileSync(before, encodePgm(picture()));
        const contrast = await program("contrast", `contrast.${language}`);
        await run(1, 1, [contrast, "--sequential", before, alone]);
        await run(5, nodes, [contrast, before, together]);
        const [first, second, third] = [before, alone, together].map((path) => readFileSync(path)) as [
          Buffer,
          Buffer,
          Buffer,
        ];
        expect(third.equals(second)).toBe(true);
        expect(third.equals(first)).toBe(false);
        expect(third.length).toBe(first.length);
      });
    }
  });
}

test("contrast.ts and contrast.c give the same picture", async () => {
  const before = join(cluster.folder, "before.pgm");
  writeFileSync(before, encodePgm(picture()));
  const pictures: Buffer[] = [];
  for (const language of ["ts", "c"]) {
    const after = join(cluster.folder, `after-${language}.pgm`);
    await run(3, 2, [await program("contrast", `contrast.${language}`), before, after]);
    pictures.push(readFileSync(after));
  }
  expect(pictures[0]?.equals(pictures[1] as Buffer)).toBe(true);
});

for (const [file, last] of [
  ["template_classic.c", "squares of 4 processes: 0 1 4 9"],
  ["pi_classic.c", /3\.14159265/],
] as const) {
  const example = file.split("_")[0] as string;

  test(`${file} on one node, with processes it forks`, async () => {
    const { code, stdout, stderr } = await cluster.command([await program(example, file), "4"], { DSM_NODE: "a" });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.trimEnd()).toMatch(last);
  });

  test(`${file} on two nodes`, async () => {
    const path = await program(example, file);
    const outcomes = await Promise.all(["a", "b"].map((node) => cluster.command([path, "2", "4"], { DSM_NODE: node })));
    expect(outcomes.map(({ code, stderr }) => ({ code, stderr }))).toEqual(
      outcomes.map(() => ({ code: 0, stderr: "" })),
    );
    expect(
      outcomes
        .map(({ stdout }) => stdout)
        .join("")
        .trimEnd(),
    ).toMatch(last);
  });
}

/** Dull colours in a pattern with noise; an odd width, so that no process's rows begin at a page. */
function picture(): { width: number; height: number; white: number; pixels: Uint8Array } {
  const [width, height] = [517, 389];
  let noise = 1;
  const pixels = Uint8Array.from({ length: width * height }, (_, i) => {
    noise = (Math.imul(noise, 1103515245) + 12345) & 0x7fffffff;
    return 90 + Math.round(40 * Math.sin(i / 37) * Math.cos(i / (width * 19))) + ((noise >> 16) % 16);
  });
  return { width, height, white: 255, pixels };
}
