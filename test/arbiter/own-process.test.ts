/** Who a process is, for others on its host. */
import { expect, test } from "bun:test";
import { formatProcess, type ProcessIdentity, parseProcess } from "../../src/core/launch/process.ts";
import { hasEnded, isOwnProc, ownProcess } from "../../src/transport/own-process.ts";

const own = parseProcess(ownProcess()) as ProcessIdentity;

test("this process lives, and so does one with its id in another namespace or on another host", () => {
  expect(own.pid).toBe(process.pid);
  expect(hasEnded(formatProcess(own))).toBe(false);
  const [pid, time] = own.namespace.split(",");
  for (const other of [
    { ...own, namespace: `pid:[1],${time}`, start: "1" },
    { ...own, namespace: `${pid},time:[1]`, start: "1" },
    { ...own, boot: "another", start: "1" },
  ])
    expect([other, hasEnded(formatProcess(other))]).toEqual([other, false]);
  expect([hasEnded(""), hasEnded("nonsense")]).toEqual([false, false]);
});

test("a process of our namespace has ended when its id is free, or belongs to one that began later", async () => {
  expect(hasEnded(formatProcess({ ...own, start: "1" }))).toBe(true);
  const child = Bun.spawn(["true"]);
  await child.exited;
  expect(hasEnded(formatProcess({ ...own, pid: child.pid }))).toBe(true);
});

test("a /proc of another process namespace is known for that", () => {
  expect(isOwnProc()).toBe(true);
  expect(isOwnProc("Name:\tdsm\nNSpid:\t4711\n")).toBe(true);
  expect(isOwnProc("Name:\tdsm\nNSpid:\t4711\t3\n")).toBe(false);
  expect(isOwnProc("Name:\tdsm\n")).toBe(true);
  expect(isOwnProc("")).toBe(false);
});

const mayUnshare = Bun.spawnSync(["unshare", "-p", "-f", "true"]).exitCode === 0;

test.skipIf(!mayUnshare)(
  "a process that sees the /proc of another namespace does not report its identity",
  async () => {
    const script = `const { ownProcess } = await import("${import.meta.dir}/../../src/transport/own-process.ts"); console.log(JSON.stringify(ownProcess()))`;
    const say = async (...mount: string[]): Promise<unknown> =>
      JSON.parse(await Bun.spawn(["unshare", "-p", "-f", ...mount, process.execPath, "-e", script]).stdout.text());
    expect(await say()).toBe("");
    expect(String(await say("--mount-proc"))).toContain(" pid:[");
  },
);
