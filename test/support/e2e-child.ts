/** Processes started by tests, and how they ended. */

export type Child = Bun.Subprocess<"pipe", "pipe", "pipe">;

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | number | null;
  stdout: string;
  stderr: string;
}

/** Waits for the end. */
export async function outcome(child: Child): Promise<Outcome> {
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code: child.exitCode, signal: child.signalCode, stdout, stderr };
}
