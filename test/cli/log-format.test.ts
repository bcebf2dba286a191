/** The lines that roles write to stderr, as text and as JSON. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { type Child, Place, until } from "./dsm.ts";

setDefaultTimeout(60_000);

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => place.close());

interface Entry {
  time: string;
  level: string;
  role: string;
  session?: string;
  message: string;
}

function entries(stderr: string): Entry[] {
  return stderr
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const entry = JSON.parse(line) as Entry;
      expect(new Date(entry.time).toISOString()).toBe(entry.time);
      return entry;
    });
}

/** Ends it; what it has said. */
async function ended(child: Child): Promise<string> {
  child.kill("SIGTERM");
  const [said] = await Promise.all([child.stderr.text(), child.exited]);
  return said;
}

test("the daemon says which session a line is about; so do server and run", async () => {
  const daemon = place.spawn(["daemon", "--host", place.host, "--log-format", "json"]);
  await until(daemon.stdout, "listening");
  const server = place.spawn([
    "server",
    "--session",
    "s",
    "--processes",
    "2",
    "--host",
    place.host,
    "--log-format=json",
  ]);
  await until(server.stdout, "listening");
  const run = await place.dsm([
    "run",
    "-n",
    "1",
    "--session=r",
    "--log-format",
    "json",
    "--",
    "sh",
    "-c",
    "kill -9 $$",
  ]);
  expect(run.code).toBe(137);
  expect(entries(run.stderr)).toMatchObject([
    {
      level: "error",
      role: "run",
      session: "r",
      message: expect.stringMatching(/^process 0 \(pid \d+\) was ended by SIGKILL$/),
    },
  ]);
  expect(entries(await ended(server))).toMatchObject([
    { level: "info", role: "server", session: "s", message: expect.stringContaining("is listening on") },
  ]);
  const said = entries(await ended(daemon));
  expect(said).toMatchObject([
    { level: "info", role: "daemon", message: `listening on ${place.daemonAddress}` },
    { role: "daemon", session: "s", message: expect.stringContaining("by hand") },
    { role: "daemon", session: "s", message: 'session "s" has ended' },
    { role: "daemon", message: expect.stringContaining("the daemon has ended") },
  ]);
  expect(said[0]).not.toHaveProperty("session");
});

test("lines of text begin with their time once a role runs", async () => {
  const daemon = place.spawn(["daemon", "--host", place.host]);
  await until(daemon.stdout, "listening");
  const server = place.spawn(["server", "--session", "s", "--processes", "2", "--host", place.host]);
  await until(server.stdout, "listening");
  expect((await place.dsm(["remove", "s"])).stderr).toBe('dsm: session "s" has been removed\n');
  const [said] = await Promise.all([server.stderr.text(), server.exited]);
  const lines = `${await ended(daemon)}${said}`.trimEnd().split("\n");
  expect(lines.length).toBeGreaterThanOrEqual(3);
  const times = lines.map((line) => /^(\d{4}-\d\d-\d\dT[\d:.]+Z) dsm: \S/.exec(line)?.[1] ?? line);
  expect(times.map((time) => new Date(time).toISOString())).toEqual(times);
});

test("errors of a start are plain: they answer the person who has typed the command", async () => {
  const daemon = place.spawn(["daemon", "--host", place.host]);
  await until(daemon.stdout, "listening");
  const second = await place.dsm(["daemon", "--host", place.host]);
  expect(second.stderr).toMatch(/^dsm: a dsm daemon is already running/);
  await ended(daemon);
});

test("errors of the command itself are JSON too, and of the format text", async () => {
  const arbiter = await place.dsm(["arbiter", "--session", "s", "--no-autostart", "--log-format", "json"]);
  expect(arbiter.code).toBe(1);
  expect(entries(arbiter.stderr)).toMatchObject([{ level: "error", role: "arbiter", session: "s" }]);
  const bad = await place.dsm(["daemon", "--log-format", "xml"]);
  expect(bad).toMatchObject({ code: 2, stderr: 'dsm: log format "xml" is not possible; use text or json\n' });
});
