/** Every entry in the list of failures, in the reference, has tests that prove it, and they are there. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { ROOT } from "../support/e2e-cluster.ts";

const PAGE = "examples/reference/failures.md";
const SECTION = "## What fails\n";

const PROOFS: Record<string, [file: string, ...tests: string[]][]> = {
  "a process, under `fail`": [
    [
      "test/e2e/crash.test.ts",
      "...: those in a barrier or waiting for a semaphore are told which one it was",
      "that ends without leaving is lost, too",
    ],
    ["test/client/lock.test.ts", "in a session that fails, waiting for a lock fails and unlocking goes on"],
    ["test/core/session.test.ts", "ends with its process, and for all when one is lost"],
  ],
  "a process, under `continue`": [
    ["test/e2e/loss.test.ts", "goes on without the dead: barriers count survivors, waits go on, locks pass on"],
    [
      "test/chaos/linearizability.test.ts",
      "locks under ... order, with owners killed; and the same history with one wrong result is not",
    ],
  ],
  "a process that closes all its descriptors and runs on": [
    [
      "test/e2e/runs-on.test.ts",
      "the lock stays with it, and dsm why says so",
      "it gives the lock back by its cell",
      "after 10 seconds it counts as lost",
      "one that begins another program counts as lost at once",
    ],
  ],
  "what the lost one was about to do": [
    [
      "test/e2e/loss.test.ts",
      "never sees what the dead had in an unfilled hole",
      "a publication of which the process dies in the midst is there as a whole or not at all",
    ],
    ["test/e2e/crash.test.ts", "in the midst of storing leaves whole stores only"],
  ],
  "an arbiter": [
    [
      "test/e2e/loss.test.ts",
      "..., ...: its processes' calls fail at once, their stores end them, and for others they are lost",
      "in direct mode: calls fail at once, and stores go on in the memory that is left",
    ],
  ],
  "the session, by `dsm remove`": [
    [
      "test/e2e/removed.test.ts",
      "C, ...: waits that are under way, later calls, leaving, and stores",
      "..., under dsm run",
    ],
  ],
  "a connection between arbiter and server, or a silence": [
    [
      "test/e2e/failover.test.ts",
      "that is cut again and again is made again, and nothing is lost or done twice",
      "on which no data pass is closed and made again",
      "that is not made again in time ends the session for its node, and the others learn of the loss",
    ],
  ],
  "the server": [
    [
      "test/e2e/failover.test.ts",
      "that is killed again and again is followed by others: ... order",
      "that is killed while a session is direct is followed by another",
      "of an elastic session that is killed is followed by another, and processes that join then have everything",
    ],
    ["test/e2e/namespaces.test.ts", "a server that dies is followed by another, for both hosts: ... order"],
    ["test/chaos/linearizability.test.ts", "sequential order, while the server is killed again and again"],
  ],
  "the server, which only does not answer": [
    [
      "test/e2e/failover.test.ts",
      "that stops, is replaced and wakes up again is ignored by all, and ends",
      "that only stops, out of reach of the daemon, ends an elastic session, whose nodes are not all known",
    ],
  ],
  "the daemon": [
    [
      "test/e2e/failover.test.ts",
      "and started again learns of the sessions that go on",
      "and then the server: the new daemon, which need not know it, starts another",
    ],
    [
      "test/e2e/crash.test.ts",
      "a daemon that is killed: sessions go on to their end, and the next daemon starts new ones",
    ],
  ],
  "server and an arbiter at once": [
    [
      "test/e2e/failover.test.ts",
      "that is killed together with an arbiter: what the others were told stays, and they learn of the loss",
    ],
  ],
  "room in `/dev/shm`, or memory": [
    [
      "test/e2e/environment.test.ts",
      "a /dev/shm of 64 MiB, as docker gives it, and two nodes",
      "a limit of memory smaller than the map, as a container has it",
      "two maps that fit alone, but not together, in a limit of memory: no process is killed",
    ],
    [
      "test/e2e/exhausted.test.ts",
      "a map that does not fit in /dev/shm: joining says so, and the other node is not harmed",
      "...: a /dev/shm that fills up when the map is there does no harm: its memory is reserved",
    ],
  ],
  "an access that misses the map": [
    [
      "test/e2e/small-map.test.ts",
      "dsm run shows the line before it says how the process ended",
      "but nothing where a handler of the program takes it, or it is nowhere near",
    ],
  ],
  "file descriptors of a process": [
    [
      "test/e2e/exhausted.test.ts",
      "...: a process out of descriptors: a call that wants one says so, stores and all else go on",
      "a process that has no descriptors left to join with says so and leaves nothing behind",
    ],
  ],
  "file descriptors of arbiter, server, daemon": [
    [
      "test/e2e/exhausted.test.ts",
      "an arbiter at its limit of connections refuses one more with a reason, and serves the others",
      "a server at its limit of connections refuses one more with a reason, and serves the others",
      "a daemon out of descriptors cannot start a server, says so, and goes on",
    ],
  ],
  "memory for a page of a hole": [
    ["test/e2e/exhausted.test.ts", "a process without memory for a page of its hole ends with a message, and only it"],
  ],
};

/** What fails, as the page lists it. */
async function entries(): Promise<string[]> {
  const page = await Bun.file(join(ROOT, PAGE)).text();
  const section = page.split(/^(?=## )/m).find((part) => part.startsWith(SECTION)) ?? "";
  const points = section.split("\n").filter((line) => line.startsWith("- "));
  return points.map((point) => /^- \*\*(.+?)\*\*: /.exec(point)?.[1] ?? point);
}

/** Names of tests in a source, with "..." for what is filled in there; not of those that are left out. */
function testsIn(source: string): Set<string> {
  const names = source.matchAll(/\btest(?:\.(?:each|if)\([^\n]*?\))?\(\s*("|'|`)(.*?)\1\s*,/gs);
  return new Set([...names].map((match) => (match[2] as string).replace(/\$\{.*?\}/g, "...")));
}

test("each entry has a proof, and nothing else has", async () => {
  expect(Object.keys(PROOFS)).toEqual(await entries());
});

for (const [entry, proofs] of Object.entries(PROOFS)) {
  test(`${entry}: its tests are there`, async () => {
    expect(proofs.length).toBeGreaterThan(0);
    for (const [file, ...names] of proofs) {
      const known = testsIn(await Bun.file(join(ROOT, file)).text());
      expect(names.length).toBeGreaterThan(0);
      expect(names.filter((name) => !known.has(name))).toEqual([]);
    }
  });
}
