/** Waits with a deadline of their own, for what tests cannot be told of. */

/** How long whatever must come may take on a busy machine before we call it missing. */
export const LIVENESS_MS = 60_000;
const LOOK_MS = 5;

/** Polls until `holds` returns true. For events without notification: ends of other processes' children, states. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + LIVENESS_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`after ${LIVENESS_MS / 1000} s it is still not so that ${what}`);
    await Bun.sleep(LOOK_MS);
  }
}
