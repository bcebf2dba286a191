/**
 * What a run of the tests leaves behind: processes, found by a mark in their environment; sockets, maps and directories,
 * found by comparison with those before. While other workers, other runs or sessions of the user are active, files may be
 * theirs and are not checked; CI checks them after its run.
 */
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const MARK = "TESTS_OF_DSM";
/** Roles end by themselves, some time after the last process has gone. */
const PATIENCE_MS = 60_000;
const LOOK_MS = 100;

interface Living {
  pid: string;
  args: string[];
  ours: boolean;
}

export class Leftovers {
  readonly #mark: string;
  readonly #before: Set<string>;

  /** To be made before the first process is started. */
  constructor() {
    this.#mark = `${MARK}=${process.pid}-${Date.now()}`;
    process.env[MARK] = this.#mark.slice(MARK.length + 1);
    this.#before = new Set(files());
  }

  /** What is there of this run, once what was about to go has gone. */
  async find(): Promise<string[]> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const found = this.#look();
      if (found.length === 0 || performance.now() > deadline) return found;
      await Bun.sleep(LOOK_MS);
    }
  }

  #look(): string[] {
    const all = this.#processes();
    const left = all.filter(({ ours }) => ours).map(({ pid, args }) => `process ${pid}: ${args.join(" ")}`);
    const isAlone = !all.some(({ ours, args }) => !ours && isDsm(args));
    if (!isAlone) return left;
    return [...left, ...files().filter((path) => !this.#before.has(path))];
  }

  #processes(): Living[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && ![process.pid, process.ppid].includes(Number(name)))
      .flatMap((pid) => {
        try {
          // One that has ended, and waits for its parent, shows neither.
          const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
          const environment = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
          return args.length === 0 ? [] : [{ pid, args, ours: environment.includes(this.#mark) }];
        } catch {
          return [];
        }
      });
  }
}

const ROLES = ["daemon", "server", "arbiter", "run", "test"];

/** A role of dsm's, or tests. */
const isDsm = (args: string[]): boolean =>
  args.some((arg) => /(^|\/)(dsm|bun)(\.exe)?$|\/src\/cli\/main\.ts$/.test(arg)) &&
  args.some((arg) => ROLES.includes(arg));

function files(): string[] {
  const user = process.getuid?.() ?? 0;
  const folders = ["/dev/shm", tmpdir(), "/tmp", process.env.XDG_RUNTIME_DIR ?? `/run/user/${user}`];
  const found = [...new Set(folders)].flatMap((folder) => names(folder).map((name) => join(folder, name)));
  const ours = found.filter((path) => /\/dsm[^/]*$/.test(path));
  // The folders of sockets stay, and are to be empty.
  const stays = (path: string): boolean => path.endsWith("/dsm") || path.endsWith(`/dsm-${user}`);
  return ours.flatMap((path) => (stays(path) ? names(path).map((name) => join(path, name)) : [path]));
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
