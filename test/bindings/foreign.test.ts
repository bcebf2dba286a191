/** The pages on Rust and Go in examples/: their commands as they stand there, and those runtimes' own signals. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster, DSM, ROOT } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

// Compilers and real processes, on machines that may be busy. Go compiles its own library when it is first used.
setDefaultTimeout(240_000);

let cluster: Cluster;
/** With the library installed under a folder that the compilers look in. */
let environment: Record<string, string>;
beforeAll(async () => {
  cluster = await Cluster.start();
  const prefix = join(cluster.folder, "prefix");
  expect(await cluster.dsm(["install", "--prefix", prefix])).toMatchObject({ code: 0, stderr: "" });
  environment = {
    ...{ CPATH: join(prefix, "include"), LIBRARY_PATH: join(prefix, "lib") },
    PATH: `${join(prefix, "bin")}:${process.env.PATH}`,
    // What Go has compiled is kept from one run to the next; nothing is fetched.
    ...{
      GOCACHE: join(ROOT, "native/build/go"),
      GO111MODULE: "off",
      GOFLAGS: "",
      GOPROXY: "off",
      GOTOOLCHAIN: "local",
    },
  };
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Runs the commands that the page of a language gives, in a copy of its folder; returns what they print. */
async function page(language: "rust" | "go"): Promise<string> {
  const folder = join(cluster.folder, language);
  cpSync(join(ROOT, "examples", language), folder, { recursive: true });
  const blocks = [...readFileSync(join(folder, "README.md"), "utf8").matchAll(/^```sh\n(.*?)^```$/gms)];
  expect(blocks).toHaveLength(1);
  const { code, stdout, stderr } = await cluster.command(
    ["sh", "-ec", `cd ${folder}\n${blocks[0]?.[1]}\n./sum many || test $? = 2\n`],
    environment,
  );
  expect({ code, stderr }).toEqual({
    code: 0,
    stderr: "sum: one argument, the number of rounds from 1 to 1000000000\n",
  });
  return stdout;
}

async function compile(...command: string[]): Promise<void> {
  const { code, stderr } = await cluster.command(command, environment);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
}

const programs = join(import.meta.dir, "programs");
const orders = ["sequential", "release", "pipelined"];

needs("rustc").describe("Rust", () => {
  test("the page's commands build and run its program", async () => {
    expect(await page("rust")).toBe("4 processes: total 4000, sum 4000, slots 4000\n");
  });

  test("threads store in every order, and an overflow of the stack is Rust's to explain", async () => {
    const program = join(cluster.folder, "faults-rs");
    await compile(
      ...["rustc", "--edition", "2021", "-O", "-D", "warnings", join(programs, "faults.rs"), "-o", program],
    );
    for (const order of orders) {
      const run = [DSM, "run", "-n1", `--order=${order}`, "--", program];
      const said = await cluster.command(run, { DSM_DIRECT: "0" });
      expect(said).toMatchObject({ code: 0, stdout: "ok\n", stderr: "" });
    }
    const over = await cluster.dsm(["run", "-n1", "--", program, "overflow"], { DSM_DIRECT: "0" });
    expect(over.stderr).toMatch(/thread 'deep'.* has overflowed its stack/);
    expect(over.code).toBe(128 + 6);
  });
});

needs("go").describe("Go", () => {
  test("the page's commands build and run its program", async () => {
    expect(await page("go")).toBe(
      "4 processes of 4 goroutines: total 16000, sum 4000, slots 16000, in a map of 1048576 bytes\n",
    );
  });

  test("goroutines store in every order beside the collector, and nil pointers are Go's panics", async () => {
    const program = join(cluster.folder, "faults-go");
    await compile("go", "build", "-o", program, join(programs, "faults.go"));
    for (const order of orders) {
      const run = [DSM, "run", "-n1", `--order=${order}`, "--", program];
      const said = await cluster.command(run, { DSM_DIRECT: "0" });
      expect(said).toMatchObject({ code: 0, stdout: "ok\n", stderr: "" });
    }
    const fault = await cluster.dsm(["run", "-n1", "--", program, "fault"], { DSM_DIRECT: "0" });
    expect(fault.stderr).toContain("unexpected fault address 0x12345000");
    expect(fault.code).toBe(2);
  });
});
