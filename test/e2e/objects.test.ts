/** Objects in the map: used by threads of several processes, on one node and on two, by the calls of dsm.h and of pthreads. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { outcome } from "../support/e2e-child.ts";
import { Cluster, LIVENESS_MS } from "../support/e2e-cluster.ts";

setDefaultTimeout(4 * LIVENESS_MS);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const PROGRAMS = { "of dsm.h": "objects", "of pthreads": "objects_pthread" };

const CASES = {
  mutex: "no two threads have a mutex at once, however they ask for it",
  ring: "threads take turns by a condition variable that wakes all",
  queue: "a queue with two condition variables, each of which wakes one",
  rwlock: "readers never see half of what a writer does",
  barrier: "no thread leaves a barrier before the last has come, and one is told that it was the last",
  semaphore: "a semaphore as a lock, and one that counts",
  errors: "what may not be done is refused",
};

/** On one node the session is elastic: direct mode may end, so that the objects of pthreads are dsm's. */
const PLACES: Record<string, { nodes: string[]; environment: Record<string, string> }> = {
  "in direct mode": { nodes: ["a", "a"], environment: { DSM_DIRECT: "1", DSM_ELASTIC: "1" } },
  "in direct mode that stays": { nodes: ["a", "a"], environment: { DSM_DIRECT: "1" } },
  "on two nodes": { nodes: ["a", "b", "a"], environment: {} },
  "on two nodes, release": { nodes: ["a", "b"], environment: { DSM_ORDER: "release" } },
};

for (const [types, program] of Object.entries(PROGRAMS)) {
  for (const [place, { nodes, environment }] of Object.entries(PLACES)) {
    describe(`${types}, ${place}`, () => {
      for (const [name, what] of Object.entries(CASES)) {
        test(what, async () => {
          const said = await cluster.runWell([cluster.program(program), name, "2", "30"], {
            ...{ session: cluster.session(), nodes, size: "64KiB" },
            environment,
          });
          expect(said).toEqual(nodes.map(() => "ok\n"));
        });
      }
    });
  }
}

const DEATHS: Record<string, { nodes: string[]; environment: Record<string, string> }> = {
  "in direct mode": { nodes: ["a", "a", "a", "a"], environment: { DSM_DIRECT: "1" } },
  "in direct mode that may end": { nodes: ["a", "a", "a", "a"], environment: { DSM_DIRECT: "1", DSM_ELASTIC: "1" } },
  "on two nodes": { nodes: ["a", "b", "a", "b"], environment: {} },
};

for (const [types, program] of Object.entries(PROGRAMS)) {
  for (const [place, { nodes, environment }] of Object.entries(DEATHS)) {
    test(`${types}, ${place}: each death of an owner is told once`, async () => {
      const session = cluster.session();
      const children = nodes.map((node, rank) =>
        cluster.spawn([cluster.program(program), "deaths", "1", "25"], {
          ...{ session, rank, processes: nodes.length, node, size: "64KiB" },
          environment: { DSM_ON_LOSS: "continue", ...environment },
        }),
      );
      const [survivor, ...others] = await Promise.all(children.map(outcome));
      expect(others.map(({ signal, stderr }) => ({ signal, stderr }))).toEqual(
        others.map(() => ({ signal: "SIGKILL", stderr: "" })),
      );
      expect(survivor).toMatchObject({ code: 0, stdout: "ok\n", stderr: "" });
    });
  }
}
