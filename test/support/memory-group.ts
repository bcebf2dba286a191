/** Control groups with a limit of memory, of either version. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "./eventually.ts";

const V1 = "/sys/fs/cgroup/memory";
const V2 = "/sys/fs/cgroup";

/** The folder in which groups may be made, and the file of their limit; null: this machine has none. */
function place(): { folder: string; limit: string } | null {
  if (existsSync(join(V1, "memory.limit_in_bytes"))) return { folder: V1, limit: "memory.limit_in_bytes" };
  const control = join(V2, "cgroup.subtree_control");
  const controllers = existsSync(control) ? readFileSync(control, "utf8").split(/\s+/) : [];
  return controllers.includes("memory") ? { folder: V2, limit: "memory.max" } : null;
}

export function canMakeMemoryGroup(): boolean {
  try {
    new MemoryGroup(2 ** 30).removeNow();
    return true;
  } catch {
    return false;
  }
}

let groups = 0;

export class MemoryGroup {
  readonly folder: string;

  /** Throws where there is no place for it. */
  constructor(limit: number) {
    const found = place();
    if (found === null) throw new Error("no control group with the memory controller");
    groups += 1;
    this.folder = join(found.folder, `dsm-test-${process.pid}-${groups}`);
    mkdirSync(this.folder);
    writeFileSync(join(this.folder, found.limit), String(limit));
  }

  /** A command that runs in the group, with all that it starts. */
  inside(...command: string[]): string[] {
    return ["sh", "-c", `echo $$ > ${this.folder}/cgroup.procs && exec "$@"`, "sh", ...command];
  }

  removeNow(): void {
    rmdirSync(this.folder);
  }

  /** Removes it once the last process in it is gone. */
  async remove(): Promise<void> {
    await eventually("the processes of the group have ended", () => {
      return readFileSync(join(this.folder, "cgroup.procs"), "utf8").trim() === "";
    });
    this.removeNow();
  }
}
