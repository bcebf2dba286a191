/** A map that is too small for its program: what each call says, and what a store behind its end says. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster, eventually, ROOT } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

setDefaultTimeout(120_000);

const SIZE = 65_536;

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** What is advised: the least size, and one with room. */
const advice = (least: string, tried = "128KiB"): string =>
  `give the map at least ${least}; try --size ${tried} (DSM_SIZE=${tried})`;

/** The program alone in a session of 64 KiB, to its end. */
async function alone(words: string[], environment: Record<string, string> = {}) {
  const [outcome] = await cluster.run([cluster.program("small_map"), ...words], {
    ...{ session: cluster.session(), size: "64KiB", nodes: ["a"], environment },
  });
  return outcome as NonNullable<typeof outcome>;
}

const MODES = [
  ["direct mode", {}],
  ["sequential", { DSM_DIRECT: "0" }],
  ["release", { DSM_DIRECT: "0", DSM_ORDER: "release" }],
  ["pipelined", { DSM_DIRECT: "0", DSM_ORDER: "pipelined" }],
] as const;

describe.each(MODES)("an access that misses the map, %s", (_, environment) => {
  const about = `of the map of ${SIZE} bytes of session "s\\d+"`;
  test.each([
    [
      "a store right behind its end",
      "store",
      SIZE,
      `a store to 0x\\w{12} is right behind the end ${about}`,
      "65KiB",
      "128KiB",
    ],
    [
      "a store some bytes behind",
      "store",
      SIZE + 1,
      `a store to 0x\\w{12} is 1 byte behind the end ${about}`,
      "65KiB",
      "128KiB",
    ],
    ["a store pages behind", "store", SIZE + 12_288, `.* is 12288 bytes behind the end ${about}`, "77KiB", "128KiB"],
    ["a store far behind", "store", 3 * 2 ** 20, `.* is 3080192 bytes behind the end ${about}`, "3073KiB", "4MiB"],
    [
      "a load behind its end",
      "load",
      SIZE + 8,
      `a load from 0x\\w{12} is 8 bytes behind the end ${about}`,
      "65KiB",
      "128KiB",
    ],
    ["SIGSEGV is ignored", "ignored", SIZE, `a store to 0x\\w{12} is right behind the end ${about}`, "65KiB", "128KiB"],
  ])("%s: it says so, and how large the session must be", async (_what, call, offset, words, least, tried) => {
    const { signal, stderr } = await alone([call, String(offset)], environment);
    const advised = advice(least, tried).replace(/[()]/g, "\\$&");
    expect(stderr).toMatch(new RegExp(`^dsm: ${words}; ${advised}\n$`));
    expect(signal).toBe("SIGSEGV");
  });

  test("a call of the C library that runs over the end", async () => {
    const { signal, stderr } = await alone(["clear", String(SIZE + 4096)], environment);
    expect(stderr).toMatch(
      /^dsm: a store to 0x\w+ is (right|\d+ bytes?) behind the end of the map of 65536 bytes [^\n]*\n$/,
    );
    expect(signal).toBe("SIGSEGV");
  });

  test("a store before its beginning", async () => {
    const { signal, stderr } = await alone(["store", "-8"], environment);
    expect(stderr).toMatch(new RegExp(`^dsm: a store to 0x\\w+ is 8 bytes before the beginning ${about}\n$`));
    expect(signal).toBe("SIGSEGV");
  });

  test("but nothing where a handler of the program takes it, or it is nowhere near", async () => {
    expect(await alone(["handled", String(SIZE)], environment)).toEqual({
      ...{ code: 0, signal: null, stderr: "", stdout: "the program's own handler\n" },
    });
    expect(await alone(["store", "0x100000000000"], environment)).toMatchObject({ signal: "SIGSEGV", stderr: "" });
  });
});

test("a store across the end of the map names the size", async () => {
  const { signal, stderr } = await alone(["store", String(SIZE - 4)], { DSM_DIRECT: "0" });
  expect(stderr).toMatch(
    /: it goes on behind the end of the map; start the session with a larger --size \(DSM_SIZE\)\n$/,
  );
  expect(signal).toBe("SIGSEGV");
});

