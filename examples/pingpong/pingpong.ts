/**
 * Two processes pass a ball to and fro through the shared memory: by watching it (busy wait), then by semaphores.
 *
 *   dsm run -n 2 -- examples/pingpong/pingpong.ts [busy|semaphore|both] [ROUNDS]
 */
import { DsmError, join, type Session } from "dsm";

const usage = `usage: dsm run -n N -- pingpong.ts [busy|semaphore|both] [ROUNDS]

Ranks 0 and 1 pass a ball to and fro ROUNDS times (1 to 1000000, default 1000) and rank 0 prints how long a round took.
The ball is a number in the shared memory that each of them increments when it is its turn. N is at least 2; further
processes look on.`;

function badArguments(problem: string): never {
  console.error(`pingpong: ${problem}\n${usage}`);
  process.exit(2);
}

/** Looks this often before it lets the event loop do something else. */
const LOOKS = 1000;

/** Waits until the ball shows `value`. */
async function watch(ball: Int32Array, value: number): Promise<void> {
  for (let looks = 1; Atomics.load(ball, 0) !== value; looks++) {
    if (looks % LOOKS === 0) await Bun.sleep(0);
  }
}

async function busy(session: Session, ball: Int32Array, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const mine = 2 * round + session.rank;
    await watch(ball, mine);
    ball[0] = mine + 1;
  }
  await watch(ball, 2 * rounds);
}

async function semaphores(session: Session, ball: Int32Array, rounds: number): Promise<void> {
  const ping = session.semaphore("ping", 0);
  const pong = session.semaphore("pong", 0);
  const [myTurn, yourTurn] = session.rank === 0 ? [pong, ping] : [ping, pong];
  if (session.rank === 0) await myTurn.post(); // rank 0 serves
  for (let round = 0; round < rounds; round++) {
    await myTurn.wait();
    ball[0] = ball[0]! + 1;
    await yourTurn.post();
  }
  if (session.rank === 0) await myTurn.wait(); // the last ball comes back
}

const games = { busy, semaphore: semaphores };
type Game = keyof typeof games;

const words = process.argv.slice(2);
if (words.includes("--help") || words.includes("-h")) {
  console.log(usage);
  process.exit(0);
}
if (words.length > 2) badArguments(`two arguments at most, and ${words.length} were given`);
const [which = "both", text = "1000"] = words;
if (!["busy", "semaphore", "both"].includes(which)) {
  badArguments(`the first argument must be busy, semaphore or both, and "${which}" was given`);
}
const rounds = /^\d{1,7}$/.test(text) ? Number(text) : 0;
if (rounds < 1 || rounds > 1e6) badArguments(`ROUNDS must be a number from 1 to 1000000, and "${text}" was given`);

try {
  const session = await join();
  if (session.processes < 2) badArguments("it takes two to play: dsm run -n 2");
  const ball = session.view(Int32Array, 0, 1);

  for (const name of which === "both" ? (["busy", "semaphore"] as const) : [which as Game]) {
    if (session.rank === 0) ball[0] = 0;
    await session.barrier();
    const start = performance.now();
    if (session.rank < 2) await games[name](session, ball, rounds);
    const microseconds = ((performance.now() - start) * 1000) / rounds;
    await session.barrier();
    if (session.rank === 0) {
      console.log(
        `${name}: the ball was hit ${ball[0]} times in ${rounds} rounds, ${microseconds.toFixed(1)} us a round`,
      );
    }
  }
  await session.leave();
} catch (error) {
  if (!(error instanceof DsmError)) throw error;
  console.error(`pingpong: ${error.message}`);
  process.exitCode = 1;
}
