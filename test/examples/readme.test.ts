/**
 * Every code block of the README, the guides and the reference, as a reader would run it: files are what the blocks show,
 * commands print what stands below them. test/support/readme-blocks.ts describes how a block is read. Links are checked in
 * all documents.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { documents } from "../support/documents.ts";
import { Cluster, DSM, LIVENESS_MS, ROOT } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";
import { type Block, isExcerpt, isShown, readBlocks, readSteps, type Step } from "../support/readme-blocks.ts";
import { Shell } from "../support/readme-shell.ts";

setDefaultTimeout(300_000);

/** Commands that the test does not run, with the reason; by their whole text, in whichever README. */
const NOT_RUN: Record<string, string> = {
  "apt-get install gcc libc6-dev python3": "changes the machine; who runs this test has them",
  "dsm run --hosts n1:4,n2:4 -- ./program": "hosts of the reader's; test/e2e/hosts.test.ts runs such a one",
  "dsm run --hostfile cluster --copy -- prog.ts": "the same",
};

/** Commands of which the test runs another form, with the reason. */
const RUN_AS: Record<string, { command: string; reason: string }> = {
  "npm install && npm run demo": { command: "npm run demo", reason: "who runs this test has installed it" },
  "dsm run -n 2 --nodes 2 -- measure.ts": {
    command: "dsm run -n 2 --nodes 2 -- measure.ts 0.05",
    reason: "what it measures is not compared, and need not be exact",
  },
  "dsm run -n 2 -- measure.ts": { command: "dsm run -n 2 -- measure.ts 0.05", reason: "the same" },
  "npx dsm run -n 4 --nodes 2 -- node sum.mjs": {
    command: "dsm run -n 4 --nodes 2 -- node sum.mjs",
    reason: "nothing is installed by npm here; test/scripts/pack.test.ts runs it so",
  },
  "dist/dsm install --prefix /usr/local": {
    command: 'dist/dsm install --prefix "$PREFIX"',
    reason: "it changes the machine",
  },
};

/** READMEs that another test runs, which has what their commands need. */
const ELSEWHERE: Record<string, string> = {
  "examples/cluster/README.md": "test/e2e/hosts.test.ts",
  "examples/debugging/README.md": "test/e2e/debugging.test.ts",
  "examples/go/README.md": "test/bindings/foreign.test.ts",
  "examples/rust/README.md": "test/bindings/foreign.test.ts",
  "examples/words/README.md": "test/bindings/containers.test.ts",
};

/** What no test may do, and what has to be in one of the two tables therefore. */
const CHANGES_THE_MACHINE = /\b(sudo|apt-get|systemctl)\b|--prefix[ =]\/|\/(usr|etc|root)\//;

/** Blocks whose titles begin so are for hosts of that name and address, which are network namespaces here. */
const HOSTS = [
  { title: "on host a", name: "a", address: "10.0.0.1" },
  { title: "on host b", name: "b", address: "10.0.0.2" },
] as const;

const SHELLS = ["sh", "console"];
const FILES = ["ts", "js", "c", "cpp", "py", "rust", "go", "toml"];

/** Documents for users: their blocks are run. */
const readmes = documents("README.md", "examples/**/*.md", "native/{bindings,include}/**/*.md");
/** Documents for contributors have drawings and excerpts; of those only the links are checked. */
const chapters = documents("{src,scripts,test}/**/*.md", "native/*.md", "native/src/**/*.md");

/** A picture in text. Commands and programs have a language of their own, so that they are run. */
const isDrawing = ({ language, title, text }: Block): boolean =>
  language === "text" && title === undefined && /[┌│└]/.test(text) && !/^\$ /m.test(text);

const commandsOf = (readme: string): string[] =>
  readBlocks(readFileSync(join(ROOT, readme), "utf8"))
    .filter(({ language }) => SHELLS.includes(language))
    .flatMap((block) => readSteps(block).map(({ command }) => withoutComment(command)));

const withoutComment = (command: string): string => command.replace(/\s+#.*$/, "");

let cluster: Cluster;
let prefix: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  prefix = join(cluster.folder, "prefix");
  expect(await cluster.command([DSM, "install", "--prefix", prefix])).toMatchObject({ code: 0, stderr: "" });
  delete cluster.environment.DSM_BIN; // what is installed must do
  const bin = join(cluster.folder, "bin");
  mkdirSync(bin);
  // No warning in what people copy.
  script(join(bin, "gcc"), `exec '${Bun.which("gcc")}' -Wall -Wextra -Werror "$@"`);
  // The hosts of the guides share a disk here: copying to HOST:PATH is copying into that host's home.
  script(
    join(bin, "scp"),
    "for to; do :; done; host=$(echo $to | cut -d: -f1); path=$(echo $to | cut -d: -f2); " +
      'while [ $# -gt 1 ]; do case "$1" in -*) ;; *) cp -p "$1" "$HOMES/$host/$path" || exit ;; esac; shift; done',
  );
  Object.assign(cluster.environment, {
    PATH: `${bin}:${prefix}/bin:${cluster.environment.PATH}`,
    CPATH: `${prefix}/include`,
    LIBRARY_PATH: `${prefix}/lib`,
    HOMES: join(cluster.folder, "homes"),
    PREFIX: prefix,
  });
});
afterAll(() => cluster.close());

