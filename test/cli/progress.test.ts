/** Progress of long work: bars on terminals, lines elsewhere, nothing for work that is soon done. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { startProgress } from "../../src/cli/terminal/progress.ts";
import { onTerminal } from "../support/terminal.ts";
import { Place, until } from "./dsm.ts";

setDefaultTimeout(60_000);

let place: Place;
beforeAll(() => {
  place = new Place();
});
afterAll(() => place.close());

const MODULE = join(import.meta.dir, "../../src/cli/terminal/progress.ts");

test("no terminal: a line every five seconds, and none for short work", () => {
  const said: string[] = [];
  let now = 1000;
  const stream = { isTTY: false } as NodeJS.WriteStream;
  const progress = startProgress("copying", 4096, { stream, line: (text) => said.push(text), clock: () => now });
  for (let done = 0; done <= 4096; done += 512) {
    progress.at(done);
    now += 2000;
  }
  progress.end();
  expect(said).toEqual(["copying: 37% of 4 KiB", "copying: 75% of 4 KiB"]);
});

test("on a terminal: a bar that goes when the work ends", async () => {
  const work = `import { startProgress } from ${JSON.stringify(MODULE)};
let now = 0;
const progress = startProgress("copying", 1000, { clock: () => now, amount: (value) => value + " parts" });
progress.at(100);
now = 1000;
progress.at(500);
progress.end();
console.log("behind it");
`;
  const program = onTerminal([process.execPath, "-e", work], { env: place.environment, columns: 60 });
  await program.until(/behind it\r\n$/);
  await program.close();
  const [bar, ...others] = program.said.match(/copying \[=* *\] \d+% of 1000 parts, [^ ]+ left/g) ?? [];
  expect(bar).toMatch(/^copying \[ +\] 0% /);
  expect(others.at(-1) ?? bar).toMatch(/^copying \[=+ +\] 50% /);
  for (const shown of [bar, ...others]) expect((shown as string).length).toBeLessThan(60);
  // Its line is cleared before anything else is written.
  expect(program.said.lastIndexOf("\x1b[2K")).toBeGreaterThan(program.said.lastIndexOf("50%"));

  const short = onTerminal([process.execPath, "-e", work.replace("now = 1000", "now = 100")], {
    env: place.environment,
  });
  await short.until(/behind it\r\n$/);
  await short.close();
  expect(short.said).toBe("behind it\r\n");
});

test("a server reports to dsm run how much of a snapshot it has read", async () => {
  const script = join(place.folder, "fill.ts");
  writeFileSync(
    script,
    `import { join } from "dsm";
const session = await join({ direct: false });
const hole = session.hole({ offset: 0, length: session.size });
session.view(Uint8Array).fill(1);
hole.fillSync();
console.log("up");
setInterval(() => {}, 1e9);
`,
  );
  const run = place.spawn(["run", "-n1", "--session=full", "--size=8MiB", "--", script]);
  const file = join(place.folder, "full.snap");
  try {
    await until(run.stdout, "up\n");
    const saved = await place.dsm(["snapshot", "full", file]);
    expect([saved.code, saved.stderr]).toEqual([0, ""]);
    await place.dsm(["remove", "full"]);
  } finally {
    run.kill();
    await run.exited;
  }

  const server = place.spawn(["server", `--restore=${file}`, "--report-progress"]);
  const said = await until(server.stdout, "dsm server: ").finally(() => server.kill());
  await server.exited;
  const steps = [...said.matchAll(/^progress (\d+) (\d+)$/gm)].map(([, done, total]) => Number(done) / Number(total));
  expect(steps.length).toBeGreaterThan(10);
  expect(steps.length).toBeLessThanOrEqual(100);
  expect(steps).toEqual(steps.toSorted((a, b) => a - b));
  expect(steps.at(-1)).toBeLessThanOrEqual(1);
  expect(steps.at(-1)).toBeGreaterThan(0.95);
});
