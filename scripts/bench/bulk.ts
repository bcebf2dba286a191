/** Large regions published to a second node, and what server and arbiter take of memory meanwhile. */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import {
  type Bench,
  dsm,
  type Group,
  least,
  medianOf,
  most,
  mpirun,
  numbers,
  type Probe,
  program,
  script,
  startBeside,
} from "./bench.ts";

const MIB = 64;
const BYTES = MIB << 20;

export const bulk: Group = {
  rows: [
    {
      name: "hole",
      what: `hole of ${MIB} MiB, all written, fill() until visible on a second node`,
      unit: "GB/s",
      figure: "hole",
      floor: { figure: "tcp", what: "Bun over TCP loopback" },
      peers: [
        { figure: "mpi put", what: "MPI_Put over TCP" },
        { figure: "mpi send", what: "MPI_Send over TCP" },
      ],
      limits: [least("value", 1), least("floor", 0.4)],
    },
    {
      name: "sparse",
      what: "the same hole with 1 % of its pages written",
      unit: "ms",
      figure: "sparse ms",
      floor: { figure: "hole ms", what: "all written" },
      limits: [most("floor", 1 / 20)],
    },
    {
      name: "release",
      what: `\`release\`: ${MIB} MiB written element by element, then a barrier`,
      unit: "MB/s",
      figure: "release",
      limits: [least("value", 500)],
    },
    {
      name: "pipelined-sustained",
      what: `\`pipelined\` sustained: ${MIB} MiB, 64 KiB a trap, until on a second node`,
      unit: "MB/s",
      figure: "pipelined",
      floor: { figure: "tcp MB/s", what: "Bun over TCP loopback" },
      limits: [least("value", 115)],
    },
    {
      name: "server-memory",
      what: `server beside a map of ${MIB} MiB, holes filled`,
      unit: "MiB",
      figure: "server MiB",
      limits: [most("value", 150)],
    },
    {
      name: "arbiter-memory",
      what: `arbiter beside a map of ${MIB} MiB, holes filled`,
      unit: "MiB",
      figure: "arbiter MiB",
      limits: [most("value", 120)],
    },
  ],
  start: async (bench) => {
    const { environment, quick } = bench;
    const bytes = quick ? 1 << 20 : BYTES;
    const sink = await startBeside(script("stream", "sink", String(bytes)), environment);
    const rounds = quick ? "2" : "12";
    const gigabytes = async (argv: string[]) => bytes / medianOf(await numbers([...argv, rounds], environment));
    const probe = (figure: string, argv: string[]): Probe => ({
      gives: [figure],
      run: async () => ({ [figure]: await gigabytes(argv) }),
    });
    const probes: Probe[] = [
      {
        gives: ["tcp", "tcp MB/s"],
        run: async () => {
          const rate = await gigabytes(script("stream", "source", sink.line, String(bytes)));
          return { tcp: rate, "tcp MB/s": rate * 1000 };
        },
      },
      publication(bench, ["hole", "hole ms"], "hole"),
      publication(bench, ["sparse", "sparse ms"], "sparse"),
      publication(bench, ["release"], "release"),
      publication(bench, ["pipelined"], "pipelined"),
      memory(bench),
    ];
    const mpi = mpirun();
    if (mpi !== null) {
      for (const kind of ["put", "send"]) probes.push(probe(`mpi ${kind}`, [...mpi, kind, String(bytes >> 20)]));
    }
    return { probes, stop: sink.stop };
  },
};

function settings({ environment, quick }: Bench, kind: string, rounds: number) {
  const mib = quick ? 1 : MIB;
  return {
    argv: [dsm, "run", "-n", "2", "--nodes", "2", "--", program("bulk"), kind, String(mib), String(rounds)],
    environment: {
      ...environment,
      DSM_SIZE: `${mib + 1}MiB`,
      DSM_ORDER: kind === "release" || kind === "pipelined" ? kind : "sequential",
    },
    mapMiB: mib + 1,
  };
}

function publication(bench: Bench, gives: string[], kind: string): Probe {
  return {
    gives,
    run: async () => {
      const { argv, environment } = settings(bench, kind, bench.quick ? 2 : kind === "sparse" ? 60 : 12);
      const lines = await numbers(argv, environment);
      const ns = medianOf(lines);
      const rate = medianOf(lines.map(([took, bytes]) => [(bytes as number) / (took as number)]));
      const [rateName, timeName] = gives as [string, string?];
      return {
        [rateName]: kind === "release" || kind === "pipelined" ? rate * 1000 : rate,
        ...(timeName === undefined ? {} : { [timeName]: ns / 1e6 }),
      };
    },
  };
}

/** The most that was seen while holes were filled, in MiB, without the map (which the server has as memory of its own). */
function memory(bench: Bench): Probe {
  return {
    gives: ["server MiB", "arbiter MiB"],
    run: async () => {
      // However fast they are, so many rounds of a hole outlast some samples.
      const { argv, environment, mapMiB } = settings(bench, "hole", bench.quick ? 50 : 6);
      const session = `memory-${crypto.randomUUID()}`;
      let [server, arbiter] = [0, 0];
      const sample = () => {
        server = Math.max(server, ...residentMiB(session, "server").map((mib) => mib - mapMiB));
        arbiter = Math.max(arbiter, ...residentMiB(session, "arbiter"));
      };
      const timer = setInterval(sample, bench.quick ? 10 : 50);
      try {
        await numbers(argv, { ...environment, DSM_SESSION: session });
      } finally {
        clearInterval(timer);
      }
      if (server === 0 || arbiter === 0) throw new Error("no memory of the server or an arbiter was seen");
      return { "server MiB": server, "arbiter MiB": arbiter };
    },
  };
}

/**
 * RssAnon + RssFile of a session's processes of one role, and what they share of their own: parts of publications. The map
 * is none of these.
 */
function residentMiB(session: string, role: string): number[] {
  return readdirSync("/proc").flatMap((pid) => {
    try {
      if (!/^\d+$/.test(pid)) return [];
      const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (argv[1] !== role || !argv.some((argument) => argument.endsWith(session))) return [];
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      const kib = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+) kB`, "m").exec(status)?.[1] ?? 0);
      return [(kib("RssAnon") + kib("RssFile") + ownPartsKib(pid)) / 1024];
    } catch {
      return []; // it has ended meanwhile
    }
  });
}

/** Memory of its own in which a process has parts of publications: others have mapped it too. */
function ownPartsKib(pid: string): number {
  const own = readdirSync(`/proc/${pid}/fd`)
    .map((fd) => `/proc/${pid}/fd/${fd}`)
    .find((path) => readlinkSync(path).startsWith("/memfd:dsm-parts"));
  if (own === undefined) return 0;
  const mapping = new RegExp(`^\\S+ \\S+ \\S+ \\S+ ${statSync(own).ino} [\\s\\S]*?^Rss:\\s*(\\d+) kB`, "m");
  return Number(mapping.exec(readFileSync(`/proc/${pid}/smaps`, "latin1"))?.[1] ?? 0);
}
