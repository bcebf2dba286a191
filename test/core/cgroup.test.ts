/** Where a process's limits are, by the texts of /proc; and the room for memory that follows from them. */
import { describe, expect, test } from "bun:test";
import { findGroups, parseMounts } from "../../src/core/launch/cgroup.ts";
import { describeRoom, killsForMemory, memoryRoom, type ReadText } from "../../src/transport/memory-room.ts";

const MiB = 2 ** 20;
const V1_MOUNT = "33 25 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:15 - cgroup cgroup rw,memory";
const V2_MOUNT = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";

describe("findGroups", () => {
  test.each([
    [
      "version 2",
      "0::/user.slice/a.service\n",
      V2_MOUNT,
      { version: 2, folders: ["/sys/fs/cgroup/user.slice/a.service", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"] },
    ],
    [
      "version 1",
      "5:cpu:/x\n4:memory:/a/b\n0::/\n",
      V1_MOUNT,
      {
        version: 1,
        folders: ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"],
      },
    ],
    [
      "both, with the controller in version 1",
      "4:memory:/a\n0::/b\n",
      `${V2_MOUNT.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")}\n${V1_MOUNT}`,
      { version: 1, folders: ["/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"] },
    ],
    [
      "both, with the controller in version 2",
      "5:cpu:/x\n0::/b\n",
      `36 25 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n${V2_MOUNT}`,
      { version: 2, folders: ["/sys/fs/cgroup/b", "/sys/fs/cgroup"] },
    ],
    [
      "a container that sees its own group alone, under the name on the host",
      "4:memory:/docker/abc\n",
      V1_MOUNT.replace(" / ", " /docker/abc "),
      { version: 1, folders: ["/sys/fs/cgroup/memory"] },
    ],
    [
      "a group below that of the container",
      "4:memory:/docker/abc/inner\n",
      V1_MOUNT.replace(" / ", " /docker/abc "),
      { version: 1, folders: ["/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory"] },
    ],
    ["a group outside of what is mounted", "0::/../../other\n", V2_MOUNT, { version: 2, folders: ["/sys/fs/cgroup"] }],
    [
      "a mount whose path has a space",
      "0::/\n",
      V2_MOUNT.replace("/sys/fs", "/a\\040b"),
      { version: 2, folders: ["/a b/cgroup"] },
    ],
    ["nothing mounted", "0::/\n", "1 0 8:1 / / rw - ext4 /dev/root rw", null],
    ["no groups at all", "", "", null],
    ["text that is none", "nonsense\n4:memory\n", "nonsense - \n - cgroup2\n", null],
  ])("%s", (_, cgroup, mountinfo, groups) => {
    expect(findGroups("memory", cgroup, mountinfo)).toEqual(groups as ReturnType<typeof findGroups>);
  });

  test("the options of mount and file system are one list", () => {
    const [mount] = parseMounts("61 25 0:40 / /tmp rw,noexec,relatime - tmpfs none rw,size=4k");
    expect(mount).toEqual({
      ...{ id: "61", root: "/", point: "/tmp", type: "tmpfs" },
      options: ["rw", "noexec", "relatime", "rw", "size=4k"],
    });
  });
});

/** The files of a machine with 8 GiB, of which 4 are free. */
const machine = (files: Record<string, string>, swapFree = 0): ReadText => {
  const all: Record<string, string> = {
    "/proc/meminfo": `MemTotal:        8388608 kB\nMemFree:  1 kB\nMemAvailable:    4194304 kB\nSwapFree: ${swapFree / 1024} kB\n`,
    ...files,
  };
  return (path) => all[path] ?? null;
};
const v1 = (files: Record<string, string>): Record<string, string> => ({
  "/proc/self/cgroup": "4:memory:/a/b\n",
  "/proc/self/mountinfo": V1_MOUNT,
  ...Object.fromEntries(Object.entries(files).map(([name, text]) => [`/sys/fs/cgroup/memory/${name}`, text])),
});
const v2 = (files: Record<string, string>): Record<string, string> => ({
  "/proc/self/cgroup": "0::/a/b\n",
  "/proc/self/mountinfo": V2_MOUNT,
  ...Object.fromEntries(Object.entries(files).map(([name, text]) => [`/sys/fs/cgroup/${name}`, text])),
});

describe("memoryRoom", () => {
  test.each([
    ["the machine's, without groups", {}, { free: 4096 * MiB, limit: 8192 * MiB, group: null }],
    [
      "the machine's, if the groups have no limit",
      v2({ "a/b/memory.max": "max\n", "a/b/memory.current": `${MiB}\n`, "a/memory.max": "max\n" }),
      { free: 4096 * MiB, limit: 8192 * MiB, group: null },
    ],
    [
      "that of a group of version 2, whose cache counts as free",
      v2({
        "a/b/memory.max": `${100 * MiB}\n`,
        "a/b/memory.current": `${60 * MiB}\n`,
        "a/b/memory.stat": `anon 1\ninactive_file ${20 * MiB}\nactive_file ${10 * MiB}\nshmem 5\n`,
      }),
      { free: 70 * MiB, limit: 100 * MiB, group: "/sys/fs/cgroup/a/b" },
    ],
    [
      "that of a group around it, if it is less",
      v2({
        "a/b/memory.max": `${100 * MiB}\n`,
        "a/b/memory.current": `${10 * MiB}\n`,
        "a/memory.max": `${200 * MiB}\n`,
        "a/memory.current": `${150 * MiB}\n`,
      }),
      { free: 50 * MiB, limit: 200 * MiB, group: "/sys/fs/cgroup/a" },
    ],
    [
      "that of a group of version 1",
      v1({
        "a/b/memory.limit_in_bytes": `${100 * MiB}\n`,
        "a/b/memory.usage_in_bytes": `${60 * MiB}\n`,
        // The figures of the group alone, and of all below it.
        "a/b/memory.stat": `active_file 7\ninactive_file 7\ntotal_inactive_file ${20 * MiB}\ntotal_active_file 0\n`,
        "a/memory.limit_in_bytes": "9223372036854771712\n",
        "a/memory.usage_in_bytes": "0\n",
      }),
      { free: 60 * MiB, limit: 100 * MiB, group: "/sys/fs/cgroup/memory/a/b" },
    ],
    [
      "nothing, where a group has more than its limit",
      v1({ "a/b/memory.limit_in_bytes": "4096\n", "a/b/memory.usage_in_bytes": "8192\n" }),
      { free: 0, limit: 4096, group: "/sys/fs/cgroup/memory/a/b" },
    ],
  ])("is %s", (_, files, room) => {
    expect(memoryRoom(machine(files))).toEqual(room);
  });

  test("counts the swap that the group may use", () => {
    const group = { "a/b/memory.max": `${100 * MiB}\n`, "a/b/memory.current": `${60 * MiB}\n` };
    const swap = (most: string) => ({
      ...group,
      "a/b/memory.swap.max": `${most}\n`,
      "a/b/memory.swap.current": `${5 * MiB}\n`,
    });
    const free = (files: Record<string, string>) => memoryRoom(machine(files, 50 * MiB))?.free;
    expect(free(v2(swap("max")))).toBe(90 * MiB);
    expect(free(v2(swap(String(15 * MiB))))).toBe(50 * MiB);
    expect(free(v2(swap("0")))).toBe(40 * MiB);
    const first = { "a/b/memory.limit_in_bytes": `${100 * MiB}\n`, "a/b/memory.usage_in_bytes": `${60 * MiB}\n` };
    const both = (most: number) => ({
      ...first,
      "a/b/memory.memsw.limit_in_bytes": `${most}\n`,
      "a/b/memory.memsw.usage_in_bytes": `${60 * MiB}\n`,
    });
    expect(free(v1(both(120 * MiB)))).toBe(60 * MiB);
    expect(free(v1(both(100 * MiB)))).toBe(40 * MiB);
  });

  test("is not known where /proc says nothing", () => {
    expect(memoryRoom(() => null)).toBeNull();
    expect(killsForMemory(() => null)).toBeNull();
  });
});

test("the kernel's count of killed processes", () => {
  expect(
    killsForMemory(machine(v1({ "a/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n" }))),
  ).toBe(3);
  expect(killsForMemory(machine(v2({ "a/b/memory.events": "low 0\noom 2\noom_kill 2\n" })))).toBe(2);
});

test("the words name the limit and what to do", () => {
  expect(describeRoom({ free: 0, limit: 8192 * MiB, group: null })).toBe(
    "this machine has 8 GiB of memory; choose a smaller --size",
  );
  expect(describeRoom({ free: 0, limit: 100 * MiB, group: "/sys/fs/cgroup/a" })).toBe(
    "the memory of this container or service is limited to 100 MiB (/sys/fs/cgroup/a); raise that limit (docker run --memory, MemoryMax=), or choose a smaller --size",
  );
});
