/** A program on a terminal of its own. */

export interface TerminalProgram {
  /** Everything it has written so far, escapes and all. */
  readonly said: string;
  type(keys: string): void;
  /** Waits until it has written something that fits, from `from` on. */
  until(pattern: RegExp, from?: number): Promise<void>;
  /** Waits for its end; returns its exit code. */
  ended(): Promise<number>;
  close(): Promise<void>;
}

export function onTerminal(
  cmd: string[],
  { env, cwd, columns = 80 }: { env: Record<string, string>; cwd?: string; columns?: number },
): TerminalProgram {
  const decoder = new TextDecoder();
  let said = "";
  let heard = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<void>();
  const child = Bun.spawn(cmd, {
    env: { TERM: "xterm-256color", ...env },
    ...(cwd ? { cwd } : {}),
    terminal: {
      cols: columns,
      rows: 30,
      data(_, bytes) {
        said += decoder.decode(bytes, { stream: true });
        heard.resolve();
        heard = Promise.withResolvers();
      },
      // All that was written has been read.
      exit: () => gone.resolve(),
    },
  });
  const terminal = child.terminal as Bun.Terminal;
  return {
    get said() {
      return said;
    },
    type: (keys) => void terminal.write(keys),
    async until(pattern, from = 0) {
      while (!pattern.test(said.slice(from))) {
        const more = await Promise.race([heard.promise.then(() => true), gone.promise.then(() => false)]);
        if (!more && !pattern.test(said.slice(from))) throw new Error(`it ended without ${pattern}: ${said}`);
      }
    },
    async ended() {
      return child.exited;
    },
    async close() {
      if (child.exitCode === null) child.kill("SIGKILL");
      await child.exited;
      terminal.close();
    },
  };
}
