/** `dsm top` in a real terminal, that of tmux, on a session that runs. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { RatedSession } from "../../src/cli/top/model.ts";
import { stateOf } from "../cli/dsm.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, DSM, eventually } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

setDefaultTimeout(90_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Two that run, and one of them waits for what the other has. */
async function pair(): Promise<[Actor, Actor]> {
  const [a, b] = (await cluster.actors(["one", "two"])) as [Actor, Actor];
  await a.do("store 8 0x100 1");
  await a.do("post sum 0");
  await a.do("wait sum 0");
  await b.do("begin 0 wait sum 0");
  await cluster.untilState(a.session, 1, "semaphore");
  return [a, b];
}

async function end([a, b]: [Actor, Actor]): Promise<void> {
  await a.do("post sum 0");
  await b.do("end 0");
  await Promise.all([a.leave(), b.leave()]);
}

describe("without a terminal", () => {
  test("it says what to do, and prints once with --once", async () => {
    const none = await cluster.dsm(["top"]);
    expect(none).toMatchObject({ code: 2, stdout: "" });
    expect(none.stderr).toContain("top needs a terminal; give --once or --json");

    const both = await pair();
    const [{ session, pid }] = both;
    const once = await cluster.dsm(["top", session, "--once", "--interval", "0.2"]);
    expect(once).toMatchObject({ code: 0, stderr: "" });
    expect(once.stdout).toContain(`session "${session}": running for`);
    expect(once.stdout).toMatch(new RegExp(`^ +0 one +${pid} running +0 `, "m"));
    expect(once.stdout).toMatch(/^ {4}1 two +\d+ [a-z ]*on "sum" for \d/m);
    expect(once.stdout).toMatch(/^ sum +0 {2}1 waiting: rank 1$/m);
    for (const line of once.stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(80);

    const json = await cluster.dsm(["top", "--json", "--interval", "0.1"]);
    const { sessions } = JSON.parse(json.stdout) as { sessions: RatedSession[] };
    expect(sessions).toMatchObject([{ name: session, rates: { entries: 0, bytes: 0 }, ranks: [{}, { on: "sum" }] }]);

    expect((await cluster.dsm(["top", "nobody", "--once"])).stderr).toContain('there is no session "nobody"');
    expect((await cluster.dsm(["top", "--interval", "0"])).stderr).toContain("interval");
    await end(both);
  });
});

const withTmux = needs("tmux");
withTmux.describe("in a terminal of 80 by 24", () => {
  const tmux = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await cluster.command(["tmux", "-S", `${cluster.folder}/tmux`, ...args], {
      TMUX_TMPDIR: cluster.folder,
      TERM: "xterm",
    });
    if (code !== 0) throw new Error(stderr);
    return stdout;
  };
  const screen = async (): Promise<string[]> => (await tmux("capture-pane", "-p")).trimEnd().split("\n");
  const shows = (text: string | RegExp): Promise<void> =>
    eventually(`the screen shows ${text}`, async () => (await screen()).join("\n").match(text) !== null);
  const press = (...keys: string[]): Promise<string> => tmux("send-keys", ...keys);
  /** A shell that says how a command has ended, and whether the terminal is as it was. */
  async function start(command: string, environment: Record<string, string> = {}): Promise<void> {
    const settings = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    const script = `before=$(stty -g); ${settings.join(" ")} ${command}; code=$?; [ "$(stty -g)" = "$before" ] && echo "ended $code, restored"; read x`;
    await tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "bash", "--norc", "-c", script);
  }
  const modes = async (): Promise<string> =>
    (await tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}")).trim();
  withTmux.afterEach(async () => {
    await tmux("kill-server").catch(() => "");
  });

  test("it shows the sessions, one in full, sorts, helps, follows what happens, and quits", async () => {
    const both = await pair();
    const [{ session }] = both;
    await start(`${DSM} top --interval 0.1`);
    await shows(new RegExp(`^>${session} +2 of 2 +1 +\\d`, "m"));
    expect(await modes()).toBe("1 0");
    for (const line of await screen()) expect(line.length).toBeLessThanOrEqual(80);
    await press("Enter");
    await shows(/1 two +\d+ [a-z ]*on "sum" for \d/);
    await shows(/sum +0 {2}1 waiting: rank 1/);
    await press("s");
    await shows(/by node/);
    await press("Down");
    await shows(/^> +0 one/m);
    await press("j");
    await shows(/^> +1 two/m);
    await press("?");
    await shows(/sort by the next column/);
    await press("?");
    await end(both);
    await shows(`there is no session "${session}"`);
    await press("Escape");
    await shows(/no session runs/);
    await press("q");
    await shows(/ended 0, restored/);
    expect(await modes()).toBe("0 1");
  });

  test.each([
    ["an interrupt", "C-c", 130],
    ["the end of its process", "SIGTERM", 143],
  ])("after %s the terminal is as it was", async (_what, how, code) => {
    await start(`${DSM} top`);
    await shows(/no session runs/);
    if (how === "C-c") await press(how);
    else for (const pid of cluster.processes("top")) process.kill(pid, how as NodeJS.Signals);
    await shows(new RegExp(`ended ${code}, restored`));
    expect(await modes()).toBe("0 1");
  });

  test("stopped by ^Z it gives the terminal back, and takes it again when it goes on", async () => {
    await start(`${DSM} top --interval 0.1`);
    await shows(/no session runs/);
    await press("C-z");
    await eventually("the terminal is given back", async () => (await modes()) === "0 1");
    await eventually("it is stopped", () => cluster.processes("top").some((pid) => stateOf(pid) === "T"));
    for (const pid of cluster.processes("top")) process.kill(pid, "SIGCONT");
    await shows(/no session runs/);
    expect(await modes()).toBe("1 0");
    await press("q");
    await shows(/ended 0, restored/);
  });

  test.each([
    ["nothing set", { NO_COLOR: "" }, true],
    ["NO_COLOR", { NO_COLOR: "1" }, false],
    ["TERM=dumb", { NO_COLOR: "", TERM: "dumb" }, false],
  ])("with %s it has colours: %#", async (_what, environment, colours) => {
    await start(`${DSM} top --interval 0.1`, environment);
    await shows(/no session runs/);
    expect((await tmux("capture-pane", "-p", "-e")).includes("\x1b[")).toBe(colours);
    expect(await modes()).toBe("TERM" in environment ? "0 1" : "1 0");
    await press("q");
    await shows(/ended 0, restored/);
  });
});
