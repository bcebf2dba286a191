/**
 * Kills after every instruction: of three processes in direct mode one executes an operation of locks, semaphores or the
 * barrier step by step and is killed on the way (programs/stepped.c). The others check what is promised then.
 */
import { join } from "node:path";
import { outcome } from "../support/e2e-child.ts";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";
import { compileProgram } from "../support/e2e-program.ts";

/** Each with what the others do meanwhile: see the table in stepped.c. */
export const OPERATIONS = [
  ...["lock", "lock-awake", "lock-asleep", "unlock", "unlock-waiter", "unlock-starving"],
  ...["wait", "wait-awake", "wait-asleep", "post", "post-waiter"],
  ...["barrier-awake", "barrier-asleep", "barrier-last"],
];

/** Operations in which the process sleeps. */
export const SLEEPS: ReadonlySet<string> = new Set(["lock-asleep", "wait-asleep", "barrier-asleep"]);

/** Where it is killed: after so many instructions, asleep, or when the operation is over. */
export type Place = number | "asleep" | "end";

export class Stepped {
  readonly cluster: Cluster;
  readonly #program: string;

  private constructor(cluster: Cluster, program: string) {
    this.cluster = cluster;
    this.#program = program;
  }

  static async start(): Promise<Stepped> {
    const cluster = await Cluster.start();
    const include = `-I${join(ROOT, "native/src")}`;
    return new Stepped(cluster, await compileProgram(cluster, "test/chaos/programs/stepped.c", include));
  }

  /** Kills one process. Returns how many instructions it has executed. Throws if the others were told something else. */
  async kill(operation: string, place: Place): Promise<number> {
    const child = this.cluster.spawn([this.#program, operation, `${place}`], {
      ...{ session: this.cluster.session(), processes: 3, size: "64KiB", node: "a" },
      environment: { DSM_DIRECT: "1", DSM_ON_LOSS: "continue" },
    });
    const { code, signal, stdout, stderr } = await outcome(child);
    if (code !== 0) throw new Error(`${operation}, killed at ${place}: ${code ?? signal}\n${stderr}`);
    return Number.parseInt(stdout, 10);
  }

  /** Kills at each of the places, some at once. `onKill` is called after each. */
  async killAt(operation: string, places: readonly Place[], onKill: () => void = () => {}): Promise<void> {
    const left = [...places];
    const work = async (): Promise<void> => {
      for (let place = left.shift(); place !== undefined; place = left.shift()) {
        await this.kill(operation, place);
        onKill();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  }
}

const AT_ONCE = 2;
