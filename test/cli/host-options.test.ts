/** Which hosts `dsm run` takes, and what it takes for this machine. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { chooseHosts, interfaceAddress, isHere, readVariables } from "../../src/cli/settings/host-options.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "dsm-test-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

describe("hosts", () => {
  const slurm = { SLURM_JOB_NODELIST: "n[1-2]", SLURM_TASKS_PER_NODE: "4,2", SLURM_NTASKS: "5" };
  const allocation = [
    { name: "n1", slots: 4 },
    { name: "n2", slots: 2 },
  ];

  test("of the options", () => {
    expect(chooseHosts({}, {})).toBeNull();
    expect(chooseHosts({ hosts: "a:2" }, slurm)).toEqual({ hosts: [{ name: "a", slots: 2 }], allocated: false });
    expect(chooseHosts({ hostfile: file("ours", "a slots=2") }, {})).toEqual({
      ...{ hosts: [{ name: "a", slots: 2 }], allocated: false },
    });
  });

  test("of Slurm, unless nodes are simulated or it has started many of us", () => {
    expect(chooseHosts({}, slurm)).toEqual({ hosts: allocation, processes: 5, allocated: true });
    expect(chooseHosts({}, { ...slurm, SLURM_STEP_NUM_TASKS: "1" })).not.toBeNull();
    expect(chooseHosts({}, { ...slurm, SLURM_STEP_NUM_TASKS: "5" })).toBeNull();
    expect(chooseHosts({ nodes: "2" }, slurm)).toBeNull();
    expect(() => chooseHosts({}, { SLURM_JOB_NODELIST: "n[" })).toThrow('"n[" is no list of nodes');
  });

  test("of PBS", () => {
    expect(chooseHosts({}, { PBS_NODEFILE: file("pbs", "n1\nn1\nn2\n") })).toEqual({
      hosts: [
        { name: "n1", slots: 2 },
        { name: "n2", slots: 1 },
      ],
      allocated: true,
    });
  });

  test("that are not to be had", () => {
    expect(() => chooseHosts({ hosts: "a", hostfile: "b" }, {})).toThrow("give --hosts or --hostfile, not both");
    expect(() => chooseHosts({ hosts: "a", nodes: "2" }, {})).toThrow("--nodes is for simulated nodes");
    expect(() => chooseHosts({ hostfile: "/proc/0" }, {})).toThrow("the hostfile /proc/0 cannot be read: ENOENT");
    const wrong = file("wrong", "a\n-x");
    expect(() => chooseHosts({ hostfile: wrong }, {})).toThrow(`the hostfile ${wrong}: line 2: "-x" is no host`);
  });
});

test("this machine by its names and addresses", () => {
  const short = hostname().split(".")[0] as string;
  for (const name of ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", hostname(), hostname().toUpperCase()]) {
    expect({ name, here: isHere(name) }).toEqual({ name, here: true });
  }
  if (!hostname().includes(".")) expect(isHere(`${short}.example`)).toBe(true);
  for (const name of ["n1", `not-${hostname()}`, "eve@localhost", "192.0.2.1", `x.${short}`]) {
    expect({ name, here: isHere(name) }).toEqual({ name, here: false });
  }
});

test("an address of this machine, or one of its interfaces", () => {
  expect(interfaceAddress("127.0.0.1")).toBe("127.0.0.1");
  const [name, addresses] = Object.entries(networkInterfaces())[0] as [string, { address: string }[]];
  expect(interfaceAddress(name)).toBe(addresses[0]?.address as string);
  expect(() => interfaceAddress("192.0.2.1")).toThrow(
    '"192.0.2.1" is neither an address nor an interface of this machine; its addresses are',
  );
});

test("variables", () => {
  expect(readVariables(["A", "B=", "C=x=y\nz"], { A: "a", B: "b" })).toEqual({ A: "a", B: "", C: "x=y\nz" });
  expect(() => readVariables(["A"], {})).toThrow("--env A: there is no such variable here; give --env A=VALUE");
  expect(() => readVariables(["=x"], {})).toThrow('--env "=x" is not NAME or NAME=VALUE');
});
