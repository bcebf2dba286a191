/** Checks of dsm itself: the library is in a file, one store reaches the server and returns, and the daemon answers. */
import { mkdtempSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OPEN } from "../../core/access/auth.ts";
import { formatDuration } from "../../core/base/duration.ts";
import { DsmError } from "../../core/base/errors.ts";
import { isLoopback } from "../../core/base/names.ts";
import { startDaemon } from "../../daemon/daemon.ts";
import { CACHE_ROOM, cacheHome, runtimeFiles } from "../install/assets.ts";
import { isCompiled, selfCommand, selfEnvironment } from "../install/executable.ts";
import { scriptProgram } from "../run/program.ts";
import { readAutostart } from "../settings/options.ts";
import { runtimeDirectory } from "../settings/runtime-directory.ts";
import { newSessionName } from "../settings/session-name.ts";
import { lines } from "../terminal/split-lines.ts";
import { daemonClient } from "../user-daemon-client.ts";
import { type Finding, failureOf } from "./finding.ts";

/** The longest time that the chain may take. */
const CHAIN_TIMEOUT_MS = 30_000;

/** Whether the library that is inside the program gets into a file that can be loaded. */
export async function checkLibrary(): Promise<Finding> {
  const check = "library";
  const advice = `set XDG_CACHE_HOME to a folder of your own with ${CACHE_ROOM} of room, not mounted noexec`;
  try {
    const { library } = await runtimeFiles();
    if (!isCompiled || library.startsWith(`${realpath(cacheHome())}/`)) return { check, state: "ok", found: library };
    const found = `${library}, because the cache ${cacheHome()} cannot be used`;
    return { check, state: "warning", found, advice };
  } catch (error) {
    return failureOf(check, error, isCompiled ? advice : "bun run build");
  }
}

function realpath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** A program that joins, stores, reports each step, and leaves when its input ends. */
const PROBE = `import { join } from "dsm";
console.log("loaded");
const session = await join({ direct: false }).catch((error) => {
  console.log("refused " + error.message.replaceAll("\\n", " "));
  process.exit(1);
});
console.log("joined");
const view = session.view(Float64Array);
view[0] = 42;
console.log(view[0] === 42 ? "stored" : "lost");
await Bun.stdin.text();
await session.leave();
console.log("left");
`;

const LOOK_THERE = "see the other findings first";

const STEPS: Record<string, { reached: string; advice: string }> = {
  "": { reached: "the library does not load", advice: "see the message above this report" },
  loaded: { reached: "the session could not be joined", advice: "see the message above this report" },
  joined: {
    reached: "a store to the map was not captured",
    advice: "find out what keeps SIGSEGV from the program, such as a tracer or a sandbox",
  },
  lost: { reached: "a store to the map got lost", advice: "report this: it must not happen" },
  stored: { reached: "the session could not be left", advice: "see the message above this report" },
};

/** The chain runs on loopback without certificates, so settings for other machines do not apply. */
const WITHOUT_SECURITY = { DSM_TOKEN: "", DSM_TLS_CERT: "", DSM_TLS_KEY: "", DSM_TLS_CA: "", DSM_TLS_OFF: "" };

