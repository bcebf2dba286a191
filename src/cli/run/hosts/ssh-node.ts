/** One host of `dsm run --hosts`: ssh to it, dsm on it, copied there if it is missing, and the frames of `dsm node`. */
import { statSync } from "node:fs";
import { basename, join } from "node:path";
import { DsmError } from "../../../core/base/errors.ts";
import { VERSION } from "../../../core/base/limits.ts";
import { bareHost } from "../../../core/launch/hosts.ts";
import { Launch, type LaunchFrame, LaunchReader, launchFrame } from "../../../core/launch/start-frames.ts";
import { type NodeHello, readNodeHello } from "../../../core/launch/start-messages.ts";
import { isCompiled, selfCommand, sourceRoot } from "../../install/executable.ts";

/** A host that sends nothing for this long while it is prepared is given up. */
const START_TIMEOUT_MS = 30_000;
/** ssh gives up a host that does not answer within this time, */
const CONNECT_TIMEOUT_S = 10;
/** and a connection on which nothing comes for three times this. */
const ALIVE_INTERVAL_S = 5;
/** How many bytes of the standard error of ssh and host are kept, for the message that explains a failure. */
const STDERR_KEPT = 4096;
/** Maximum of text before the first frame: banners, and the lines of the script. */
const TEXT_MAX = 64 << 10;
/** How long standard error may still arrive after ssh has ended. */
const LAST_WORDS_MS = 500;
const COPY_CHUNK = 256 << 10;

/** The file of this dsm, which can be copied, and its hash. */
export interface Binary {
  path: string;
  size: number;
  /** SHA-256, in hex. */
  hash: string;
}

export async function ownBinary(): Promise<Binary> {
  const path = isCompiled ? process.execPath : join(sourceRoot, "dist/dsm");
  let size: number;
  try {
    size = statSync(path).size;
  } catch {
    throw new DsmError("DSM_SYSTEM", `${path} is not there to be copied; run "bun run build" first`);
  }
  const hasher = new Bun.CryptoHasher("sha256");
  for await (const chunk of Bun.file(path).stream()) hasher.update(chunk);
  return { path, size, hash: hasher.digest("hex") };
}

export interface NodeConnectionOptions {
  /** The name in the list of hosts. */
  host: string;
  /** ssh with its options, and the file that must be there or is copied there; null: the host is this one. */
  remote: { ssh: string[]; binary: Binary } | null;
  /** Takes each frame but HELLO; the next one is read when the promise has resolved. */
  handle(frame: LaunchFrame): Promise<void>;
  /** Reports how many bytes of dsm have been copied there; not called if none are. */
  copied(bytes: number): void;
}

export class NodeConnection {
  readonly host: string;
  /** Rejects with DSM_SYSTEM or DSM_UNREACHABLE and one line when the host cannot be used. */
  readonly hello: Promise<NodeHello>;
  /** Resolves when the connection has ended, for any reason. */
  readonly ended: Promise<void>;
  readonly #options: NodeConnectionOptions;
  readonly #child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #greeted = Promise.withResolvers<NodeHello>();
  readonly #reader = new LaunchReader();
  #text: Uint8Array | null = new Uint8Array(0);
  #stderr = "";
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #ready = false;
  #closed = false;
  readonly #given = Promise.withResolvers<void>();
  #last: Promise<void> = Promise.resolve();

