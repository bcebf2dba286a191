/**
 * Three network namespaces as three machines: `home`, from which programs are started, and `a` and `b` with an sshd
 * each. They see home at one address; home has a cable to each. Needs root, `ip` (Debian: iproute2) and sshd
 * (openssh-server).
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Child, type Outcome, outcome } from "./e2e-child.ts";
import { clusterProcesses, DSM, eventually, ROOT } from "./e2e-cluster.ts";

export type HostName = "a" | "b";
export const HOME = "10.78.1.1";
export const ADDRESS = { a: "10.78.1.2", b: "10.78.2.2" } as const;
const PORT = 2222;

export class Hosts {
  readonly folder = mkdtempSync("/tmp/dsm-ssh-");
  readonly #space: Record<"home" | HostName, string> = {
    home: `dsm${process.pid}h`,
    a: `dsm${process.pid}a`,
    b: `dsm${process.pid}b`,
  };
  readonly #children = new Set<Child>();
  readonly #sshds: Partial<Record<HostName, Child>> = {};
  /** For DSM_SSH. */
  readonly ssh: string;

  private constructor() {
    this.ssh = [
      `ssh -p ${PORT} -i ${join(this.folder, "key")} -o IdentitiesOnly=yes`,
      "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -F none",
    ].join(" ");
  }

  static async start(): Promise<Hosts> {
    const hosts = new Hosts();
    try {
      await hosts.#start();
    } catch (error) {
      await hosts.close();
      throw error;
    }
    return hosts;
  }

  async #start(): Promise<void> {
    const sshd = Bun.which("sshd", { PATH: `${process.env.PATH}:/usr/sbin` });
    if (sshd === null) throw new Error("sshd is missing; install it (Debian: apt-get install openssh-server)");
    for (const space of Object.values(this.#space)) {
      must(["ip", "netns", "add", space]);
      must(["ip", "-n", space, "link", "set", "lo", "up"]);
    }
    const { home } = this.#space;
    for (const [host, own] of [
      ["a", HOME],
      ["b", "10.78.2.1"],
    ] as const) {
      const space = this.#space[host];
      must(["ip", "link", "add", space, "netns", home, "type", "veth", "peer", "name", "home", "netns", space]);
      must(["ip", "-n", home, "address", "add", `${own}/24`, "dev", space]);
      must(["ip", "-n", home, "link", "set", space, "up"]);
      must(["ip", "-n", space, "address", "add", `${ADDRESS[host]}/24`, "dev", "home"]);
      must(["ip", "-n", space, "link", "set", "home", "up"]);
      must(["ip", "-n", space, "route", "add", "default", "via", own]);
    }
    must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", join(this.folder, "key")]);
    // Where sshd puts the part of it that has no rights.
    mkdirSync("/run/sshd", { recursive: true, mode: 0o755 });
    mkdirSync(join(this.folder, "home"), { mode: 0o700 });
    for (const host of ["home", "a", "b"] as const) mkdirSync(this.runtime(host), { recursive: true, mode: 0o700 });
    await Promise.all((["a", "b"] as const).map((host) => this.startSshd(host, sshd)));
  }

  /** Variables that keep what a host has apart from all others. */
  #environment(host: "home" | HostName): Record<string, string> {
    return {
      XDG_RUNTIME_DIR: this.runtime(host),
      XDG_CACHE_HOME: this.cache(host),
      XDG_CONFIG_HOME: join(this.folder, host, "config"),
      TMPDIR: this.temporary(host),
    };
  }

  runtime(host: "home" | HostName): string {
    return join(this.folder, host, "run");
  }

  cache(host: "home" | HostName): string {
    return join(this.folder, host, "cache");
  }

  temporary(host: "home" | HostName): string {
    return join(this.folder, host, "tmp");
  }

  async startSshd(host: HostName, sshd = "/usr/sbin/sshd"): Promise<void> {
    const key = join(this.folder, `${host}-host`);
    if (!existsSync(key)) must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]);
    mkdirSync(this.temporary(host), { recursive: true });
    const config = join(this.folder, `${host}.conf`);
    // `a` has dsm in its PATH, `b` has none. A bash that is that deep does not read what the user has in .bashrc.
    const path = `${host === "a" ? `${dirname(DSM)}:` : ""}/usr/bin:/bin`;
    const variables = Object.entries({ ...this.#environment(host), PATH: path, SHLVL: "9" }).map(
      ([name, value]) => `${name}=${value}`,
    );
    writeFileSync(
      config,
      [
        `Port ${PORT}`,
        `ListenAddress ${ADDRESS[host]}`,
        `HostKey ${key}`,
        `AuthorizedKeysFile ${join(this.folder, "key.pub")}`,
        "PidFile none",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "UsePAM no",
        "StrictModes no",
        "MaxStartups 100",
        `SetEnv ${variables.join(" ")}`,
        "",
      ].join("\n"),
    );
    const child = Bun.spawn({
      // With maps of its own: `ip netns exec` gives it private mounts.
      cmd: [
        ...this.#in(host),
        ...["sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"],
        ...[sshd, "-D", "-e", "-f", config],
      ],
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#sshds[host] = child;
    await new Said(child.stderr).until("Server listening");
  }

  #in(host: "home" | HostName): string[] {
    return ["ip", "netns", "exec", this.#space[host]];
  }

  /** `dsm` at home. */
  spawn(args: string[], environment: Record<string, string> = {}, stdin: "pipe" | "ignore" = "ignore"): Child {
    const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("DSM_"));
    const child = Bun.spawn({
      cmd: [...this.#in("home"), DSM, ...args],
      cwd: ROOT,
      env: {
        ...(Object.fromEntries(kept) as Record<string, string>),
        ...this.#environment("home"),
        NO_COLOR: "1",
        DSM_SSH: this.ssh,
        ...environment,
      },
      stdio: [stdin, "pipe", "pipe"],
    }) as Child;
    this.#children.add(child);
    void child.exited.then(() => this.#children.delete(child));
    return child;
  }

  /** A shell at home, in which `ssh`, gcc and dsm find what they need, and `n1` and `n2` are a and b. */
  async shell(script: string, folder: string, environment: Record<string, string> = {}): Promise<Outcome> {
    const bin = join(this.folder, "bin");
    mkdirSync(bin, { recursive: true });
    const config = [`Host n1\n  HostName ${ADDRESS.a}`, `Host n2\n  HostName ${ADDRESS.b}`].join("\n");
    writeFileSync(join(this.folder, "ssh_config"), `${config}\n`);
    writeFileSync(
      join(bin, "ssh"),
      `#!/bin/sh\nexec /usr/bin/${this.ssh.replace("-F none", `-F ${this.folder}/ssh_config`)} "$@"\n`,
    );
    chmodSync(join(bin, "ssh"), 0o755);
    const child = Bun.spawn({
      cmd: [...this.#in("home"), "sh", "-ec", script],
      cwd: folder,
      env: {
        ...this.#environment("home"),
        HOME: process.env.HOME ?? "/",
        PATH: `${bin}:${dirname(DSM)}:${process.env.PATH}`,
        C_INCLUDE_PATH: join(ROOT, "native/include"),
        LIBRARY_PATH: join(ROOT, "native/build"),
        ...environment,
      },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#children.add(child);
    void child.exited.then(() => this.#children.delete(child));
    return outcome(child);
  }

  async dsm(args: string[], environment: Record<string, string> = {}): Promise<Outcome> {
    return outcome(this.spawn(args, environment));
  }

  /** Takes the cable out of a host, or puts it back. */
  cable(host: HostName, state: "up" | "down"): void {
    must(["ip", "-n", this.#space[host], "link", "set", "home", state]);
    if (state === "up") {
      must(["ip", "-n", this.#space[host], "route", "replace", "default", "via", host === "a" ? HOME : "10.78.2.1"]);
    }
  }

  /** A chain of the firewall is more than these tests need: a route that leads nowhere drops as well. */
  drop(host: HostName, address: string, action: "add" | "del"): void {
    must(["ip", "-n", this.#space[host], "route", action, "unreachable", `${address}/32`]);
  }

  /** Map files of a host. */
  maps(host: HostName): string[] {
    return readdirSync(`/proc/${this.#sshds[host]?.pid}/root/dev/shm`);
  }

  /** Living processes of a host, with their arguments. */
  processes(host: "home" | HostName): { pid: number; args: string[] }[] {
    return clusterProcesses(this.runtime(host));
  }

  /** Waits until nothing is left on any host; fails with what is. */
  async settled(): Promise<void> {
    for (const child of this.#children) child.kill("SIGKILL");
    await Promise.all([...this.#children].map((child) => child.exited));
    const left = (): string[] =>
      (["home", "a", "b"] as const).flatMap((host) => [
        ...this.processes(host).map(({ args }) => `${host}: ${args.join(" ")}`),
        ...files(join(this.runtime(host), "dsm")).map((name) => `${host}: ${name}`),
        ...files(this.temporary(host)).map((name) => `${host}: ${name}`),
        ...(host === "home" ? [] : this.maps(host).map((name) => `${host}: ${name}`)),
      ]);
    await eventually("nothing is left", () => left().length === 0).catch((error) => {
      throw new Error(`${(error as Error).message}: ${left().join("; ")}`);
    });
  }

  async close(): Promise<void> {
    const sshds = Object.values(this.#sshds);
    for (const sshd of sshds) sshd.kill("SIGTERM");
    await Promise.all(sshds.map((sshd) => sshd.exited));
    for (const space of Object.values(this.#space)) Bun.spawnSync(["ip", "netns", "del", space]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function must(command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString().trim()} (these tests need root)`);
}

function files(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** What comes from a process, read as it comes. */
export class Said {
  /** All of it, at its end. */
  readonly end: Promise<string>;
  #text = "";
  #ended = false;
  #more = Promise.withResolvers<void>();

  constructor(stream: ReadableStream<Uint8Array>) {
    this.end = this.#read(stream);
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<string> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      this.#text += decoder.decode(chunk, { stream: true });
      this.#more.resolve();
      this.#more = Promise.withResolvers<void>();
    }
    this.#ended = true;
    this.#more.resolve();
    return this.#text;
  }

  /** Waits until all of these have been said; returns what has been so far. */
  async until(...texts: string[]): Promise<string> {
    while (!texts.every((text) => this.#text.includes(text))) {
      if (this.#ended) throw new Error(`it ended after "${this.#text}"`);
      await this.#more.promise;
    }
    return this.#text;
  }
}
