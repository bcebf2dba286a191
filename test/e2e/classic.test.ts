/**
 * Programs written for libdsm (2018), with no call of the newer interface, built by the line they were always built
 * by against what `dsm install` has put into a folder, dynamically and statically linked, on one and two nodes.
 */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { Cluster, DSM, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
let prefix: string;
const programs: Record<string, string> = {};

beforeAll(async () => {
  cluster = await Cluster.start();
  prefix = join(cluster.folder, "prefix");
  expect(await cluster.command([DSM, "install", "--prefix", prefix])).toMatchObject({ code: 0, stderr: "" });
  // What is installed must do: libdsm finds the dsm program beside itself, or in the PATH where it is part of another.
  delete cluster.environment.DSM_BIN;
  cluster.environment.LD_LIBRARY_PATH = join(prefix, "lib");
  cluster.environment.PATH = `${prefix}/bin:${cluster.environment.PATH}`;
  const source = join(ROOT, "test/e2e/programs/classic.c");
  const line = ["-I", `${prefix}/include`, "-L", `${prefix}/lib`];
  for (const [name, file, library] of [
    ["dynamic", source, "-ldsm"],
    ["static", source, "-l:libdsm.a"],
    ["wrong", join(ROOT, "test/e2e/programs/classic_wrong.c"), "-ldsm"],
  ] as const) {
    const program = join(cluster.folder, `classic-${name}`);
    const { code, stderr } = await cluster.command([
      ...["gcc", file, "-o", program, ...line, library, "-lpthread", "-lrt", "-lxed"],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    programs[name] = program;
  }
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Starts the program on each of the nodes, as people do in two terminals, and returns what it says there. */
async function start(kind: string, nodes: string[], args: string[], direct = "1"): Promise<string[][]> {
  const session = cluster.session();
  const outcomes = await Promise.all(
    nodes.map(async (node) => {
      // The session's name is the program's business; the variable tells the tests' processes which maps are whose.
      const child = cluster.spawn([programs[kind] as string, ...args], {
        ...{ session, node, environment: { CLASSIC_SESSION: session, DSM_DIRECT: direct } },
      });
      const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
      return { code, stderr, lines: stdout.trimEnd().split("\n") };
    }),
  );
  expect(outcomes.map(({ code, stderr }) => ({ code, stderr }))).toEqual(nodes.map(() => ({ code: 0, stderr: "" })));
  return outcomes.map(({ lines }) => lines);
}

for (const kind of ["dynamic", "static"]) {
  describe(`linked as ${kind}`, () => {
    test("over two nodes, one process on each", async () => {
      const [a, b] = (await start(kind, ["a", "b"], ["1", "2"])) as [string[], string[]];
      expect([a[0], b[0]].sort()).toEqual(["rank 0", "rank 1"]);
      expect([a[1], b[1]]).toEqual(["back", "back"]);
      expect([a.length, b.length]).toEqual([2, 2]);
    });

    // Its holes share pages, whose bytes are only private where stores are trapped.
    test("with four processes that it forks, of which only the first comes back", async () => {
      const [lines] = (await start(kind, ["a"], ["4", "4"], "0")) as [string[]];
      expect(lines.toSorted()).toEqual(["back", "rank 0", "rank 1", "rank 2", "rank 3"]);
      expect(lines.at(-1)).toBe("back");
    });

    test("with forked processes on three nodes, session after session", async () => {
      const all = await start(kind, ["a", "b", "c"], ["3", "9", "3"]);
      const ranks = ["rank 0", "rank 1", "rank 2", "rank 3", "rank 4", "rank 5", "rank 6", "rank 7", "rank 8"];
      expect(
        all
          .flat()
          .filter((line) => line !== "back")
          .sort(),
      ).toEqual([...ranks, ...ranks, ...ranks].sort());
      for (const lines of all) {
        expect(lines.filter((line) => line === "back")).toHaveLength(3);
        expect(lines.at(-1)).toBe("back");
      }
    });
  });
}

describe("what goes wrong is printed and ends the program", () => {
  for (const [how, message] of [
    ["no session", /dsm_barrier.*there is no session; call dsm_init first/],
    ["no processes", /0 local processes of 0 in all is not possible/],
    ["more here than in all", /3 local processes of 2 in all is not possible/],
    ["slash", /the session name has a slash; leave it out/],
    ["no name", /the session name is empty/],
    ["too large", /size 8 GiB is beyond the limit of 4 GiB/],
    ["no configuration", /the configuration is NULL/],
    ["twice", /there is a session already; call dsm_exit first/],
    ["semaphore", /the semaphore name has a slash/],
    ["hole", /there is no hole 7/],
    ["", /dsm_exit.*there is no session/],
  ] as const) {
    test(how === "" ? "dsm_exit a second time" : how, async () => {
      const child = cluster.spawn([programs.wrong as string, how], { session: "wrong", node: "a" });
      const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
      expect(stderr).toMatch(/^[^\n]+\n$/);
      expect(stderr).toMatch(message);
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    });
  }

  test("a daemon that is not there", async () => {
    const child = cluster.spawn([programs.wrong as string, "no daemon"], {
      ...{ session: "wrong", node: "a", environment: { DSM_AUTOSTART: "0" } },
    });
    const [stderr, code] = await Promise.all([child.stderr.text(), child.exited]);
    expect(stderr).toMatch(
      /^[^\n]*the session daemon at 127\.0\.0\.1:1 cannot be reached: nothing is listening there[^\n]*\n$/,
    );
    expect(code).toBe(1);
  });
});
