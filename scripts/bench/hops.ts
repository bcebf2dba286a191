/** Operations that wait for the order: beside a bare echo over the same hops, Redis, and MPI. */
import { join } from "node:path";
import {
  type Beside,
  dsm,
  type Group,
  medianOf,
  most,
  mpirun,
  numbers,
  type Probe,
  program,
  script,
  startBeside,
} from "./bench.ts";

const echo = { figure: "echo", what: "bare echo over the same hops" };

export const hops: Group = {
  rows: [
    {
      name: "store",
      what: "sequential store, 2 nodes",
      unit: "us",
      figure: "store",
      floor: echo,
      peers: [
        { figure: "set unix", what: "Redis SET, Unix socket" },
        { figure: "set tcp", what: "Redis SET, TCP" },
      ],
      limits: [most("floor", 1.3)],
    },
    {
      name: "atomic",
      what: "sequential atomic, 2 nodes",
      unit: "us",
      figure: "atomic",
      floor: echo,
      peers: [
        { figure: "incr unix", what: "Redis INCR, Unix socket" },
        { figure: "incr tcp", what: "Redis INCR, TCP" },
      ],
      limits: [most("floor", 1.3)],
    },
    {
      name: "barrier",
      what: "barrier, 2 processes on 2 nodes",
      unit: "us",
      figure: "barrier",
      floor: echo,
      peers: [{ figure: "mpi barrier", what: "MPI_Barrier over TCP, which never sleeps" }],
      limits: [most("floor", 1.5)],
    },
  ],
  start: async ({ environment, directory, quick }) => {
    const rounds = quick ? "20" : "12000";
    const path = join(directory, "relay.sock");
    const far = join(directory, "echo.sock");
    const beside: Beside[] = [await startBeside(script("relay", "echo", far), environment)];
    beside.push(await startBeside(script("relay", "relay", path, far), environment));
    const latency = async (argv: string[]) => medianOf(await numbers([...argv, rounds], environment)) / 1000;
    const probe = (figure: string, argv: string[]): Probe => ({
      gives: [figure],
      run: async () => ({ [figure]: await latency(argv) }),
    });
    const twoNodes = [dsm, "run", "-n", "2", "--nodes", "2", "--", program("operations")];
    const probes = [
      probe("echo", [program("echo"), path]),
      probe("store", [...twoNodes, "store"]),
      probe("atomic", [...twoNodes, "atomic"]),
      probe("barrier", [...twoNodes, "barrier"]),
    ];
    const redis = await startRedis(directory, environment);
    if (redis !== null) {
      beside.push(redis.process);
      for (const kind of ["set", "incr"]) {
        probes.push(probe(`${kind} unix`, [program("redis"), redis.path, kind]));
        probes.push(probe(`${kind} tcp`, [program("redis"), redis.port, kind]));
      }
    }
    const mpi = mpirun();
    if (mpi !== null) probes.push(probe("mpi barrier", [...mpi, "barrier"]));
    const stop = async () => {
      await Promise.all(beside.map((one) => one.stop()));
    };
    return { probes, stop };
  },
};

/** A Redis that keeps nothing on disk, where it is installed. */
async function startRedis(directory: string, environment: Record<string, string>) {
  const server = Bun.which("redis-server");
  if (server === null) return null;
  const path = join(directory, "redis.sock");
  // Redis cannot take a port of the system's choice: one that was free a moment ago is near enough.
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  const port = String(listener.port);
  listener.stop(true);
  const settings = ["--save", "", "--appendonly", "no", "--dir", directory, "--bind", "127.0.0.1"];
  const process = await startBeside([server, "--port", port, "--unixsocket", path, ...settings], environment);
  const deadline = performance.now() + 10_000;
  while (!(await isThere(path))) {
    if (performance.now() > deadline) throw new Error("redis-server does not listen");
    await Bun.sleep(10);
  }
  return { process, path, port };
}

async function isThere(path: string): Promise<boolean> {
  try {
    (await Bun.connect({ unix: path, socket: { data: () => {} } })).end();
    return true;
  } catch {
    return false;
  }
}
