/** What libdsm.so asks of the system it runs on, and what it shows. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkGlibc, neededVersions } from "../../scripts/glibc.ts";
import { BuildError, command, compiler, nativeBuild, root, tool } from "../../scripts/steps.ts";

const library = join(nativeBuild, "libdsm.so");
const symbols = (await command([tool("objdump"), "-T", library])).split("\n").filter((line) => line.includes("\t"));

const shipped = ["libdsm.so", "libdsm-runs.so", "dsm-guard", "koffi.node"].map((name) => join(nativeBuild, name));

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

test("seen from outside are dsm_ names, and the calls that libdsm stands in front of", () => {
  const shown = symbols.filter((line) => !line.includes("*UND*")).map((line) => line.split(/\s+/).at(-1) as string);
  expect(shown).toContain("dsm_open");
  const reading =
    "read pread pread64 readv recv recvfrom recvmsg getrandom fread fread_unlocked __read_chk __pread_chk __pread64_chk __recv_chk __recvfrom_chk __fread_chk __fread_unlocked_chk";
  const masks =
    "sigprocmask pthread_sigmask sighold sigrelse sigblock sigsetmask siggetmask sigpending sigsuspend __xpg_sigpause __sigpause pselect ppoll __ppoll_chk epoll_pwait epoll_pwait2 sigtimedwait sigwaitinfo sigwait signalfd setcontext swapcontext pthread_attr_setsigmask_np pthread_attr_getsigmask_np";
  const actions = "sigaction signal bsd_signal ssignal sysv_signal __sysv_signal sigset sigignore siginterrupt";
  const stacks = "sigaltstack pthread_attr_setstack";
  const results = "pthread_create thrd_create posix_spawn posix_spawnp timer_create mq_notify";
  const copying =
    "memcpy memmove mempcpy memset bcopy bzero strcpy stpcpy strcat strncpy stpncpy strncat __memcpy_chk __memmove_chk __mempcpy_chk __memset_chk __strcpy_chk __stpcpy_chk __strcat_chk __strncpy_chk __stpncpy_chk __strncat_chk";
  const mutexes =
    "pthread_mutex_lock pthread_mutex_trylock pthread_mutex_timedlock pthread_mutex_clocklock pthread_mutex_unlock pthread_mutex_init pthread_mutex_destroy pthread_mutex_consistent mtx_init mtx_destroy mtx_lock mtx_trylock mtx_timedlock mtx_unlock";
  const conditions =
    "pthread_cond_init pthread_cond_destroy pthread_cond_wait pthread_cond_timedwait pthread_cond_clockwait pthread_cond_signal pthread_cond_broadcast cnd_init cnd_destroy cnd_wait cnd_timedwait cnd_signal cnd_broadcast";
  const rwlocks =
    "pthread_rwlock_init pthread_rwlock_destroy pthread_rwlock_rdlock pthread_rwlock_tryrdlock pthread_rwlock_timedrdlock pthread_rwlock_clockrdlock pthread_rwlock_wrlock pthread_rwlock_trywrlock pthread_rwlock_timedwrlock pthread_rwlock_clockwrlock pthread_rwlock_unlock";
  const counters =
    "sem_init sem_destroy sem_wait sem_trywait sem_timedwait sem_clockwait sem_post sem_getvalue pthread_barrier_init pthread_barrier_destroy pthread_barrier_wait";
  const objects = [mutexes, conditions, rwlocks, counters].join(" ");
  const all = [reading, masks, actions, stacks, results, copying, objects, "__asan_default_options"]
    .join(" ")
    .split(" ");
  expect(shown.filter((name) => !name.startsWith("dsm_")).sort()).toEqual(all.sort());
});
