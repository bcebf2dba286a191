/**
 * Before the first test: build what is missing or out of date, so that a bare `bun test` works in a clean clone. Behind
 * the last: nothing of any of them may be left.
 */
import { afterAll } from "bun:test";
import { dirname } from "node:path";
import { ensureBuilt } from "../scripts/build.ts";
import { Leftovers } from "./support/leftovers.ts";

const leftovers = new Leftovers();
afterAll(async () => {
  const found = await leftovers.find();
  if (found.length > 0) throw new Error(`left behind by the tests:\n${found.join("\n")}`);
}, 120_000);

// Tests start programs from source by `#!/usr/bin/env bun`: that is to be the Bun that runs the tests.
process.env.PATH = `${dirname(process.execPath)}:${process.env.PATH}`;
// The tests' sessions are their own, whatever the shell they were started from is set to.
for (const name of [
  "SESSION",
  "NODE",
  "DAEMON",
  "PROCESSES",
  "SIZE",
  "RANK",
  "JOIN_TIMEOUT_MS",
  "RECONNECT_TIMEOUT_MS",
  "HEARTBEAT_TIMEOUT_MS",
  "AUTOSTART",
  "BIN",
  "LIBRARY",
  "ORDER",
  "DIRECT",
  "QUIET",
  "TOKEN",
  "TOKEN_FILE",
  "SSH",
  "TLS_CERT",
  "TLS_KEY",
  "TLS_CA",
]) {
  delete process.env[`DSM_${name}`];
}
// Nor do they belong to the job of a scheduler in which they may be run.
for (const name of Object.keys(process.env)) if (/^(SLURM|PBS)_/.test(name)) delete process.env[name];

await ensureBuilt();
