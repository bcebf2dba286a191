/** Objects in the map are the same in every language: processes of all of them use one mutex, condition variable and so on. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { outcome } from "../support/e2e-child.ts";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";

// A compiler and real processes, on machines that may be busy.
setDefaultTimeout(240_000);

const PROGRAM = join(import.meta.dir, "programs/mixed_objects");

let cluster: Cluster;
let commands: Record<string, string[]>;
beforeAll(async () => {
  cluster = await Cluster.start();
  const native = join(ROOT, "native");
  const compiled = join(cluster.folder, "mixed_objects");
  const { code, stderr } = await cluster.command([
    ...["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", `-I${native}/include`, `${PROGRAM}.c`],
    ...["-o", compiled, `-L${native}/build`, "-ldsm", `-Wl,-rpath,${native}/build`],
  ]);
  if (code !== 0) throw new Error(`mixed_objects.c does not compile:\n${stderr}`);
  commands = {
    C: [compiled],
    Bun: [process.execPath, `${PROGRAM}.mjs`],
    Node: [Bun.which("node") ?? "node", `${PROGRAM}.mjs`],
    Python: ["python3", `${PROGRAM}.py`],
  };
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

interface Place {
  nodes: string[];
  environment: Record<string, string>;
}

const PLACES: Record<string, Place> = {
  "in direct mode": { nodes: ["a"], environment: { DSM_DIRECT: "1" } },
  "on two nodes": { nodes: ["a", "b"], environment: {} },
  "on two nodes, release": { nodes: ["a", "b"], environment: { DSM_ORDER: "release" } },
};

/** The act by a process of each language, the first with rank 0, in turn on the nodes. */
function start(languages: string[], act: string[], { nodes, environment }: Place) {
  const session = cluster.session();
  return languages.map((language, rank) =>
    cluster.spawn([...(commands[language] as string[]), ...act], {
      ...{ session, rank, processes: languages.length, size: "64KiB", node: nodes[rank % nodes.length] as string },
      environment: {
        ...{ PYTHONPATH: join(ROOT, "native/bindings/python"), PYTHONDONTWRITEBYTECODE: "1" },
        DSM_LIBRARY: join(ROOT, "native/build/libdsm.so"),
        ...environment,
      },
    }),
  );
}

const WELL = { code: 0, stdout: "ok\n", stderr: "" };

for (const order of ["sequential", "release"]) {
  test(`Python: errors, times, threads and handlers, order ${order}`, async () => {
    commands["Python alone"] = ["python3", join(import.meta.dir, "programs/objects.py")];
    const outcomes = await Promise.all(
      start(["Python alone"], [], { nodes: ["a"], environment: { DSM_ORDER: order, DSM_DIRECT: "0" } }).map(outcome),
    );
    expect(outcomes).toMatchObject([WELL]);
  });
}

const ALL = ["C", "Bun", "Node", "Python"];
for (const [where, place] of Object.entries(PLACES)) {
  test(`processes of all languages use them together, ${where}`, async () => {
    const outcomes = await Promise.all(start(ALL, ["work", "20"], place).map(outcome));
    expect(outcomes).toMatchObject(ALL.map(() => WELL));
  });
}

for (const first of ALL) {
  for (const [where, place] of Object.entries(PLACES)) {
    test(`a process in ${first} dies as the owner, and one of the others hears of it, ${where}`, async () => {
      const environment = { ...place.environment, DSM_ON_LOSS: "continue" };
      const languages = [first, ...ALL.filter((language) => language !== first)];
      const [owner, ...others] = await Promise.all(start(languages, ["death"], { ...place, environment }).map(outcome));
      expect(owner).toMatchObject({ signal: "SIGKILL", stdout: "", stderr: "" });
      expect(others).toMatchObject(others.map(() => WELL));
    });
  }
}
