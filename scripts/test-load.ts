/**
 * `npm run test:load -- [--spinners N] [--times N] [ARGUMENT ...]`: runs tests beside N processes (20) that only use the
 * processor, at the same priority, N times (3), with their timeouts as ever, and says for each run how many passed and
 * failed. Without arguments the tests are those with the most processes: test/client, test/e2e and test/chaos.
 */

import { join } from "node:path";
import { parseArgs } from "node:util";
import { BuildError, progress, root, runScript } from "./steps.ts";

const TESTS = ["test/client", "test/e2e", "test/chaos"];

/** Before a command: it gets the signal when this process ends, however it ends. */
const endingWithUs = (signal: string): string[] => ["setpriv", "--pdeathsig", signal];

function count(text: string, name: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new BuildError(`--${name} is "${text}"; write a number from 1 to 9999`);
  return Number(text);
}

/** One run: its exit code, and what the test runner counted. */
async function run(tests: string[]): Promise<{ code: number; passed: number; failed: number; skipped: number }> {
  const child = Bun.spawn([...endingWithUs("TERM"), process.execPath, join(root, "scripts/test.ts"), ...tests], {
    cwd: root,
    stdio: ["ignore", "inherit", "pipe"],
  });
  const decoder = new TextDecoder();
  let said = "";
  for await (const chunk of child.stderr) {
    process.stderr.write(chunk);
    said += decoder.decode(chunk, { stream: true });
  }
  const counted = (word: string): number =>
    Number([...said.matchAll(new RegExp(`^ (\\d+) ${word}$`, "gm"))].at(-1)?.[1] ?? 0);
  // An error outside all tests fails the run and is counted by its own word.
  const failed = counted("fail") + counted("error");
  return { code: await child.exited, passed: counted("pass"), failed, skipped: counted("skip") };
}

await runScript(async () => {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2),
    options: { spinners: { type: "string", default: "20" }, times: { type: "string", default: "3" } },
    allowPositionals: true,
  });
  const [spinners, times] = [count(values.spinners, "spinners"), count(values.times, "times")];
  const spin = [...endingWithUs("KILL"), "sh", "-c", "while :; do :; done", `spinning-for-${process.pid}`];
  const spinning = Array.from({ length: spinners }, () =>
    Bun.spawn(spin, { stdio: ["ignore", "ignore", "ignore"], env: {} }),
  );
  const results: string[] = [];
  let good = true;
  try {
    for (let n = 1; n <= times; n += 1) {
      const begin = performance.now();
      const { code, passed, failed, skipped } = await run(positionals.length > 0 ? positionals : TESTS);
      const minutes = ((performance.now() - begin) / 60_000).toFixed(1);
      results.push(
        `run ${n}: ${passed} passed, ${failed} failed, ${skipped} skipped, ${minutes} minutes, code ${code}`,
      );
      if (code !== 0) good = false;
      if (spinning.some(({ exitCode, signalCode }) => exitCode !== null || signalCode !== null))
        throw new BuildError("a spinning process has ended: the load was less than it was to be");
    }
  } finally {
    for (const child of spinning) child.kill("SIGKILL");
    await Promise.all(spinning.map(({ exited }) => exited));
  }
  for (const line of results) progress.info(`beside ${spinners} spinning processes, ${line}`);
  if (!good) throw new BuildError("not every run was good");
});
