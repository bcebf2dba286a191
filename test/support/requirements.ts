/**
 * What tests need beyond what the README asks for, and the Debian packages that bring it. Tests take it by `needs` of
 * needs.ts; `scripts/test.ts --missing-packages`, for .ci/run, prints the packages of what is missing here.
 */

import { canMakeMemoryGroup } from "./memory-group.ts";

export interface Requirement {
  /** All of them, or for chromium one of them. scripts/test-bare.ts hides them. */
  programs: readonly string[];
  /** Debian's packages; none for what no package brings. */
  packages: readonly string[];
  /** Whether this machine has it. */
  isMet(): boolean;
  /** What to do about it, where no package helps. */
  remedy?: string;
}

/** Programs for administrators are not in every user's PATH. */
const PATH = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`;

/** The path of a program, or null. */
export const programPath = (name: string): string | null => Bun.which(name, { PATH });

const areThere = (names: readonly string[]): boolean => names.every((name) => programPath(name) !== null);

const program = (name: string, debianPackage: string = name): Requirement => ({
  programs: [name],
  packages: [debianPackage],
  isMet: () => areThere([name]),
});

const ends = (...command: string[]): boolean => {
  if (programPath(command[0] as string) === null) return false;
  return Bun.spawnSync(command, { stdin: "ignore", stdout: "ignore", stderr: "ignore" }).exitCode === 0;
};

const CHROMIUM = ["chromium", "chromium-browser", "google-chrome"];
const SSH = ["ssh", "ssh-keygen", "sshd"];

const REQUIREMENTS = {
  chromium: {
    programs: CHROMIUM,
    packages: ["chromium", "fonts-dejavu-core"],
    isMet: () => Boolean(process.env.BUN_CHROME_PATH) || CHROMIUM.some((name) => programPath(name) !== null),
  },
  "dpkg-deb": program("dpkg-deb", "dpkg"),
  fish: program("fish"),
  "g++": program("g++"),
  gdb: program("gdb"),
  go: program("go", "golang-go"),
  groff: program("groff", "groff-base"),
  ip: program("ip", "iproute2"),
  make: program("make"),
  mandoc: program("mandoc"),
  openssl: program("openssl"),
  "python3-venv": {
    programs: [],
    packages: ["python3-venv"],
    isMet: () => ends("python3", "-c", "import ensurepip"),
  },
  rustc: program("rustc"),
  sshd: { programs: SSH, packages: ["openssh-client", "openssh-server"], isMet: () => areThere(SSH) },
  tmux: program("tmux"),
  valgrind: { programs: ["valgrind"], packages: ["valgrind", "libc6-dbg"], isMet: () => areThere(["valgrind"]) },
  zsh: program("zsh"),
  root: {
    programs: [],
    packages: [],
    isMet: () =>
      process.getuid?.() === 0 && ends("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true"),
    remedy: "run the tests as root",
  },
  "memory cgroup": {
    programs: [],
    packages: [],
    isMet: canMakeMemoryGroup,
    remedy: "run the tests as root where control groups with the memory controller may be made",
  },
  namespaces: {
    programs: [],
    packages: [],
    isMet: () => ends("unshare", "--mount", "--net", "true"),
    remedy: "run the tests as root where namespaces may be made (a container: --privileged)",
  },
} satisfies Record<string, Requirement>;

export type RequirementName = keyof typeof REQUIREMENTS;

const met = new Map<RequirementName, boolean>();

/** Looks once for each. */
export function isMet(name: RequirementName): boolean {
  let known = met.get(name);
  if (known === undefined) {
    known = REQUIREMENTS[name].isMet();
    met.set(name, known);
  }
  return known;
}

/** Names the file that gets a line of JSON, a SkippedSuite, for every suite that is skipped. scripts/test.ts sets it. */
export const SKIPPED_SUITES = "TESTS_OF_DSM_SKIPPED";

export interface SkippedSuite {
  file: string;
  missing: RequirementName[];
}

/** Whether what is missing is a failure. */
export const isAllDemanded = (): boolean => /^(1|true)$/.test(process.env.CI ?? "") || process.env.DSM_TEST_ALL === "1";

/** The names of all requirements, sorted. */
export const requirementNames = Object.keys(REQUIREMENTS).sort() as RequirementName[];

/** The programs that the requirements name. */
export const optionalPrograms = Object.values(REQUIREMENTS).flatMap(({ programs }): readonly string[] => programs);

/** The Debian packages that bring these, sorted, each once. */
export function packagesFor(names: Iterable<RequirementName>): string[] {
  return [...new Set([...names].flatMap((name): readonly string[] => REQUIREMENTS[name].packages))].sort();
}

/** What else there is to do about these, each with the name of what it brings, once. */
export function remediesFor(names: Iterable<RequirementName>): string[] {
  const all = [...names].flatMap((name) => {
    const { remedy }: Requirement = REQUIREMENTS[name];
    return remedy === undefined ? [] : `for ${name}: ${remedy}`;
  });
  return [...new Set(all)];
}