  constructor(options: NodeConnectionOptions) {
    const { host, remote } = options;
    this.host = host;
    this.#options = options;
    this.hello = this.#greeted.promise;
    this.hello.catch(() => {});
    if (remote === null) this.#text = null;
    const command = remote === null ? [...selfCommand(), "node"] : sshCommand(host, remote);
    try {
      // In a process session of its own: `dsm run` passes the signals of the terminal on, and ssh cannot ask there.
      this.#child = Bun.spawn({ cmd: command, stdio: ["pipe", "pipe", "pipe"], detached: true });
    } catch {
      throw new DsmError(
        "DSM_SYSTEM",
        `"${command[0]}" cannot be started; install an ssh client, or name one by --ssh`,
      );
    }
    this.#watch();
    const said = this.#readErrors();
    const read = this.#read().catch((error) => this.#fail((error as Error).message));
    this.ended = Promise.race([read, this.#given.promise]).then(async () => {
      await this.#child.exited;
      // A connection that ssh keeps for later (ControlPersist) keeps this pipe open.
      await Promise.race([said, Bun.sleep(LAST_WORDS_MS)]);
      clearTimeout(this.#watchdog);
      this.#greeted.reject(new DsmError("DSM_UNREACHABLE", this.#explain()));
    });
  }

  /**
   * Resolves when the connection has taken the frame. A frame before the hello, or after the end, is dropped without an
   * error: before the hello it would get into the copy of dsm.
   */
  send(kind: Launch, rank = 0, payload: Uint8Array | string | object = ""): Promise<void> {
    if (!this.#ready) return Promise.resolve();
    return this.#write(launchFrame(kind, rank, payload));
  }

  /** Closes the connection: `dsm node` then ends what it has started, and itself. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    void Promise.resolve(this.#child.stdin.end()).catch(() => {});
    // Nothing has been started there, and ssh may still wait for an answer.
    if (!this.#ready) this.#child.kill("SIGTERM");
  }

  /** Ends a connection that does not react to close(). Frames that were not read yet are lost. */
  kill(): void {
    this.#child.kill("SIGKILL");
    this.#given.resolve();
  }

  /** The last line of standard error, of ssh or the host; "": there is none. */
  get lastWords(): string {
    return (this.#stderr.trim().split("\n").at(-1) ?? "").replace(/^(?:ssh|dsm): /, "").trim();
  }

  #write(bytes: Uint8Array): Promise<void> {
    this.#last = this.#last.then(async () => {
      if (this.#closed) return;
      try {
        this.#child.stdin.write(bytes);
        await this.#child.stdin.flush();
      } catch {
        // The end of standard output says more.
      }
    });
    return this.#last;
  }

  async #read(): Promise<void> {
    for await (const chunk of this.#child.stdout) {
      const bytes = this.#text === null ? chunk : this.#prepare(chunk);
      for (const frame of this.#reader.push(bytes)) {
        if (frame.kind === Launch.HELLO) {
          clearTimeout(this.#watchdog);
          this.#ready = true;
          this.#greeted.resolve(readNodeHello(frame));
        } else await this.#options.handle(frame);
      }
    }
  }

  /** Reads the script's lines up to the one after which `dsm node` speaks; returns what comes after that. */
  #prepare(chunk: Uint8Array): Uint8Array {
    let text = Buffer.concat([this.#text as Uint8Array, chunk]);
    for (;;) {
      const end = text.indexOf(0x0a);
      if (end < 0) break;
      const line = text.toString("utf8", 0, end);
      text = text.subarray(end + 1);
      if (!line.startsWith(MARK)) continue;
      this.#watch();
      const [word, ...rest] = line.slice(MARK.length).split(" ");
      if (word === "node") {
        this.#text = null;
        return text;
      }
      this.#heard(word as string, rest.join(" "));
    }
    // A longer line is no banner.
    this.#text = text.length > TEXT_MAX ? new Uint8Array(0) : Uint8Array.from(text);
    return new Uint8Array(0);
  }

  #heard(word: string, rest: string): void {
    if (this.#closed) return;
    if (word === "machine" && rest !== "Linux x86_64") {
      this.#fail(`it is a machine of the kind ${rest}; dsm runs on Linux x86_64`);
    } else if (word === "wanted") {
      void this.#copy();
    } else if (word === "failed") {
      this.#fail(`it has no dsm ${VERSION} like this one, and none can be copied there: ${rest || this.lastWords}`);
    }
  }

  async #copy(): Promise<void> {
    const { binary } = this.#options.remote as { binary: Binary };
    const file = Bun.file(binary.path);
    for (let at = 0; at < binary.size && !this.#closed; at += COPY_CHUNK) {
      this.#options.copied(at);
      await this.#write(await file.slice(at, Math.min(at + COPY_CHUNK, binary.size)).bytes());
      this.#watch();
    }
    this.#options.copied(binary.size);
  }

  #watch(): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.#fail(`it says nothing for ${START_TIMEOUT_MS / 1000} s`);
    }, START_TIMEOUT_MS);
  }

  #fail(reason: string): void {
    this.#greeted.reject(new DsmError("DSM_SYSTEM", `${this.host}: ${reason}`));
    this.close();
    this.#child.kill("SIGTERM");
  }

  async #readErrors(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stderr) {
      this.#stderr = (this.#stderr + decoder.decode(chunk, { stream: true })).slice(-STDERR_KEPT);
    }
  }

  /** Returns why the connection ended before HELLO, as far as that is known. */
  #explain(): string {
    const { host } = this;
    const said = this.lastWords;
    const why = said === "" ? "" : ` (${said})`;
    if (/could not resolve hostname/i.test(said)) return `there is no host "${bareHost(host)}"${why}`;
    if (/permission denied \(/i.test(said)) {
      return `${host}: ssh is not let in${why}; it must work without a password, see ssh-keygen and ssh-copy-id`;
    }
    if (/host key verification failed/i.test(said)) {
      return `${host}: ssh does not know the key of this host; connect to it once by hand`;
    }
    if (/connect to host|connection (?:timed out|refused|closed|reset)|no route|timed out during/i.test(said)) {
      return `${host} cannot be reached by ssh${why}`;
    }
    return `${host}: dsm could not be started there${why || `: ssh ended with exit code ${this.#child.exitCode}`}`;
  }
}