test("dsm run shows the line before it says how the process ended", async () => {
  const program = cluster.program("small_map");
  const { code, stderr } = await cluster.dsm(["run", "-n", "1", "--size", "64KiB", "--", program, "store", "131072"]);
  expect(stderr).toMatch(
    /^dsm: a store to 0x\w+ is 65536 bytes behind the end of the map of 65536 bytes of session "[^"]+"; give the map at least 129KiB; try --size 256KiB \(DSM_SIZE=256KiB\)\ndsm: process 0 \(pid \d+\) was ended by SIGSEGV\n$/,
  );
  expect(code).toBe(139);
});

test("calls of C name the size they need", async () => {
  for (const [words, said] of [
    [
      ["alloc", "65537"],
      `DSM_NO_MEMORY a block of 65537 bytes does not fit in the map of ${SIZE} bytes of session "S"; ${advice("65KiB")}`,
    ],
    [
      ["named", "3145729"],
      `DSM_NO_MEMORY a block of 3145729 bytes does not fit in the map of ${SIZE} bytes of session "S"; ${advice("3073KiB", "4MiB")}`,
    ],
    [
      ["alloc", "0x200000000"],
      `DSM_NO_MEMORY a block of 8589934592 bytes does not fit in the map of ${SIZE} bytes of session "S"; a map has at most 4 GiB`,
    ],
    [
      ["fill", "60000", "60000"],
      `DSM_NO_MEMORY no gap of 60000 bytes is left in the map of ${SIZE} bytes of session "S"; free blocks, or ${advice("118KiB", "256KiB")}`,
    ],
    [
      ["hole", "0", "131072"],
      `DSM_INVALID a hole of 131072 bytes at byte 0 is not inside the map of ${SIZE} bytes; ${advice("128KiB", "256KiB")}`,
    ],
    [
      ["hole", "65536", "8"],
      `DSM_INVALID a hole of 8 bytes at byte 65536 is not inside the map of ${SIZE} bytes; ${advice("65KiB")}`,
    ],
    [["wait", "65536"], `DSM_INVALID byte 65536 is not in the map of ${SIZE} bytes; ${advice("65KiB")}`],
  ] as const) {
    const { code, stdout, stderr } = await alone([...words]);
    expect(stdout.replace(/"s\d+"/, '"S"')).toBe(`${said}\n`);
    expect([code, stderr]).toEqual([0, ""]);
  }
});

test("a block that is given the least size fits", async () => {
  const [outcome] = await cluster.run([cluster.program("small_map"), "fill", "60000", "60000"], {
    ...{ session: cluster.session(), size: "118KiB", nodes: ["a"] },
  });
  expect(outcome).toMatchObject({ code: 0, stdout: "", stderr: "" });
});

test("who asks for another size than the session has is told both, and what all should say", async () => {
  const session = cluster.session();
  const first = cluster.spawn([cluster.program("small_map"), "open"], {
    session,
    processes: 1,
    size: "64KiB",
    node: "a",
  });
  await eventually("the first has joined", async () => (await cluster.sessions()).some(({ name }) => name === session));
  await cluster.untilPresent(session, 1);
  // On the same node the arbiter says it, on another one the daemon, and dsm_init() in one line on stderr.
  const words = `session "${session}" has a map of 64 KiB, not 128 KiB; give all processes the same size (--size 128KiB, or DSM_SIZE=128KiB)`;
  for (const node of ["a", "b"]) {
    const environment = { DSM_SESSION: session, DSM_NODE: node };
    const open = await cluster.command([cluster.program("small_map"), "open", "131072"], environment);
    expect(open).toMatchObject({ code: 1, stdout: `DSM_MISMATCH ${words}\n`, stderr: "" });
    const init = await cluster.command([cluster.program("small_map"), "init", "131072", "1"], environment);
    expect(init).toMatchObject({ code: 1, stdout: "", stderr: `dsm: dsm_init: ${words}\n` });
  }
  first.stdin.end();
  expect(await first.exited).toBe(0);
});

