/** Colours: on terminals only, and only for those who want them. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { isColoured } from "../../src/cli/terminal/style.ts";
import { onTerminal } from "../support/terminal.ts";
import { MAIN, Place } from "./dsm.ts";

setDefaultTimeout(60_000);

let place: Place;
beforeAll(() => {
  place = new Place();
});
afterAll(() => place.close());

test.each([
  [true, {}, true],
  [false, {}, false],
  [true, { NO_COLOR: "1" }, false],
  [true, { NO_COLOR: "" }, true],
  [true, { TERM: "dumb" }, false],
  [false, { FORCE_COLOR: "1" }, true],
  [false, { FORCE_COLOR: "1", NO_COLOR: "1" }, true],
  [true, { FORCE_COLOR: "0" }, false],
])("terminal %p, environment %p: %p", (isTTY, environment, coloured) => {
  expect(isColoured({ isTTY }, environment)).toBe(coloured);
});

/** Everything it writes to a terminal. */
async function shown(args: string[], env: Record<string, string>): Promise<string> {
  const { NO_COLOR: _, FORCE_COLOR: __, ...rest } = place.environment;
  const program = onTerminal([process.execPath, MAIN, ...args], { env: { ...rest, ...env } });
  await program.ended();
  await program.until(/\n$/);
  await program.close();
  return program.said;
}

const ESCAPE = "\x1b[";

test("help and messages on a terminal, with colours and without", async () => {
  const help = await shown(["--help"], {});
  expect(help).toContain(ESCAPE);
  for (const environment of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) {
    const plain = await shown(["--help"], environment);
    expect(plain).not.toContain(ESCAPE);
    expect(plain).toBe(Bun.stripANSI(help));
  }
  expect(await shown(["rnu"], {})).toContain(`${ESCAPE}31mdsm:${ESCAPE}`);
  expect(await shown(["rnu"], { NO_COLOR: "1" })).toBe('dsm: unknown command "rnu"; did you mean "run"?\r\n');
});

test("none where the output is no terminal, unless they are forced", async () => {
  const run = (environment: Record<string, string>) => place.dsm(["help"], environment);
  expect((await run({ NO_COLOR: "" })).stdout).not.toContain(ESCAPE);
  expect((await run({ NO_COLOR: "", FORCE_COLOR: "1" })).stdout).toContain(ESCAPE);
});
