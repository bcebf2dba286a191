/** What libdsm.so asks of the system it runs on, and what it shows. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { command, nativeBuild, tool } from "../../scripts/steps.ts";

const library = join(nativeBuild, "libdsm.so");
const symbols = (await command([tool("objdump"), "-T", library])).split("\n").filter((line) => line.includes("\t"));

test("libdsm.so needs no glibc newer than 2.28", () => {
  const needed = symbols.flatMap((line) => line.match(/\(GLIBC_(\d+)\.(\d+)(?:\.\d+)?\) (\S+)/)?.slice(1, 4) ?? []);
  const newer = [];
  for (let i = 0; i < needed.length; i += 3) {
    const [major, minor, symbol] = needed.slice(i, i + 3) as [string, string, string];
    if (Number(major) * 1000 + Number(minor) > 2028) newer.push(`${symbol} of ${major}.${minor}`);
  }
  expect(needed.length / 3).toBeGreaterThan(50);
  expect(newer).toEqual([]);
});

test("libdsm.so needs no library but the C library", async () => {
  const dynamic = await command([tool("objdump"), "-p", library]);
  const needed = [...dynamic.matchAll(/NEEDED\s+(\S+)/g)].map((match) => match[1]);
  expect(needed.sort()).toEqual(["ld-linux-x86-64.so.2", "libc.so.6"]);
});

test("seen from outside are dsm_ names, and the calls that read into memory", () => {
  const shown = symbols.filter((line) => !line.includes("*UND*")).map((line) => line.split(/\s+/).at(-1) as string);
  expect(shown).toContain("dsm_open");
  expect(shown.filter((name) => !name.startsWith("dsm_")).sort()).toEqual([
    ...["__fread_chk", "__fread_unlocked_chk", "__pread64_chk", "__pread_chk", "__read_chk", "__recv_chk"],
    ...["__recvfrom_chk", "fread", "fread_unlocked", "getrandom", "pread", "pread64", "read", "readv", "recv"],
    ...["recvfrom", "recvmsg"],
  ]);
});
