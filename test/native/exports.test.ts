/** What libdsm.so asks of the system it runs on, and what it shows. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkGlibc, neededVersions } from "../../scripts/glibc.ts";
import { BuildError, command, compiler, nativeBuild, root, tool } from "../../scripts/steps.ts";

const library = join(nativeBuild, "libdsm.so");
const symbols = (await command([tool("objdump"), "-T", library])).split("\n").filter((line) => line.includes("\t"));

const shipped = ["libdsm.so", "libdsm-runs.so", "koffi.node"].map((name) => join(nativeBuild, name));

test("what is shipped needs no glibc newer than 2.28", async () => {
  const all = [...shipped, join(root, "dist/dsm")];
  for (const path of all) expect(await neededVersions(path)).toContain("GLIBC_2.2.5");
  await checkGlibc(all);
});

test("a symbol of a newer glibc is named, with its version and the file", async () => {
  const folder = mkdtempSync(join(tmpdir(), "dsm-glibc-"));
  try {
    const [libc, program] = [join(folder, "libc.so"), join(folder, "program.so")];
    await Bun.write(join(folder, "libc.c"), "void newer(void) {}\nvoid older(void) {}\n");
    await Bun.write(join(folder, "libc.map"), "GLIBC_2.28 { older; };\nGLIBC_2.34 { newer; } GLIBC_2.28;\n");
    const shared = [compiler(), "-shared", "-fPIC", "-nostdlib"];
    await command([...shared, `${folder}/libc.c`, `-Wl,--version-script=${folder}/libc.map`, "-o", libc]);
    const build = async (calls: string): Promise<void> => {
      await Bun.write(join(folder, "program.c"), `void newer(void), older(void);\nvoid run(void) { ${calls} }\n`);
      await command([...shared, join(folder, "program.c"), libc, "-o", program]);
    };
    await build("older();");
    await checkGlibc([program]);
    await build("older(); newer();");
    const failure = await checkGlibc([program]).catch((error: Error) => error);
    expect(failure).toBeInstanceOf(BuildError);
    expect((failure as Error).message).toEndWith("\nprogram.so needs newer of GLIBC_2.34");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("libdsm.so needs no library but the C library", async () => {
  const dynamic = await command([tool("objdump"), "-p", library]);
  const needed = [...dynamic.matchAll(/NEEDED\s+(\S+)/g)].map((match) => match[1]);
  expect(needed.sort()).toEqual(["ld-linux-x86-64.so.2", "libc.so.6"]);
});

test("seen from outside are dsm_ names, and the calls that read into memory or name a stack", () => {
  const shown = symbols.filter((line) => !line.includes("*UND*")).map((line) => line.split(/\s+/).at(-1) as string);
  expect(shown).toContain("dsm_open");
  expect(shown.filter((name) => !name.startsWith("dsm_")).sort()).toEqual([
    ...["__fread_chk", "__fread_unlocked_chk", "__pread64_chk", "__pread_chk", "__read_chk", "__recv_chk"],
    ...["__recvfrom_chk", "fread", "fread_unlocked", "getrandom", "pread", "pread64", "pthread_attr_setstack"],
    ...["read", "readv", "recv", "recvfrom", "recvmsg", "sigaltstack"],
  ]);
});