function script(path: string, text: string): void {
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
}

/** The project as a reader has it, with files of its own where the commands write. */
function copyTree(readme: string): string {
  const tree = join(cluster.folder, readme.replaceAll("/", "-").replace(/\.md$/, ""));
  mkdirSync(tree);
  for (const name of readdirSync(ROOT)) {
    if (name === "examples") cpSync(join(ROOT, name), join(tree, name), { recursive: true });
    else if (!name.startsWith(".")) symlinkSync(join(ROOT, name), join(tree, name));
  }
  return tree;
}

class Reader {
  readonly #folder: string;
  readonly #shells = new Map<string, Shell>();
  readonly #namespaces = new Map<string, string>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  async do(block: Block): Promise<void> {
    const shell = await this.#shell(block.title ?? "");
    const steps = readSteps(block).filter(({ command }) => NOT_RUN[withoutComment(command)] === undefined);
    const deadline = performance.now() + LIVENESS_MS;
    for (;;) {
      const wrong = await this.#do(shell, steps, block.flags.includes("running"));
      if (wrong === undefined) return;
      if (!block.flags.includes("until") || performance.now() > deadline) throw new Error(wrong);
      await Bun.sleep(50);
    }
  }

  /** What is not as the block says, if anything. */
  async #do(shell: Shell, steps: Step[], running: boolean): Promise<string | undefined> {
    for (const [index, { command, output }] of steps.entries()) {
      const form = RUN_AS[withoutComment(command)]?.command ?? command;
      if (CHANGES_THE_MACHINE.test(form))
        throw new Error(`"${form}" changes the machine; put it into a table of this test`);
      if (command === "^C") shell.interrupt();
      else if (command !== "") shell.start(form);
      if (running && index === steps.length - 1) {
        await shell.untilPrinted(command, (printed) => isShown(output ?? "", printed));
        return undefined;
      }
      const { code, printed } = await shell.end(command);
      if (output !== undefined && !isShown(output, printed)) {
        return `"${command}" printed\n${printed}\nand not, as the README says,\n${output}`;
      }
      // A failure that is to be seen is followed by a look at its code.
      const isLookedAt = command === "^C" || steps[index + 1]?.command === "echo $?";
      if (code !== 0 && !isLookedAt) return `"${command}" ended with code ${code} and printed\n${printed}`;
    }
    return undefined;
  }

  async #shell(title: string): Promise<Shell> {
    const known = this.#shells.get(title);
    if (known !== undefined) return known;
    const host = HOSTS.find((one) => title.startsWith(one.title));
    const home = join(cluster.folder, "homes", host?.name ?? "reader");
    mkdirSync(home, { recursive: true });
    const bash = ["bash", "--noprofile", "--norc"];
    const forget = ["DSM_SESSION", "XDG_CONFIG_HOME", ...(host ? ["DSM_DAEMON"] : [])];
    const command = ["env", ...forget.flatMap((name) => ["-u", name]), ...bash];
    const environment = { HOME: home };
    const child = cluster.spawn(host ? [...this.#on(host.name), ...command] : command, { session: "", environment });
    const shell = new Shell(child);
    this.#shells.set(title, shell);
    await shell.run(`cd '${this.#folder}'`);
    return shell;
  }

  /** Makes the hosts when the first of them is needed: namespaces on one cable, each with its own host name. */
  #on(name: string): string[] {
    if (this.#namespaces.size === 0) {
      for (const host of HOSTS) {
        this.#namespaces.set(host.name, `dsm${process.pid}${host.name}`);
        ip("netns", "add", this.#namespaces.get(host.name) as string);
      }
      const [a, b] = HOSTS.map((host) => this.#namespaces.get(host.name)) as [string, string];
      ip("link", "add", a, "netns", a, "type", "veth", "peer", "name", b, "netns", b);
      for (const { name, address } of HOSTS) {
        const namespace = this.#namespaces.get(name) as string;
        ip("-n", namespace, "address", "add", `${address}/24`, "dev", namespace);
        ip("-n", namespace, "link", "set", namespace, "up");
        ip("-n", namespace, "link", "set", "lo", "up");
      }
    }
    const inside = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name];
    return ["ip", "netns", "exec", this.#namespaces.get(name) as string, ...inside];
  }

  async close(): Promise<void> {
    await Promise.all([...this.#shells.values()].map((shell) => shell.close()));
    for (const namespace of this.#namespaces.values()) ip("netns", "del", namespace);
  }
}

function ip(...words: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(["ip", ...words]);
  if (exitCode !== 0) throw new Error(`ip ${words.join(" ")}: ${stderr.toString().trim()} (these tests need root)`);
}

for (const readme of readmes) {
  const elsewhere = ELSEWHERE[readme];
  if (elsewhere !== undefined) {
    test(`${readme}: by ${elsewhere}`, () => {
      expect(readFileSync(join(ROOT, elsewhere), "utf8")).toContain("README.md");
    });
    continue;
  }
  const blocks = readBlocks(readFileSync(join(ROOT, readme), "utf8"));
  const hasHosts = blocks.some(({ title }) => HOSTS.some((host) => title?.startsWith(host.title)));
  (hasHosts ? needs("ip", "namespaces").test : test)(readme, async () => {
    const commands = commandsOf(readme);
    const folder = join(copyTree(readme), dirname(readme));
    const typed: string[] = [];
    const reader = new Reader(folder);
    try {
      for (const block of blocks) {
        const { line, language, title, text } = block;
        try {
          if (SHELLS.includes(language)) {
            await reader.do(block);
            continue;
          }
          if (isDrawing(block)) continue;
          if (!FILES.includes(language) || title === undefined) {
            throw new Error(`a block "${language}" is neither commands nor a file with a title`);
          }
          const stem = basename(title, extname(title));
          if (!commands.some((command) => command.includes(stem))) throw new Error(`no command runs ${title}`);
          const path = join(folder, title);
          if (!existsSync(path)) {
            writeFileSync(path, text);
            if (language === "ts") typed.push(path);
          } else if (!isExcerpt(text, readFileSync(path, "utf8"))) {
            throw new Error(`the block is not what ${title} says`);
          }
        } catch (error) {
          throw new Error(`${readme}:${line}: ${(error as Error).message}`);
        }
      }
    } finally {
      await reader.close();
      await cluster.settled();
    }
    if (typed.length > 0) await checkTypes(typed);
  });
}

/** Files that no other check sees, as those in the folders are. */
async function checkTypes(paths: string[]): Promise<void> {
  const project = join(dirname(paths[0] as string), "blocks.json");
  // As strict as a project of a reader's is by default.
  const compilerOptions = { noUncheckedIndexedAccess: false };
  writeFileSync(project, JSON.stringify({ extends: join(ROOT, "tsconfig.json"), include: paths, compilerOptions }));
  const tsc = [process.execPath, join(ROOT, "node_modules/typescript/bin/tsc"), "--noEmit", "--pretty", "false"];
  expect(await cluster.command([...tsc, "-p", project])).toMatchObject({ code: 0, stdout: "" });
}

test.each([...readmes, ...chapters])("the links of %s lead somewhere", (readme) => {
  const text = readFileSync(join(ROOT, readme), "utf8").replace(/^```.*?^```$/gms, "");
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link as string);
  const broken = links.filter((link) => {
    if (/^https?:/.test(link)) return false;
    const [path = "", anchor] = link.split("#");
    const target = path === "" ? join(ROOT, readme) : join(ROOT, dirname(readme), path);
    if (!existsSync(target)) return true;
    return anchor !== undefined && !anchorsOf(readFileSync(target, "utf8")).includes(anchor);
  });
  expect(broken).toEqual([]);
});

/** What GitHub calls the headings. */
const anchorsOf = (markdown: string): string[] =>
  [...markdown.replace(/^```.*?^```$/gms, "").matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    (heading as string)
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );

test("every exception is of use", () => {
  const all = new Set(readmes.flatMap(commandsOf));
  expect([...Object.keys(NOT_RUN), ...Object.keys(RUN_AS)].filter((command) => !all.has(command))).toEqual([]);
});

describe("what is shown and what is printed", () => {
  test.each([
    ["sum 10\n", "sum 10\n", true],
    ["sum 10\n", "sum 11\n", false],
    ["sum 10\n", "sum 10\nmore\n", false],
    ["", "a word\n", false],
    ["took ‹0.12› s\n", "took 31 s\n", true],
    ["took ‹0.12› s\n", "took long s\n", false],
    ["node ‹box›\n", "node other-1\n", true],
    ["node ‹box› up\n", "node\nup\n", false],
    ["PID   STATE\n‹1›     running\n", "PID    STATE\n12345  running\n", true],
    ["first\n…\nlast\n", "first\n1\n2\nlast\n", true],
    ["first\n…\nlast\n", "first\nlast\n", true],
    ["first\n…\nlast\n", "first\n1\n2\n", false],
    ["a.b\n", "axb\n", false],
  ])("%j, %j: %p", (shown, printed, expected) => {
    expect(isShown(shown, printed)).toBe(expected);
  });

  test.each([
    ["a\nb\n", "a\nb\n", true],
    ["a\n", "a\nb\n", false],
    ["a\n// ...\nc\n", "a\nb\nc\n", true],
    ["// ...\nc\n", "a\nb\nc\n", true],
    ["// ...\nb\n", "a\nb\nc\n", false],
    ["b\n// ...\n", "a\nb\nc\n", false],
    ["  /* ... */\nb\n# ...\n", "a\nb\nc\n", true],
    ["// ...\nif (b)\n  c();\n// ...\n", "{\n  a();\n  if (b)\n    c();\n}\n", true],
    ["// ...\nb\n// ...\na\n// ...\n", "a\nb\nc\n", false],
    ["// ...\nbb\n// ...\n", "a\nbbb\nc\n", false],
  ])("the block %j of the file %j: %p", (block, file, expected) => {
    expect(isExcerpt(block, file)).toBe(expected);
  });
});
