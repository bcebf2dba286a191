/** Checks of the machine: processor, kernel, run-time folder, signals. */
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { readText } from "../../transport/memory-room.ts";
import { runtimeDirectory } from "../settings/runtime-directory.ts";
import { type Finding, failureOf } from "./finding.ts";

/** A Unix socket's path has at most this many bytes, with the zero byte at its end. */
const SOCKET_PATH_MAX = 108;
const SOCKET_NAME_MAX = "/a-0123456789abcdef.sock.4194304".length;

/** In the order in which they are shown. */
export function checkMachine(): Finding[] {
  return [checkCpu(), checkKernel(), ...checkRuntimeDirectory()];
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

function checkRuntimeDirectory(): Finding[] {
  const check = "run-time folder";
  const advice = "set XDG_RUNTIME_DIR to a folder of your own that can be written";
  try {
    const directory = runtimeDirectory();
    if (Buffer.byteLength(directory) + SOCKET_NAME_MAX >= SOCKET_PATH_MAX) {
      const found = `${directory} is too long a path for sockets`;
      return [{ check, state: "failure", found, advice: "set XDG_RUNTIME_DIR to a shorter path" }];
    }
    // A socket needs as little as this file.
    rmSync(mkdtempSync(join(directory, "doctor-")), { recursive: true });
    return [{ check, state: "ok", found: directory }, ...checkVariable(check, directory), ...checkOthers(directory)];
  } catch (error) {
    return [failureOf(check, error, advice)];
  }
}

/** Whether XDG_RUNTIME_DIR names a folder that is not used. */
function checkVariable(check: string, directory: string): Finding[] {
  const variable = process.env.XDG_RUNTIME_DIR;
  if (!variable || directory === `${variable}/dsm`) return [];
  const found = `XDG_RUNTIME_DIR is ${variable}, which is not a folder that you alone can write to: ${directory} is used`;
  return [{ check, state: "warning", found, advice: "unset it, or let it name such a folder" }];
}

/** Sockets of arbiters that processes with another XDG_RUNTIME_DIR have started. */
function checkOthers(directory: string): Finding[] {
  const others = new Set<string>();
  const user = process.geteuid?.() ?? 0;
  // libdsm looks there by itself.
  const known = [directory, `/run/user/${user}/dsm`, `/tmp/dsm-${user}`];
  for (const line of (readText("/proc/net/unix") ?? "").split("\n")) {
    const folder = /^\S+ \S+ \S+ 00010000 .* (\/.*)\/a-[0-9a-f]{16}\.sock(?:\.[0-9a-f]+)?$/.exec(line)?.[1];
    if (folder !== undefined && !known.includes(folder) && isOwn(folder)) others.add(folder);
  }
  return [...others].map((folder): Finding => {
    const found = `processes of yours have arbiters in ${folder}, and programs started here look in ${directory}`;
    return {
      ...{ check: "run-time folder", state: "warning", found },
      advice: "give all processes of a session the same XDG_RUNTIME_DIR",
    };
  });
}

function isOwn(folder: string): boolean {
  try {
    return statSync(folder).uid === process.geteuid?.();
  } catch {
    return false;
  }
}

/** Checks whether signals of dsm are blocked or ignored from the start, and whether a tracer gets them first. */
export function checkSignals(): Finding[] {
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
      ...{
        check: "signals",
        state: "failure",
        found: `${names.join(" and ")} blocked or ignored by the program that started this`,
      },
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
