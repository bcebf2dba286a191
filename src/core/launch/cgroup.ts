/** The control groups of a process, by the texts of /proc: in which folders their limits are. */

interface Mount {
  /** The folder of the file system that is mounted here. */
  root: string;
  point: string;
  type: string;
  /** Of the mount and of the file system. */
  options: string[];
  /** Its number in /proc/self/fdinfo. */
  id: string;
}

/** Parses /proc/self/mountinfo. Lines that it does not understand are left out. */
export function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split("\n").flatMap((line): Mount[] => {
    const [place, system] = line.split(" - ");
    const [id, , , root, point, options] = place?.split(" ") ?? [];
    const [type, , superOptions = ""] = system?.split(" ") ?? [];
    if (id === undefined || root === undefined || point === undefined || options === undefined || !type) return [];
    const words = [...options.split(","), ...superOptions.split(",")];
    return [{ id, root: unescaped(root), point: unescaped(point), type, options: words }];
  });
}

/** Spaces and their like are written as three octal digits. */
const unescaped = (path: string): string =>
  path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

export interface Groups {
  version: 1 | 2;
  /** The folders of the process's group and of those around it, as far as they are visible, the innermost first. */
  folders: string[];
}

/**
 * Finds the groups that limit this process, by /proc/self/cgroup and /proc/self/mountinfo. Null: none does. Where both
 * versions are mounted, a controller belongs to one of them.
 */
export function findGroups(controller: "memory" | "pids", cgroup: string, mountinfo: string): Groups | null {
  const mounts = parseMounts(mountinfo);
  const lines = cgroup.split("\n").map((line) => /^\d+:([^:]*):(.*)$/.exec(line));
  for (const version of [1, 2] as const) {
    const line = lines.find(
      (match) => match && (version === 1 ? match[1]?.split(",").includes(controller) : !match[1]),
    );
    const mount = mounts.find(({ type, options }) =>
      version === 1 ? type === "cgroup" && options.includes(controller) : type === "cgroup2",
    );
    if (line && mount) return { version, folders: foldersOf(line[2] as string, mount) };
  }
  return null;
}

function foldersOf(path: string, { root, point }: Mount): string[] {
  const base = root === "/" ? "" : root;
  // In a container the path may be that of the host, and outside of what is mounted: then the mount is the group.
  const inside = path.startsWith(`${base}/`) && !path.split("/").includes("..") ? path.slice(base.length) : "";
  const names = inside.split("/").filter((name) => name !== "");
  return names.map((_, i) => [point, ...names.slice(0, names.length - i)].join("/")).concat(point);
}