/** Sends one store of one process through library, arbiter, server and a daemon of its own. */
export async function checkChain(): Promise<Finding> {
  const check = "trapped store";
  const session = newSessionName("doctor");
  let folder: string | undefined;
  let daemon: ReturnType<typeof startDaemon> | undefined;
  try {
    // The session needs this folder anyway, and /tmp may be read-only.
    folder = mkdtempSync(join(runtimeDirectory(), "doctor-"));
    const script = join(folder, "probe.ts");
    writeFileSync(script, PROBE);
    const program = await scriptProgram(script, []);
    const serverCommand = [...selfCommand(), "server"];
    const serverEnvironment = WITHOUT_SECURITY;
    daemon = startDaemon({
      ...{ host: "127.0.0.1", port: 0, serverCommand, serverEnvironment, autostarted: false, log() {} },
    });
    const address = `127.0.0.1:${daemon.port}`;
    const began = performance.now();
    const child = Bun.spawn({
      cmd: program.command,
      env: {
        ...(process.env as Record<string, string>),
        ...{ DSM_SESSION: session, DSM_PROCESSES: "1", DSM_SIZE: "64KiB", DSM_DAEMON: address, DSM_NODE: "doctor" },
        ...WITHOUT_SECURITY,
        DSM_RANK: "0",
        ...selfEnvironment(),
        ...program.environment,
      },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const timer = setTimeout(() => child.kill("SIGKILL"), CHAIN_TIMEOUT_MS);
    let step = "";
    let published = 0;
    for await (const line of lines(child.stdout)) {
      step = line;
      if (step !== "stored") continue;
      published = (await daemonClient({ address, autostart: false, security: OPEN }).get(session))?.bytes ?? 0;
      child.stdin.end();
    }
    await child.exited;
    clearTimeout(timer);
    const took = formatDuration(performance.now() - began);
    if (step === "left" && child.exitCode === 0) {
      if (published >= 8) return { check, state: "ok", found: `captured and ordered; the whole round took ${took}` };
      const found = "the store was done but not published";
      return { check, state: "failure", found, advice: "report this: it must not happen" };
    }
    const refused = /^refused (.*)$/.exec(step)?.[1];
    if (refused !== undefined) {
      return { check, state: "failure", found: `the session could not be joined: ${refused}`, advice: LOOK_THERE };
    }
    const { reached, advice } = STEPS[step] ?? (STEPS[""] as { reached: string; advice: string });
    const ending = child.signalCode ? `ended by ${child.signalCode}` : `exit code ${child.exitCode}`;
    return { check, state: "failure", found: `${reached} (${ending})`, advice };
  } catch (error) {
    return failureOf(check, error, LOOK_THERE);
  } finally {
    if (daemon) {
      await daemonClient({ address: `127.0.0.1:${daemon.port}`, autostart: false, security: OPEN })
        .remove(session)
        .catch(() => false);
      daemon.stop();
      await daemon.ended;
    }
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  }
}

/** The user of the daemon's process. Null: that is another one, in another process namespace, or cannot be seen. */
function ownerOf(pid: number): number | null {
  try {
    const isDaemon = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0").includes("daemon");
    return isDaemon ? statSync(`/proc/${pid}`).uid : null;
  } catch {
    return null;
  }
}

/** Whether the daemon answers, or one can start. `works`: a session does, with a daemon of its own. */
export async function checkDaemon(
  { host, address }: { host: string; address: string },
  works: boolean,
): Promise<Finding> {
  const check = "daemon";
  try {
    const { version, pid, autostarted } = await daemonClient({ address, autostart: false }).health();
    const how = autostarted ? "started by itself" : "started by hand";
    const found = `dsm ${version} at ${address}, process ${pid}, ${how}`;
    const user = isLoopback(host) ? ownerOf(pid) : null;
    if (user === null || user === process.geteuid?.()) return { check, state: "ok", found };
    return {
      ...{ check, state: "warning", found: `${found}, and user ${user}'s` },
      advice: "give DSM_DAEMON an address of your own; in a session with that user, give DSM_NODE a name of your own",
    };
  } catch (error) {
    if (!(error instanceof DsmError)) throw error;
    const quiet = error.code === "DSM_UNREACHABLE" && isLoopback(host);
    if (!quiet) return { check, state: "failure", found: error.message, advice: "set DSM_DAEMON to the right address" };
    if (!readAutostart(undefined)) {
      return { check, state: "warning", found: `none at ${address}`, advice: 'start one with "dsm daemon"' };
    }
    const found = `none at ${address}; ${works ? "one starts by itself when it is needed" : "see above"}`;
    return { check, state: works ? "ok" : "warning", found };
  }
}
