/**
 * `npm run picture`: the dashboard's picture in the README, from a real run: the heat example in four processes on two
 * nodes, seen by Chromium. It goes to examples/heat/dashboard.png.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { Browser, CHROMIUM, NO_BROWSER } from "./browser.ts";
import { ensureBuilt } from "./build.ts";
import { BuildError, progress, root, runScript } from "./steps.ts";

const target = join(root, "examples/heat/dashboard.png");
const SIZE_MAX = 200_000;
const LOOK = { width: 1280, height: 900, scheme: "light" } as const;
/** So long the program runs before it is taken. In half a minute the plate has the temperatures it will keep. */
const RUN_MS = 8_000;
const START_TIMEOUT_MS = 60_000;

const dsm = join(root, "dist/dsm");
const session = "heat";
/** A plate of which most is shared: each process has 48 rows, and shares the outer 16 on each side. */
const program = [join(root, "examples/heat/heat.ts"), "--size", "192", "--steps", "1000000"];

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new BuildError(`after ${START_TIMEOUT_MS / 1000} s ${what}`);
    await Bun.sleep(100);
  }
}

/** The first line that a program prints. */
async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const reader = stream.getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { done, value } = await reader.read();
    if (done) break;
    text += new TextDecoder().decode(value);
  }
  reader.releaseLock();
  return text.split("\n")[0] as string;
}

async function take(folder: string): Promise<Uint8Array> {
  const runtime = join(folder, "run");
  mkdirSync(runtime, { mode: 0o700 });
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("DSM_"));
  const env = {
    ...Object.fromEntries(kept),
    ...{ XDG_RUNTIME_DIR: runtime, XDG_CONFIG_HOME: join(folder, "config"), DSM_SESSION: session },
  };
  const daemon = Bun.spawn([dsm, "daemon", "--port", "0"], { env, stdio: ["ignore", "pipe", "ignore"] });
  const address = (await firstLine(daemon.stdout)).split(" ").at(-1) as string;
  const run = Bun.spawn([dsm, "run", "-n", "4", "--nodes", "2", "--", ...program], {
    env: { ...env, DSM_DAEMON: address },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const browser = await Browser.start();
  try {
    await browser.look(LOOK);
    await browser.open(`http://${address}/#/${session}`);
    await until("the page shows no cell that was written", () =>
      browser.evaluate("document.querySelector('.grid [data-writer]') !== null"),
    );
    // Not by the mouse, which would then rest somewhere in the picture.
    for (const chosen of [".grid [data-writer='2']", "input[value=f64]"]) {
      await browser.evaluate(`(document.querySelector(${JSON.stringify(chosen)}).click(), null)`);
    }
    progress.start(`The program runs for ${RUN_MS / 1000} seconds`);
    await Bun.sleep(RUN_MS);
    if (run.exitCode !== null) throw new BuildError(`the program ended with code ${run.exitCode} before its picture`);
    // The page down to the map.
    const height = await browser.evaluate<number>(
      "Math.ceil(document.querySelector('#memory').getBoundingClientRect().bottom + scrollY + 20)",
    );
    return await browser.capture(height);
  } finally {
    await browser.close();
    run.kill("SIGTERM");
    await run.exited;
    daemon.kill("SIGTERM");
    await daemon.exited;
  }
}

await runScript(async () => {
  if (CHROMIUM === null) throw new BuildError(NO_BROWSER);
  progress.start("Building what is missing");
  await ensureBuilt();
  const folder = mkdtempSync("/tmp/dsm-picture-");
  try {
    const picture = await new Bun.Image(await take(folder)).png({ compressionLevel: 9, palette: true }).bytes();
    if (picture.length > SIZE_MAX)
      throw new BuildError(`the picture has ${picture.length} bytes, more than ${SIZE_MAX}`);
    await Bun.write(target, picture);
    progress.success(`${relative(process.cwd(), target)} (${Math.round(picture.length / 1000)} kB)`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
