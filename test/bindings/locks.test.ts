/** One name is one robust lock, whichever languages the processes that use it are written in. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";

// A compiler and real processes, on machines that may be busy.
setDefaultTimeout(120_000);

const LANGUAGES = ["C", "C++", "Python", "TypeScript"] as const;
type Language = (typeof LANGUAGES)[number];

let cluster: Cluster;
let cpp: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  cpp = join(cluster.folder, "locks");
  const native = join(ROOT, "native");
  const { code, stderr } = await cluster.command([
    ...["g++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", `-I${native}/include`, `-I${native}/bindings/cpp`],
    ...[join(import.meta.dir, "programs/locks.cpp"), "-o", cpp],
    ...[`-L${native}/build`, "-ldsm", "-lpthread", `-Wl,-rpath,${native}/build`],
  ]);
  if (code !== 0) throw new Error(`locks.cpp does not compile:\n${stderr}`);
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

function command(language: Language): string[] {
  const program = (name: string): string => join(import.meta.dir, "programs", name);
  switch (language) {
    case "C":
      return [cluster.program("actor")];
    case "C++":
      return [cpp];
    case "Python":
      return ["python3", program("locks.py")];
    case "TypeScript":
      return [process.execPath, program("locks.ts")];
  }
}

/** A process that uses the lock "m" as its language does. */
class Locker {
  readonly language: Language;
  readonly rank: number;
  readonly actor: Actor;

  constructor(language: Language, rank: number, actor: Actor) {
    this.language = language;
    this.rank = rank;
    this.actor = actor;
  }

  /** Takes the lock, or hears of a death and passes the lock on as it is. */
  async lock(): Promise<"locked" | "owner died"> {
    if (this.language === "C") {
      const answer = await this.actor.ask("lock m");
      if (answer === "ok") return "locked";
      expect(answer).toMatch(DIED);
      await this.actor.do("unmended m");
      return "owner died";
    }
    const answer = await this.actor.ask("lock");
    if (answer === "locked, repaired 0") return "locked";
    if (this.language !== "TypeScript") expect(answer).toMatch(DIED);
    expect(answer).toMatch(/^OwnerDied/);
    return "owner died";
  }

  async isFree(): Promise<boolean> {
    const answer = await this.actor.ask(this.language === "C" ? "trylock m" : "try");
    if (/^(ok|locked)$/.test(answer)) return true;
    expect(answer).toMatch(/^(DSM_AGAIN .*|not locked)$/);
    return false;
  }

  /** What comes of 20 ms of waiting. */
  async timed(): Promise<string> {
    const answer = await this.actor.ask(this.language === "C" ? "timedlock m 20" : "timed plain 20");
    return answer.split(" ")[0] as string;
  }

  async unlock(): Promise<void> {
    const answer = await this.actor.ask(this.language === "C" ? "unlock m" : "unlock");
    expect(answer).toBe(this.language === "C" ? "ok" : "unlocked");
  }

  async leave(): Promise<void> {
    expect(await this.actor.ask("leave")).toBe(this.language === "C" ? "ok" : "left");
    expect(await this.actor.end()).toMatchObject({ code: 0, signal: null, stderr: "" });
  }
}

const DIED = /process 0 ended while it had the lock; what it guards may be half done/;

/** A process of each language in one session, that of `first` with rank 0. */
async function lockers(first: Language, nodes: string[], environment: Record<string, string>): Promise<Locker[]> {
  const session = cluster.session();
  const languages = [first, ...LANGUAGES.filter((language) => language !== first)];
  const all = languages.map((language, rank) => {
    const options = {
      ...{ session, rank, processes: languages.length, node: nodes[rank] as string },
      environment: {
        ...{ PYTHONPATH: join(ROOT, "native/bindings/python"), PYTHONDONTWRITEBYTECODE: "1" },
        ...{ DSM_LIBRARY: join(ROOT, "native/build/libdsm.so") },
        ...environment,
      },
    };
    return new Locker(language, rank, cluster.actor(options, command(language)));
  });
  await Promise.all(all.map(({ language, actor }) => (language === "C" ? actor.do("open") : undefined)));
  await cluster.untilPresent(session, all.length);
  return all;
}

const PLACES: [string, string[], Record<string, string>][] = [
  ["on two nodes", ["a", "b", "b", "a"], {}],
  ["on two nodes, under release", ["a", "b", "b", "a"], { DSM_ORDER: "release" }],
  ["in direct mode", ["a", "a", "a", "a"], {}],
];

for (const [where, nodes, environment] of PLACES) {
  describe(where, () => {
    for (const holder of LANGUAGES) {
      test(`what ${holder} has locked the others wait for`, async () => {
        const [owner, ...others] = (await lockers(holder, nodes, environment)) as [Locker, ...Locker[]];
        expect(await owner.lock()).toBe("locked");
        for (const other of others) {
          expect([other.language, await other.isFree()]).toEqual([other.language, false]);
          expect([other.language, await other.timed()]).toEqual([other.language, "DSM_TIMEOUT"]);
        }
        const inside: Language[] = [];
        const turns = others.map(async (other) => {
          expect(await other.lock()).toBe("locked");
          inside.push(other.language);
          expect([inside.length, await owner.isFree()]).toEqual([inside.length, false]);
          await other.unlock();
        });
        for (const { rank, actor } of others) await cluster.untilState(actor.session, rank, "lock");
        expect(inside).toEqual([]);
        await owner.unlock();
        await Promise.all(turns);
        expect(inside.sort()).toEqual(others.map(({ language }) => language).sort());
        await Promise.all([owner, ...others].map((one) => one.leave()));
      });

      test(`when ${holder} dies with the lock the next owners are told, until one has made the state consistent`, async () => {
        const all = await lockers(holder, nodes, { ...environment, DSM_ON_LOSS: "continue" });
        const [owner, ...others] = all as [Locker, ...Locker[]];
        expect(await owner.lock()).toBe("locked");
        const heard = others.map(async (other) => [other.language, await other.lock()]);
        for (const { rank, actor } of others) await cluster.untilState(actor.session, rank, "lock");
        owner.actor.kill("SIGKILL");
        expect(await Promise.all(heard)).toEqual(others.map(({ language }) => [language, "owner died"]));
        // Those who cannot put things in order, or leave the scope by an exception, pass on that there is something.
        const ask = async (other: Locker, line: string): Promise<string> => other.actor.ask(line);
        const modern = others.filter(({ language }) => language !== "C");
        let repaired = 0;
        for (const other of modern) {
          expect(await ask(other, "with fails")).toBe("error: cannot be repaired");
          expect(await ask(other, "throw repairs")).toBe("error: left by an exception");
          repaired += 1;
        }
        const [last, next] = modern as [Locker, Locker];
        expect(await ask(last, "lock repairs")).toBe(`locked, repaired ${repaired + 1}`);
        expect(await ask(last, "unmended")).toBe("unlocked");
        expect(await ask(next, "with repairs")).toBe(`value 1, repaired ${repaired + 2}`);
        for (const other of modern) {
          expect(await ask(other, "with fails")).toEndWith(`, repaired ${repaired + 2}`);
          // An exception is no death.
          expect(await ask(other, "throw fails")).toBe("error: left by an exception");
        }
        expect(await ask(last, "with")).toBe(`value ${modern.length + 2}, repaired ${repaired + 2}`);
        await Promise.all(others.map((one) => one.leave()));
        await owner.actor.end();
      });
    }
  });
}