const MARK = "dsm-far ";

function sshCommand(host: string, { ssh, binary }: { ssh: string[]; binary: Binary }): string[] {
  // Options that come first win, so those of the user do. Another program than ssh may not know these.
  const isSsh = basename(ssh[0] as string) === "ssh";
  const options = ["BatchMode=yes", `ConnectTimeout=${CONNECT_TIMEOUT_S}`, `ServerAliveInterval=${ALIVE_INTERVAL_S}`];
  return [
    ...ssh,
    ...(isSsh ? ["-T", ...options.flatMap((option) => ["-o", option])] : []),
    host.replace(/\[(.*)\]$/, "$1"),
    `sh -c '${farScript(binary)}'`,
  ];
}

/**
 * Starts `dsm node` there: the dsm copied earlier, or the one in the PATH, if they are byte for byte this one; else one
 * that is read from standard input. Any login shell can stand between, so the script is one line without single quotes,
 * backslashes and exclamation marks. Only `head` reads the input, and it reads no more than it is told.
 */
function farScript({ size, hash }: Binary): string {
  const folder = `${VERSION}-${hash.slice(0, 16)}`;
  const sum = (file: string): string => `test "$(sha256sum < "${file}" | cut -c 1-64)" = ${hash}`;
  const say = (text: string): string => `echo "${MARK}${text}"`;
  return [
    "umask 077",
    say("machine $(uname -s) $(uname -m)"),
    `c="\${XDG_CACHE_HOME:-$HOME/.cache}/dsm/${folder}"`,
    'p="$c/dsm"',
    "q=$(command -v dsm)",
    'if test -O "$p" && test -x "$p"; then :',
    `elif test -f "$q" && ${sum("$q")}; then p="$q"`,
    `elif ${[
      'e=$(mkdir -p "$c" 2>&1)',
      't="$c/.dsm.$$"',
      say("wanted"),
      `e=$(head -c ${size} 2>&1 > "$t")`,
      `{ ${sum("$t")} || { e="it did not arrive whole"; false; }; }`,
      'chmod 700 "$t"',
      'e=$(mv -f "$t" "$p" 2>&1)',
    ].join(" && ")}; then :`,
    `else rm -f "$t"; ${say("failed $e")}; exit 1`,
    "fi",
    say("node"),
    'exec "$p" node',
  ].join("; ");
}
