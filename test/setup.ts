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
}, 60_000);

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
  "TLS_CERT",
  "TLS_KEY",
  "TLS_CA",
]) {
  delete process.env[`DSM_${name}`];
}

await ensureBuilt();
