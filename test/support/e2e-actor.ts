/** A process of a session that does what a test tells it (test/e2e/programs/actor.c): a line each way. */
import type { Child, Outcome } from "./e2e-child.ts";

export class Actor {
  readonly session: string;
  readonly #child: Child;
  readonly #waiting: PromiseWithResolvers<string>[] = [];
  readonly #stderr: Promise<string>;
  readonly #lines: Promise<void>;
  #said = "";
  #ended: Error | undefined;

  constructor(child: Child, session: string) {
    this.#child = child;
    this.session = session;
    this.#stderr = child.stderr.text();
    this.#lines = this.#read();
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Sends one command; the answer as it comes: "ok", "ok VALUE", or the name of a status and its reason. */
  ask(command: string): Promise<string> {
    const answer = Promise.withResolvers<string>();
    if (this.#ended !== undefined) answer.reject(this.#ended);
    else {
      this.#waiting.push(answer);
      this.#child.stdin.write(`${command}\n`);
      this.#child.stdin.flush();
    }
    return seen(answer.promise);
  }

  /** A command that must succeed; its value. */
  do(command: string): Promise<string> {
    return seen(
      this.ask(command).then((answer) => {
        if (answer !== "ok" && !answer.startsWith("ok ")) throw new Error(`${command}: ${answer}`);
        return answer.slice(3);
      }),
    );
  }

  /** do(), with a number as value. */
  async number(command: string): Promise<number> {
    return Number(await this.do(command));
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Lets the process end (unless it is at it) and waits for that. */
  async end(): Promise<Outcome> {
    this.#child.stdin.end();
    await Promise.all([this.#lines, this.#child.exited]);
    const { exitCode, signalCode } = this.#child;
    return { code: exitCode, signal: signalCode, stdout: this.#said, stderr: await this.#stderr };
  }

  /** Leaves the session and ends well. */
  async leave(): Promise<void> {
    await this.do("leave");
    const { code, signal, stderr } = await this.end();
    if (code !== 0 || signal !== null || stderr !== "") {
      throw new Error(`the process of ${this.session} ended with ${signal ?? code}: ${stderr}`);
    }
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of this.#child.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() as string;
      for (const line of lines) this.#waiting.shift()?.resolve(line);
    }
    this.#said = rest;
    await this.#child.exited;
    const { exitCode, signalCode } = this.#child;
    this.#ended = new Error(`the process ended with ${signalCode ?? exitCode}: ${await this.#stderr}`);
    for (const answer of this.#waiting.splice(0)) answer.reject(this.#ended);
  }
}

/**
 * Its failure is reported where it is awaited. A test that has failed already awaits nothing, and must not fail again.
 */
function seen<Value>(promise: Promise<Value>): Promise<Value> {
  promise.catch(() => {});
  return promise;
}
