/** `dsm completion`: what is offered, and that the shells themselves offer it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { COMMANDS } from "../../src/cli/commands/commands.ts";
import { complete } from "../../src/cli/help/candidates.ts";
import { completionScript, ZSH_HEADER } from "../../src/cli/help/shell-scripts.ts";
import { ORDERS } from "../../src/core/base/consistency.ts";
import { needs } from "../support/needs.ts";
import { onTerminal } from "../support/terminal.ts";
import { MAIN, Place, until } from "./dsm.ts";

// Shells that start dsm, on machines that may be busy.
setDefaultTimeout(60_000);

const offered = async (...typed: string[]): Promise<string[]> =>
  (await complete("bash", typed)).candidates.map(([word]) => word);

describe("what is offered", () => {
  test("commands, from the definitions", async () => {
    expect(await offered("")).toEqual(Object.keys(COMMANDS));
    expect(await offered("sn")).toEqual(["snapshot"]);
    expect(await offered("help", "sn")).toEqual(["snapshot"]);
    expect(await offered("--v")).toEqual(["--version"]);
    expect(await offered("nothing-like-it", "")).toEqual([]);
  });

  test("options, but not again those that are given", async () => {
    expect(await offered("run", "--o")).toEqual(["--order", "--on-loss", "--oversubscribe"]);
    expect(await offered("run", "--order", "release", "--o")).toEqual(["--on-loss", "--oversubscribe"]);
    expect(await offered("run", "--no-a")).toEqual(["--no-autostart"]);
    expect(await offered("doctor", "")).toEqual(["--size", "--nodes", "--daemon", "--json", "--help"]);
  });

  test("values", async () => {
    expect(await offered("run", "--order", "")).toEqual([...ORDERS]);
    expect(await offered("run", "-n", "2", "--on-loss", "c")).toEqual(["continue"]);
    expect(await offered("init", "-l", "p")).toEqual(["python"]);
    expect(await offered("completion", "")).toEqual(["bash", "zsh", "fish"]);
    expect(await offered("run", "-n", "")).toEqual([]);
  });

  test("a value behind the equals sign, as each shell has it", async () => {
    const { candidates } = await complete("fish", ["run", "--order=r"]);
    expect(candidates).toEqual([["--order=release", ""]]);
    expect((await complete("zsh", ["run", "--order=r"])).candidates).toEqual([["release", ""]]);
    // bash splits there, and at colons.
    expect(await offered("run", "--order", "=")).toEqual([...ORDERS]);
    expect(await offered("run", "--order", "=", "r")).toEqual(["release"]);
    expect(await offered("run", "--daemon", "=", "127.0.0.1", ":", "4200", "--ord")).toEqual(["--order"]);
  });

  test("files, folders and programs are the shell's own business", async () => {
    const rest = async (...typed: string[]): Promise<string> => (await complete("bash", typed)).rest;
    expect(await rest("run", "-n", "4", "")).toBe("program");
    expect(await rest("run", "-n", "4", "--", "--")).toBe("program");
    expect(await rest("run", "-n", "4", "--", "./heat", "--out", "")).toBe("files");
    expect(await rest("run", "./heat", "--or")).toBe("files");
    expect(await rest("run", "--restore", "")).toBe("files");
    expect(await rest("snapshot", "s", "")).toBe("files");
    // The session may be left out.
    expect(await rest("snapshot", "")).toBe("files");
    expect(await rest("why", "")).toBe("none");
    expect(await rest("cert", "--out", "")).toBe("folders");
    expect(await rest("cert", "host", "")).toBe("none");
  });
});

describe("in the shells", () => {
  let place: Place;
  let environment: Record<string, string>;
  beforeAll(async () => {
    place = new Place();
    const bin = join(place.folder, "bin");
    mkdirSync(bin);
    writeFileSync(join(bin, "dsm"), `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
    chmodSync(join(bin, "dsm"), 0o755);
    writeFileSync(join(place.folder, "program one"), "");
    environment = { ...place.environment, PATH: `${bin}:${process.env.PATH}`, HOME: place.folder };
  });
  afterAll(() => place.close());

  const bash = (typed: string[]): string[] => {
    const script = `source <(dsm completion bash)
complete -p dsm > /dev/null || exit 9
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_dsm
printf '%s\\n' "\${COMPREPLY[@]}"`;
    const cmd = ["bash", "--norc", "-c", script, "bash", "dsm", ...typed];
    const { stdout, stderr, exitCode } = Bun.spawnSync(cmd, { env: environment, cwd: place.folder, stderr: "pipe" });
    expect([stderr.toString(), exitCode]).toEqual(["", 0]);
    return stdout.toString().trimEnd().split("\n");
  };

  test("bash", () => {
    expect(bash(["sna"])).toEqual(["snapshot"]);
    expect(bash(["run", "--ord"])).toEqual(["--order"]);
    expect(bash(["run", "--order", ""])).toEqual([...ORDERS]);
    expect(bash(["run", "--order", "=", "s"])).toEqual(["sequential"]);
    expect(bash(["run", "-n", "2", "--", "cat", "prog"])).toEqual(["program one"]);
    expect(bash(["cert", "--out", "bi"])).toEqual(["bin"]);
    expect(bash(["--nothing"])).toEqual([""]);
  });

  test("names of sessions, of a daemon that is there; none is started", async () => {
    const sessions = join(place.folder, "runtime.ts");
    expect(bash(["remove", ""])).toEqual([""]);
    expect((await place.dsm(["sessions"])).code).toBe(1); // nothing listens, so none was started
    writeFileSync(sessions, `import { join } from "dsm"; await join(); console.log("up"); setInterval(() => {}, 1e9);`);
    const run = place.spawn(["run", "-n1", "--session=my session", "--", sessions]);
    try {
      await until(run.stdout, "up");
      expect(bash(["remove", "m"])).toEqual(["my\\ session"]);
      expect((await complete("zsh", ["snapshot", "--daemon", place.daemonAddress, ""])).candidates).toEqual([
        ["my session", "1 process, sequential"],
      ]);
    } finally {
      run.kill();
      await run.exited;
    }
  });

  needs("fish").test("fish", () => {
    const fish = (line: string): string[] => {
      const script = "dsm completion fish | source; complete -C $argv[1]";
      const cmd = ["fish", "--no-config", "-c", script, line];
      const { stdout, stderr } = Bun.spawnSync(cmd, { env: environment, cwd: place.folder, stderr: "pipe" });
      expect(stderr.toString()).toBe("");
      return stdout.toString().trimEnd().split("\n");
    };
    expect(fish("dsm sna")).toEqual(["snapshot\tSave a running session's memory and state, as they are at one moment"]);
    expect(fish("dsm run --order ")).toEqual([...ORDERS]);
    expect(fish("dsm run --order=s")).toEqual(["--order=sequential"]);
    expect(fish("dsm run -n 2 -- cat prog")).toEqual(["program one"]);
    expect(fish("dsm cert --out bi")).toEqual(["bin/"]);
  });

  needs("zsh").test("zsh", async () => {
    const folder = join(place.folder, "zsh");
    mkdirSync(folder);
    writeFileSync(join(folder, "_dsm"), ZSH_HEADER + completionScript("zsh"));
    const { CI: _, ...env } = environment;
    const shell = onTerminal(["zsh", "-f", "-i"], { env: { ...env, TERM: "dumb" }, cwd: place.folder, columns: 200 });
    try {
      shell.type(`PS1='> '; fpath=('${folder}' $fpath); autoload -U compinit; compinit -u -D; echo rea\\dy\n`);
      await shell.until(/^ready/m);
      for (const [typed, becomes] of [
        ["dsm sna", "dsm snapshot "],
        ["dsm run --ord", "dsm run --order "],
        ["dsm run --order r", "dsm run --order release "],
        ["dsm run --order=r", "dsm run --order=release "],
        ["dsm run -n 2 -- cat prog", "dsm run -n 2 -- cat program\\ one "],
        ["dsm cert --out bi", "dsm cert --out bin/"],
      ] as const) {
        // What has become of the line is printed instead of being run.
        const from = shell.said.length;
        shell.type(`${typed}\t`);
        await shell.until(new RegExp(RegExp.escape(becomes)), from);
        shell.type("\x15"); // away with the line
      }
    } finally {
      await shell.close();
    }
  });
});
