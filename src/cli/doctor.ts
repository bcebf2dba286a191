import { mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { OPEN } from "../core/auth.ts";
import { DsmError } from "../core/errors.ts";
import { isLoopback } from "../core/names.ts";
import { formatSize } from "../core/size.ts";
import { startDaemon } from "../daemon/daemon.ts";
import { runtimeFiles } from "./assets.ts";
import { command } from "./command.ts";
import { createDirectory } from "./directory.ts";
import { lines } from "./lines.ts";
import { print, printJson } from "./messages.ts";
import { daemonOption, jsonOption, readDaemon } from "./options.ts";
import { scriptProgram } from "./program.ts";
import { runtimeDirectory } from "./runtime-directory.ts";
import {
  readCertificate,
  readSecurity,
  readTls,
  readTlsFiles,
  readTokenFile,
  shortFingerprint,
  tokenPath,
} from "./security.ts";
import { isCompiled, selfCommand, selfEnvironment } from "./self.ts";
import { styled } from "./style.ts";
import { table } from "./table.ts";

export interface Finding {
  check: string;
  state: "ok" | "warning" | "failure";
  found: string;
  /** What to do about it. */
  advice?: string;
}

const TMPFS_MAGIC = 0x01021994;
/** Less room than this in /dev/shm is worth a word; containers often have 64 MiB. */
const SHM_ROOM_MIN = 128 * 2 ** 20;
/** The whole chain must have answered after this long. */
const CHAIN_TIMEOUT_MS = 30_000;
/** A Unix socket's path has at most this many bytes, with its end. */
const SOCKET_PATH_MAX = 108;
const SOCKET_NAME_MAX = "/a-0123456789abcdef.sock.4194304".length;

export default command({
  meta: { name: "doctor", description: "Check whether this machine can run dsm, and say what to do if not" },
  args: { ...daemonOption, ...jsonOption },
  manual: {
    details: ["The last check is a real one: a process joins a session of its own, stores, and leaves."],
    examples: [
      { does: "Check this machine", line: "dsm doctor" },
      { does: "Check that the daemon of a cluster is reached from here", line: "dsm doctor --daemon 10.0.0.1:4200" },
    ],
    exits: { "1": "A check failed." },
  },
  async run({ args }) {
    const daemon = readDaemon(args.daemon);
    const findings = [checkCpu(), checkKernel(), checkSharedMemory(), checkAddressSpace(), checkRuntimeDirectory()];
    findings.push(checkToken(daemon.host), ...checkTls(daemon.host));
    findings.push(...checkSignals(), await checkLibrary());
    const chain = await checkChain();
    findings.push(chain, await checkDaemon(daemon, chain.state === "ok"));
    const ok = findings.every(({ state }) => state !== "failure");
    if (args.json) await printJson({ ok, findings });
    else await print(report(findings));
    return ok ? 0 : 1;
  },
});

const MARKS = {
  ok: styled("green", "ok"),
  warning: styled("yellow", "warning"),
  failure: styled(["bold", "red"], "FAILURE"),
};

function report(findings: Finding[]): string {
  const rows = findings.flatMap(({ check, state, found, advice }) => [
    [MARKS[state], check, found],
    ...(advice === undefined ? [] : [["", "", `-> ${advice}`]]),
  ]);
  return table(rows);
}

function failureOf(check: string, error: unknown, advice: string): Finding {
  return { check, state: "failure", found: error instanceof Error ? error.message : String(error), advice };
}

function checkCpu(): Finding {
  const check = "processor";
  if (process.arch !== "x64") {
    return { check, state: "failure", found: process.arch, advice: "dsm runs on x86-64 only; use such a machine" };
  }
  const flags = new Set(/^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.trim().split(" "));
  const features = ["sse4_2", "avx", "avx2", "avx512f", "xsave"].filter((flag) => flags.has(flag));
  return { check, state: "ok", found: `x86-64 with ${features.join(", ") || "no vector extensions beyond SSE2"}` };
}

function checkKernel(): Finding {
  const found = `Linux ${release()}`;
  const [major, minor] = release().split(".").map(Number) as [number, number];
  if (major > 4 || (major === 4 && minor >= 17)) return { check: "kernel", state: "ok", found };
  return { check: "kernel", state: "failure", found, advice: "dsm needs Linux 4.17 or later; update the kernel" };
}

function checkSharedMemory(): Finding {
  const check = "/dev/shm";
  const advice = "mount it: mount -t tmpfs -o mode=1777 tmpfs /dev/shm";
  let room: number;
  try {
    const stat = statfsSync("/dev/shm");
    if (stat.type !== TMPFS_MAGIC) return { check, state: "failure", found: "it is not in memory (no tmpfs)", advice };
    room = stat.bavail * stat.bsize;
    rmSync(mkdtempSync("/dev/shm/dsm-doctor-"), { recursive: true });
  } catch (error) {
    return failureOf(check, error, advice);
  }
  const found = `${formatSize(room)} free`;
  if (room >= SHM_ROOM_MIN) return { check, state: "ok", found };
  return {
    ...{ check, state: "warning", found },
    advice: "every node of a session needs the session's size there; in a container give --shm-size=1g",
  };
}

function checkAddressSpace(): Finding {
  const check = "address space";
  const limit = /^Max address space\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? "unlimited";
  if (limit === "unlimited") return { check, state: "ok", found: limit };
  const found = `limited to ${formatSize(Number(limit))}`;
  return { check, state: "warning", found, advice: "maps count against it; lift it with: ulimit -v unlimited" };
}

function checkRuntimeDirectory(): Finding {
  const check = "run-time folder";
  try {
    const directory = runtimeDirectory();
    if (Buffer.byteLength(directory) + SOCKET_NAME_MAX < SOCKET_PATH_MAX) {
      return { check, state: "ok", found: directory };
    }
    const found = `${directory} is too long a path for sockets`;
    return { check, state: "failure", found, advice: "set XDG_RUNTIME_DIR to a shorter path" };
  } catch (error) {
    return failureOf(check, error, "set XDG_RUNTIME_DIR to a folder of your own");
  }
}

/** Whether the shared token is there, where it is needed, and this user's alone. */
function checkToken(host: string): Finding {
  const check = "token";
  const path = tokenPath();
  try {
    if (process.env.DSM_TOKEN) {
      readSecurity(host, null);
      return { check, state: "ok", found: "in DSM_TOKEN; demanded everywhere" };
    }
    if (readTokenFile(path) !== null) return { check, state: "ok", found: `${path}, readable by you alone` };
  } catch (error) {
    return failureOf(
      check,
      error,
      "make it your own with mode 600; if others may have read it, remove it for a new one",
    );
  }
  if (isLoopback(host)) return { check, state: "ok", found: "none; not needed on loopback" };
  const advice = `copy ${path} from the daemon's machine, or set DSM_TOKEN`;
  return { check, state: "failure", found: `none, but the daemon is at ${host}`, advice };
}

/** A certificate with less time left than this is worth a word. */
const EXPIRY_WARNING_MS = 30 * 86_400_000;

/** Whether the TLS files can be read and fit together, and for how long they are good. */
function checkTls(host: string): Finding[] {
  const check = "TLS";
  const advice = 'make new ones with "dsm cert", and set DSM_TLS_CA, DSM_TLS_CERT and DSM_TLS_KEY';
  try {
    const files = readTlsFiles();
    if (readTls(files, false) === null) return [checkPinned(check, host)];
    return [files.ca, files.cert].flatMap((path): Finding[] => {
      if (path === undefined) return [];
      const { validFrom, validTo } = readCertificate(path).certificate;
      const left = Date.parse(validTo) - Date.now();
      if (left <= 0) return [{ check, state: "failure", found: `${path} expired on ${validTo}`, advice }];
      if (Date.parse(validFrom) > Date.now()) {
        const found = `${path} is not good before ${validFrom}`;
        return [{ check, state: "failure", found, advice: "set this machine's clock right" }];
      }
      const found = `${path} is good until ${validTo}`;
      return [left < EXPIRY_WARNING_MS ? { check, state: "warning", found, advice } : { check, state: "ok", found }];
    });
  } catch (error) {
    return [failureOf(check, error, advice)];
  }
}

/** Without files of the user's: by the authority that the token names. */
function checkPinned(check: string, host: string): Finding {
  const { fingerprint, tlsOff } = readSecurity(host);
  if (isLoopback(host)) return { check, state: "ok", found: "not needed on loopback" };
  if (tlsOff === true) {
    const found = "turned off: others on the way can read and change what is sent";
    return { check, state: "warning", found, advice: "start the daemon without --tls-off, and unset DSM_TLS_OFF" };
  }
  if (fingerprint)
    return { check, state: "ok", found: `by the authority ${shortFingerprint(fingerprint)} of the token` };
  const advice = `copy the daemon's token here again: scp ${host}:.config/dsm/token ~/.config/dsm/token`;
  return { check, state: "failure", found: "the token names no authority of the daemon's", advice };
}

/** Signals a process inherits as blocked or ignored, and a tracer that takes them first. */
function checkSignals(): Finding[] {
  const status = readFileSync("/proc/self/status", "utf8");
  const mask = (field: string): bigint => BigInt(`0x${new RegExp(`^${field}:\\s*(\\w+)`, "m").exec(status)?.[1] ?? 0}`);
  const held = mask("SigBlk") | mask("SigIgn");
  const SIGTRAP = 5n;
  const SIGSEGV = 11n;
  const names = [
    ...((held >> (SIGSEGV - 1n)) & 1n ? ["SIGSEGV"] : []),
    ...((held >> (SIGTRAP - 1n)) & 1n ? ["SIGTRAP"] : []),
  ];
  const tracer = /^TracerPid:\s*(\d+)/m.exec(status)?.[1];
  const findings: Finding[] = [];
  if (names.length > 0) {
    findings.push({
      ...{ check: "signals", state: "failure", found: `${names.join(" and ")} blocked or ignored by who started this` },
      advice: "start it from a plain shell",
    });
  } else {
    findings.push({ check: "signals", state: "ok", found: "SIGSEGV and SIGTRAP are free" });
  }
  if (tracer !== undefined && tracer !== "0") {
    findings.push({
      ...{ check: "tracer", state: "warning", found: `process ${tracer} traces this one and sees every signal first` },
      advice: "a debugger must pass SIGSEGV on: in gdb, handle SIGSEGV nostop noprint pass",
    });
  }
  return findings;
}

async function checkLibrary(): Promise<Finding> {
  try {
    const { library } = await runtimeFiles();
    return { check: "library", state: "ok", found: library };
  } catch (error) {
    const advice = isCompiled ? "set XDG_CACHE_HOME to a folder of your own with 20 MB of room" : "bun run build";
    return failureOf("library", error, advice);
  }
}

/** A program as any user's: joins, stores, says so, and waits until it may leave. */
const PROBE = `import { join } from "dsm";
console.log("loaded");
const session = await join({ direct: false });
console.log("joined");
const view = session.view(Float64Array);
view[0] = 42;
console.log(view[0] === 42 ? "stored" : "lost");
await Bun.stdin.text();
await session.leave();
console.log("left");
`;

const STEPS: Record<string, { reached: string; advice: string }> = {
  "": { reached: "the library does not load", advice: "see the message above this report" },
  loaded: { reached: "the session could not be joined", advice: "see the message above this report" },
  joined: { reached: "a store to the map was not captured", advice: "something keeps SIGSEGV from the program" },
  lost: { reached: "a store to the map got lost", advice: "report this: it must not happen" },
  stored: { reached: "the session could not be left", advice: "see the message above this report" },
};

/** The chain is on loopback and has a certificate for nobody: what the user has set for others does not count there. */
const WITHOUT_SECURITY = { DSM_TOKEN: "", DSM_TLS_CERT: "", DSM_TLS_KEY: "", DSM_TLS_CA: "", DSM_TLS_OFF: "" };

/** One store of one process, through library, arbiter, server and a daemon of our own, and back. */
async function checkChain(): Promise<Finding> {
  const check = "trapped store";
  const session = `doctor-${crypto.randomUUID()}`;
  const folder = mkdtempSync(join(tmpdir(), "dsm-doctor-"));
  let daemon: ReturnType<typeof startDaemon> | undefined;
  try {
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
      published = (await createDirectory({ address, autostart: false, security: OPEN }).get(session))?.bytes ?? 0;
      child.stdin.end();
    }
    await child.exited;
    clearTimeout(timer);
    const took = Math.round(performance.now() - began);
    if (step === "left" && child.exitCode === 0) {
      if (published >= 8) return { check, state: "ok", found: `captured and ordered; the whole round took ${took} ms` };
      const found = "the store was done but not published";
      return { check, state: "failure", found, advice: "report this: it must not happen" };
    }
    const { reached, advice } = STEPS[step] ?? (STEPS[""] as { reached: string; advice: string });
    const ending = child.signalCode ? `ended by ${child.signalCode}` : `exit code ${child.exitCode}`;
    return { check, state: "failure", found: `${reached} (${ending})`, advice };
  } catch (error) {
    return failureOf(check, error, "see the other findings first");
  } finally {
    if (daemon) {
      await createDirectory({ address: `127.0.0.1:${daemon.port}`, autostart: false, security: OPEN })
        .remove(session)
        .catch(() => false);
      daemon.stop();
      await daemon.ended;
    }
    rmSync(folder, { recursive: true, force: true });
  }
}

async function checkDaemon({ host, address }: { host: string; address: string }, works: boolean): Promise<Finding> {
  const check = "daemon";
  try {
    const { version, pid, autostarted } = await createDirectory({ address, autostart: false }).health();
    const how = autostarted ? "started by itself" : "started by hand";
    return { check, state: "ok", found: `dsm ${version} at ${address}, process ${pid}, ${how}` };
  } catch (error) {
    if (!(error instanceof DsmError)) throw error;
    const quiet = error.code === "DSM_UNREACHABLE" && isLoopback(host);
    if (!quiet) return { check, state: "failure", found: error.message, advice: "set DSM_DAEMON to the right address" };
    if (process.env.DSM_AUTOSTART === "0") {
      return { check, state: "warning", found: `none at ${address}`, advice: 'start one with "dsm daemon"' };
    }
    const found = `none at ${address}; ${works ? "one starts by itself when it is needed" : "see above"}`;
    return { check, state: works ? "ok" : "warning", found };
  }
}
