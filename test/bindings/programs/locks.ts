/** A process of a session that does with the lock "m" what it is told, a word a line; it answers each with a line. */
import { createInterface } from "node:readline";
import { DsmError, join, type LockOutcome } from "dsm";

const session = await join();
/** Value, and how many have repaired it. */
const guarded = session.named("guarded", Int32Array, 2) as Int32Array & [number, number];
const lock = session.lock("m");

function mend(outcome: LockOutcome, which: string): void {
  if (outcome === "ok") return;
  if (which === "fails") throw new Error("cannot be repaired");
  if (which !== "repairs") throw new Error("OwnerDied");
  guarded[1] += 1;
}

async function perform(verb: string, which = "plain", time_ms = "0"): Promise<string> {
  switch (verb) {
    case "with":
      return lock.use((outcome) => {
        mend(outcome, which);
        guarded[0] += 1;
        return `value ${guarded[0]}, repaired ${guarded[1]}`;
      });
    case "throw":
      return lock.useSync((outcome) => {
        mend(outcome, which);
        throw new Error("left by an exception");
      });
    case "lock": {
      const outcome = await lock.lock();
      try {
        mend(outcome, which);
      } catch (error) {
        await lock.unlock({ mended: false });
        throw error;
      }
      return `locked, repaired ${guarded[1]}`;
    }
    case "try":
      return lock.tryLockSync() ? "locked" : "not locked";
    case "timed":
      lock.lockSync({ timeoutMs: Number(time_ms) });
      return "locked";
    case "unlock":
      lock.unlockSync();
      return "unlocked";
    case "unmended":
      lock.unlockSync({ mended: false });
      return "unlocked";
    case "leave":
      await session.leave();
      return "left";
    default:
      return "what?";
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...words] = line.split(" ") as [string, ...string[]];
  const answer = await perform(verb, ...words).catch((error: Error) =>
    error instanceof DsmError ? `${error.code} ${error.message}` : `error: ${error.message}`,
  );
  console.log(answer.replace(/^error: OwnerDied/, "OwnerDied"));
}
