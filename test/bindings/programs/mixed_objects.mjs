// Objects in the map as processes of several languages use them together: see objects.test.ts. Under Bun and Node. Odd rounds by
// the Sync forms, even ones by the promise forms.
import assert from "node:assert/strict";
import { dsmBarrier, dsmCond, dsmMutex, dsmRwlock, dsmSemaphore, i64, join, struct } from "dsm";

const [, , act, count] = process.argv;
const objects = struct({
  ...{ mutex: dsmMutex, changed: dsmCond, table: dsmRwlock, one: dsmSemaphore, step: dsmBarrier },
  ...{ total: i64, turn: i64, left: i64, right: i64, taken: i64, lasts: i64, deaths: i64 },
});

const session = await join();
const { rank, processes } = session;
const shared = session.struct("objects", objects);
const { mutex, changed, table, one, step } = shared;

const isTurn = () => Number(shared.turn % BigInt(processes)) === rank;
const addTotal = () => {
  shared.total += 1n;
};
const addBoth = () => {
  shared.left += 1n;
  shared.right += 1n;
};
const compare = () => assert.equal(shared.right, shared.left);
const addTaken = () => {
  shared.taken += 1n;
};
const addLast = () => {
  shared.lasts += 1n;
};

function roundSync() {
  mutex.useSync(addTotal);
  mutex.useSync(() => {
    while (!isTurn()) changed.waitSync(mutex);
    shared.turn += 1n;
    changed.broadcastSync();
  });
  table.write.useSync(addBoth);
  table.read.useSync(compare);
  one.useSync(addTaken);
  if (step.waitSync()) mutex.useSync(addLast);
}

async function round() {
  await mutex.use(addTotal);
  await mutex.use(async () => {
    while (!isTurn()) await changed.wait(mutex, { timeoutMs: 5 });
    shared.turn += 1n;
    await changed.broadcast();
  });
  await table.write.use(addBoth);
  await table.read.use(compare);
  await one.use(addTaken);
  if (await step.wait()) await mutex.use(addLast);
}

async function work(rounds) {
  if (rank === 0) {
    one.init(1);
    step.init(processes);
  }
  await session.barrier();
  for (let i = 0; i < rounds; i++) i % 2 === 1 ? roundSync() : await round();
  await session.barrier();
  const all = BigInt(rounds * processes);
  const { total, turn, left, taken, lasts } = shared;
  assert.deepEqual({ total, turn, left, taken }, { total: all, turn: all, left: all, taken: all });
  assert.equal(lasts, BigInt(rounds));
}

async function death() {
  if (rank === 0) {
    await mutex.lock();
    table.write.lockSync();
  }
  await session.barrier();
  if (rank === 0) process.kill(process.pid, "SIGKILL");
  const hear = (outcome) => {
    if (outcome === "owner-died") shared.deaths += 1n;
  };
  await mutex.use(async (outcome) => {
    hear(outcome);
    await table.write.use(hear);
  });
  await session.barrier();
  assert.equal(shared.deaths, 2n);
}

await (act === "death" ? death() : work(Number(count)));
await session.leave();
console.log("ok");
