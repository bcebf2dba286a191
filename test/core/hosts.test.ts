/** Lists of hosts in all their forms, and which ranks they get. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DsmError } from "../../src/core/base/errors.ts";
import { NODES_MAX, PROCESSES_MAX } from "../../src/core/base/limits.ts";
import {
  bareHost,
  expandNodelist,
  expandTasks,
  type Host,
  parseHostfile,
  parseHostList,
  parseNodefile,
  parseSlurm,
  placeRanks,
  totalSlots,
} from "../../src/core/launch/hosts.ts";

const refusal = (what: () => unknown): string => {
  try {
    what();
  } catch (error) {
    if (error instanceof DsmError && error.code === "DSM_INVALID") return error.message;
    throw error;
  }
  throw new Error("it was not refused");
};

const hostName = fc
  .tuple(
    fc.option(fc.stringMatching(/^[a-z_][a-z0-9_.-]{0,10}$/), { nil: undefined }),
    fc.oneof(
      fc.stringMatching(/^[a-z0-9_][a-z0-9_.-]{0,20}$/),
      fc.ipV4(),
      fc.ipV6().map((address) => `[${address}]`),
    ),
  )
  .map(([user, host]) => (user === undefined ? host : `${user}@${host}`));
const hosts: fc.Arbitrary<Host[]> = fc.uniqueArray(
  fc.record({ name: hostName, slots: fc.integer({ min: 1, max: PROCESSES_MAX }) }),
  { minLength: 1, maxLength: 20, selector: ({ name }) => name },
);

describe("a list", () => {
  test("of names, users, addresses and slots", () => {
    expect(parseHostList("a:4, eve@b.c:2,[fe80::1]:3,10.0.0.1,d")).toEqual([
      { name: "a", slots: 4 },
      { name: "eve@b.c", slots: 2 },
      { name: "[fe80::1]", slots: 3 },
      { name: "10.0.0.1", slots: 1 },
      { name: "d", slots: 1 },
    ]);
  });

  test("with a host again adds its slots", () => {
    expect(parseHostList("a:2,b,a")).toEqual([
      { name: "a", slots: 3 },
      { name: "b", slots: 1 },
    ]);
  });

  test("is what was written", () => {
    fc.assert(
      fc.property(hosts, (all) => {
        expect(parseHostList(all.map(({ name, slots }) => `${name}:${slots}`).join(","))).toEqual(all);
      }),
    );
  });

  test.each([
    ["", 'the list of hosts "" has an empty place; write it as a:4,b:4'],
    ["a,,b", 'the list of hosts "a,,b" has an empty place; write it as a:4,b:4'],
    ["a:0", '"a:0": "0" is no number of slots; give 1 to 1024'],
    ["a:", '"a:": "" is no number of slots; give 1 to 1024'],
    ["a:x", '"a:x": "x" is no number of slots; give 1 to 1024'],
    ["a:1025", '"a:1025": "1025" is no number of slots; give 1 to 1024'],
    ["fe80::1", '"fe80::1" is no host; write HOST or HOST:N, and an IPv6 address in brackets, as [fe80::1]:4'],
    ["-oProxyCommand=x", /is no host/],
    ["eve@-oProxyCommand=x", /is no host/],
    ["-l@b", /is no host/],
    ["a b", /is no host/],
    ["a$(x)", /is no host/],
    ["x".repeat(300), /is too long/],
    [Array.from({ length: NODES_MAX + 1 }, (_, i) => `n${i}`).join(","), /^more than 256 hosts/],
  ])("%j is refused", (text, message) => {
    expect(refusal(() => parseHostList(text))).toMatch(message as string);
  });

  test("of whatever text is a list or refused, and no name in it is an option of ssh", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[-a@:,[\]0-9]{0,30}$/)), (text) => {
        let found: Host[];
        try {
          found = parseHostList(text);
        } catch (error) {
          expect((error as DsmError).code).toBe("DSM_INVALID");
          return;
        }
        for (const { name, slots } of found) {
          expect(name).toMatch(/^[\w[][^\s'"`$;&|<>\\]*$/);
          expect(bareHost(name)).not.toStartWith("-");
          expect(slots).toBeGreaterThan(0);
        }
      }),
    );
  });
});

describe("a hostfile", () => {
  test("has a host in each line, in either way", () => {
    expect(parseHostfile("# ours\na:4\n\n  b slots=2 # new\nc\r\neve@a slots=1\n")).toEqual([
      { name: "a", slots: 4 },
      { name: "b", slots: 2 },
      { name: "c", slots: 1 },
      { name: "eve@a", slots: 1 },
    ]);
  });

  test("is what was written", () => {
    const line = fc.tuple(fc.boolean(), fc.constantFrom("", " # note", "  "));
    fc.assert(
      fc.property(hosts, fc.array(line, { minLength: 20, maxLength: 20 }), (all, styles) => {
        const lines = all.map(({ name, slots }, i) => {
          const [short, end] = styles[i] as [boolean, string];
          return `${short ? `${name}:${slots}` : `${name}\tslots=${slots}`}${end}`;
        });
        expect(parseHostfile(lines.join("\n"))).toEqual(all);
      }),
    );
  });

  test.each([
    ["# none\n", "it names no host"],
    ["a\nb max_slots=3", 'line 2: "max_slots=3" is not understood; write HOST, HOST:N or HOST slots=N'],
    ["a\nb:2 slots=3", 'line 2: "b:2" and slots=3 both say how many'],
    ["a slots=0", 'line 1: "a": "0" is no number of slots; give 1 to 1024'],
  ])("%j is refused", (text, message) => {
    expect(refusal(() => parseHostfile(text))).toBe(message);
  });
});

test("a nodefile has a line for each slot", () => {
  expect(parseNodefile("n1\nn1\nn2\n\nn1\n")).toEqual([
    { name: "n1", slots: 3 },
    { name: "n2", slots: 1 },
  ]);
  expect(refusal(() => parseNodefile("\n"))).toBe("it names no host");
});

describe("Slurm", () => {
  test.each([
    ["n1", ["n1"]],
    ["n[01-04,7],big", ["n01", "n02", "n03", "n04", "n7", "big"]],
    ["n[9-11]", ["n9", "n10", "n11"]],
    ["n[098-101]", ["n098", "n099", "n100", "n101"]],
    ["r[1-2]n[1-2]-ib", ["r1n1-ib", "r1n2-ib", "r2n1-ib", "r2n2-ib"]],
  ])("%s", (text, names) => {
    expect(expandNodelist(text)).toEqual(names);
  });

  test.each([
    ["4(x2),3", [4, 4, 3]],
    ["1", [1]],
    ["2(x1)", [2]],
  ])("tasks %s", (text, tasks) => {
    expect(expandTasks(text)).toEqual(tasks);
  });

  test("nodes and tasks together", () => {
    expect(parseSlurm("n[1-3]", "4(x2),3")).toEqual([
      { name: "n1", slots: 4 },
      { name: "n2", slots: 4 },
      { name: "n3", slots: 3 },
    ]);
    expect(parseSlurm("n[1-2]", undefined)).toEqual([
      { name: "n1", slots: 1 },
      { name: "n2", slots: 1 },
    ]);
    expect(refusal(() => parseSlurm("n[1-3]", "4(x2)"))).toBe('"n[1-3]" are 3 nodes, but "4(x2)" are tasks of 2');
  });

  test.each(["", "n[", "n]", "n[1", "n[]", "n[2-1]", "n[a]", "n[1-]", "n[[1]]", "a,,b", "n[1,]"])(
    "%j is refused",
    (text) => {
      expect(refusal(() => expandNodelist(text))).toMatch(/is no list of nodes/);
    },
  );

  test.each(["n[1-999999999999999]", "n[1-20]x[1-20]", "n[1-200],m[1-200]"])("%j are too many", (text) => {
    expect(refusal(() => expandNodelist(text))).toMatch(/^more than 256 hosts/);
  });

  test.each(["", "x", "4(x)", "4(x0)", "0", "-1", "4,"])("tasks %j are refused", (text) => {
    expect(refusal(() => expandTasks(text))).toMatch(/is no list of tasks/);
  });

  test("what Slurm compresses is expanded again", () => {
    const numbers = fc.uniqueArray(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(numbers, fc.integer({ min: 1, max: 4 }), (list, width) => {
        const sorted = list.toSorted((a, b) => a - b);
        const padded = (number: number): string => String(number).padStart(width, "0");
        // As scontrol does: neighbours of one width become a range.
        const ranges: string[] = [];
        for (let i = 0; i < sorted.length; ) {
          let last = i;
          const first = sorted[i] as number;
          while (sorted[last + 1] === (sorted[last] as number) + 1) last += 1;
          const end = sorted[last] as number;
          ranges.push(last === i ? padded(first) : `${padded(first)}-${padded(end)}`);
          i = last + 1;
        }
        expect(expandNodelist(`n[${ranges.join(",")}].x`)).toEqual(sorted.map((number) => `n${padded(number)}.x`));
      }),
    );
  });

  test("whatever comes is a bounded list or refused", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[n0-9,[\]-]{0,30}$/)), (text) => {
        try {
          expect(expandNodelist(text).length).toBeLessThanOrEqual(NODES_MAX);
        } catch (error) {
          expect((error as DsmError).code).toBe("DSM_INVALID");
        }
      }),
    );
  });
});

describe("ranks", () => {
  const two: Host[] = [
    { name: "a", slots: 4 },
    { name: "b", slots: 2 },
  ];

  test("fill the slots in order", () => {
    expect(placeRanks(two, 6, false)).toEqual([
      { host: "a", first: 0, count: 4 },
      { host: "b", first: 4, count: 2 },
    ]);
    expect(placeRanks(two, 3, false)).toEqual([{ host: "a", first: 0, count: 3 }]);
  });

  test("more than slots only if that is allowed, in turns", () => {
    expect(refusal(() => placeRanks(two, 7, false))).toBe(
      "7 processes for 6 slots; write how many each host is to have, as a:4,b:4, or add --oversubscribe",
    );
    expect(placeRanks(two, 9, true)).toEqual([
      { host: "a", first: 0, count: 6 },
      { host: "b", first: 6, count: 3 },
    ]);
  });

  test("are each somewhere, once, in the order of the hosts, and no host without need beyond its slots", () => {
    fc.assert(
      fc.property(hosts, fc.integer({ min: 1, max: PROCESSES_MAX }), (all, processes) => {
        const shares = placeRanks(all, processes, true);
        let next = 0;
        for (const { first, count } of shares) {
          expect(first).toBe(next);
          expect(count).toBeGreaterThan(0);
          next += count;
        }
        expect(next).toBe(processes);
        const order = shares.map(({ host }) => all.findIndex(({ name }) => name === host));
        expect(order).toEqual(order.toSorted((a, b) => a - b));
        if (processes <= totalSlots(all)) {
          expect(placeRanks(all, processes, false)).toEqual(shares);
          for (const { host, count } of shares) {
            expect(count).toBeLessThanOrEqual(all.find(({ name }) => name === host)?.slots as number);
          }
        }
      }),
    );
  });
});
