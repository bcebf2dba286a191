/** read() and its relatives into the map: what the kernel cannot do, libdsm does, and the other node sees it. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(240_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const CASES = {
  file: "read, pread, pread64 and readv of files, of all sizes, to the end",
  big: "1 MiB in one call",
  stream: "pipes and stream sockets: peeked, short, waited for",
  datagram: "datagrams: cut off, longer than a step, by recv, read and recvmsg",
  messages: "recvmsg and recvfrom with buffers, names, control bytes and the struct in the map",
  stdio: "fread: buffered and not, position, end of file, errors",
  threads: "fread by several threads from one FILE",
  randomness: "getrandom",
  edge: "buffers that cross the map's edges",
  hole: "into an open hole, past its edges",
  errors: "errors are those of the plain calls",
  signals: "interrupted, within a signal handler, cancelled",
};

for (const form of ["plain", "dsm", "fortified"]) {
  describe(`the ${form} calls`, () => {
    for (const [name, what] of Object.entries(CASES)) {
      test(what, async () => {
        const [wanted, ...seen] = await cluster.runWell([cluster.program("kernel_io"), name, form], {
          session: cluster.session(),
          nodes: ["a", "b"],
          size: "1MiB",
        });
        expect(wanted).toMatch(/^[0-9a-f]{16}\n$/);
        expect(seen).toEqual([wanted as string]);
      });
    }
  });
}

describe("a program that is not linked with libdsm, but loads it", () => {
  const library = join(ROOT, "native/build/libdsm.so");

  async function run(environment: Record<string, string>): Promise<string> {
    const program = join(cluster.folder, "loading");
    const { code, stderr } = await cluster.command([
      ...["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-D_FORTIFY_SOURCE=2", "-Wall", "-Wextra", "-Werror"],
      ...[`-I${ROOT}/native/include`, join(ROOT, "test/e2e/programs/loading.c"), "-o", program, "-ldl"],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [said] = await cluster.runWell([program, library], {
      session: cluster.session(),
      nodes: ["a"],
      size: "64KiB",
      // In direct mode the kernel may write to the map as the process itself.
      environment: { DSM_DIRECT: "0", ...environment },
    });
    return said as string;
  }

  test("with LD_PRELOAD, read and fread work on the map", async () => {
    expect(await run({ LD_PRELOAD: library })).toBe("dsm_read 5000\nread 5000\nfread 5000\n");
  });

  test("without, dsm_read does, and read fails as ever", async () => {
    expect(await run({})).toBe("dsm_read 5000\nread Bad address\nfread Bad address\n");
  });
});

test("with LD_PRELOAD, programs that know nothing of dsm run as ever", async () => {
  const environment = { LD_PRELOAD: join(ROOT, "native/build/libdsm.so") };
  const script = "head -c 100000 /dev/urandom | tee copy | md5sum && md5sum < copy && cat copy | wc -c";
  const { code, stdout, stderr } = await cluster.command(["sh", "-c", script], environment);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const [first, second, bytes] = stdout.trim().split("\n");
  expect(second).toBe(first as string);
  expect(bytes).toBe("100000");
});

test("a static program with libdsm.a reads into the map", async () => {
  const native = join(ROOT, "native");
  const program = join(cluster.folder, "static");
  const made = await cluster.command([
    ...["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static", `-I${native}/include`],
    ...[join(ROOT, "test/e2e/programs/kernel_io.c"), "-o", program],
    ...[`-L${native}/build`, "-ldsm", "-lpthread", "-lrt", "-lxed"],
  ]);
  expect(made.code).toBe(0);
  for (const name of ["file", "stdio"]) {
    const options = { session: cluster.session(), nodes: ["a", "b"], size: "1MiB" };
    const [wanted, seen] = await cluster.runWell([program, name, "plain"], options);
    expect(seen).toBe(wanted as string);
  }
});