/** A script as one process of a session of 64 KiB. */
async function script(name: string, text: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const path = join(cluster.folder, name);
  writeFileSync(path, text);
  return cluster.dsm(["run", "-n", "1", "--size", "64KiB", "--", path]);
}

test("calls of TypeScript name the size they need", async () => {
  const { stdout, stderr } = await script(
    "small.ts",
    `import { f64, join, struct } from "dsm";
await using session = await join();
const calls = [
  () => session.view(Float64Array, 0, 10_000),
  () => session.view(Float64Array, 131_072),
  () => session.view(Float64Array, -8),
  () => session.hole({ offset: 65_536 - 8, length: 16 }),
  () => session.alloc(Float64Array, 10_000),
  () => session.named("a", 70_000),
  () => session.struct("state", struct({ grid: f64.array(10_000) })),
];
for (const call of calls) {
  try {
    call();
    console.log("nothing");
  } catch (error) {
    console.log(error.code, error.message.replace(session.name, "S"));
  }
}
`,
  );
  expect(stderr).toBe("");
  expect(stdout.trim().split("\n")).toEqual([
    `DSM_INVALID a Float64Array of 10000 elements at byte 0 is not in the map of ${SIZE} bytes; ${advice("79KiB")}`,
    `DSM_INVALID byte 131072 is not in the map of ${SIZE} bytes; ${advice("129KiB", "256KiB")}`,
    `DSM_INVALID byte -8 is not in the map of ${SIZE} bytes`,
    `DSM_INVALID a hole of 16 bytes at byte 65528 is not in the map of ${SIZE} bytes; ${advice("65KiB")}`,
    `DSM_NO_MEMORY a block of 80000 bytes does not fit in the map of ${SIZE} bytes of session "S"; ${advice("79KiB")}`,
    `DSM_NO_MEMORY a block of 70000 bytes does not fit in the map of ${SIZE} bytes of session "S"; ${advice("69KiB")}`,
    `DSM_NO_MEMORY struct "state" has 80000 bytes, the map of session "S" only ${SIZE}; ${advice("79KiB")}`,
  ]);
});

test("calls of Python name the size they need", async () => {
  const { stdout, stderr } = await script(
    "small.py",
    `import dsm
with dsm.join() as session:
    for call in (lambda: session.named("a", 70_000), lambda: session.alloc(70_000)):
        try:
            call()
        except dsm.Error as error:
            print(error.code, str(error).replace(session.name, "S"))
`,
  );
  expect(stderr).toBe("");
  const words = `DSM_NO_MEMORY a block of 70000 bytes does not fit in the map of ${SIZE} bytes of session "S"; ${advice("69KiB")}\n`;
  expect(stdout).toBe(words + words);
});

needs("g++").test("allocate() of C++ names the size it needs", async () => {
  const program = join(cluster.folder, "small");
  writeFileSync(
    `${program}.cpp`,
    `#include <dsm/dsm.hpp>
#include <iostream>
int main() {
  dsm::session session;
  try {
    std::vector<double, dsm::allocator<double>> many(10'000, session.allocator<double>());
  } catch (const std::bad_alloc &error) {
    std::cout << error.what() << std::endl;
  }
  try {
    session.view<double>(8, 10'000);
  } catch (const dsm::error &error) {
    std::cout << error.what() << std::endl;
  }
}
`,
  );
  const native = join(ROOT, "native");
  const made = await cluster.command([
    ...["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror", `-I${native}/include`, `-I${native}/bindings/cpp`],
    ...[`${program}.cpp`, "-o", program, `-L${native}/build`, "-ldsm", `-Wl,-rpath,${native}/build`],
  ]);
  expect(made).toMatchObject({ code: 0, stderr: "" });
  const [said] = await cluster.runWell([program], { session: cluster.session(), size: "64KiB", nodes: ["a"] });
  expect(said?.replace(/"s\d+"/, '"S"').split("\n")).toEqual([
    `a block of 80000 bytes does not fit in the map of ${SIZE} bytes of session "S"; ${advice("79KiB")}`,
    `DSM_INVALID: a view of 10000 elements at byte 8 is not inside the map of ${SIZE} bytes; ${advice("79KiB")}`,
    "",
  ]);
});
