/** Checks of the machine: processor, kernel, memory, folders, signals. */
import { mkdtempSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { release } from "node:os";
import { formatSize } from "../../core/base/size.ts";
import { runtimeDirectory } from "../settings/runtime-directory.ts";
import { type Finding, failureOf } from "./finding.ts";

const TMPFS_MAGIC = 0x01021994;
/** Less room than this in /dev/shm is worth a word; containers often have 64 MiB. */
const SHM_ROOM_MIN = 128 * 2 ** 20;
/** A Unix socket's path has at most this many bytes, with its end. */
const SOCKET_PATH_MAX = 108;
const SOCKET_NAME_MAX = "/a-0123456789abcdef.sock.4194304".length;

/** All of them, in the order in which they are shown. */
export function checkMachine(): Finding[] {
  return [checkCpu(), checkKernel(), checkSharedMemory(), checkAddressSpace(), checkRuntimeDirectory()];
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

/** Signals a process inherits as blocked or ignored, and a tracer that takes them first. */
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
