/** A thread sleeps if the map holds what it has just seen there, as programs do, or something else. */
import { Status } from "../../../src/core/base/errors.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { ask } from "../conversation.ts";
import { keyOf } from "../oracle/sent-frames.ts";
import type { Thread } from "../process.ts";
import type { Word, World } from "../world.ts";

interface Sleep {
  offset: number;
  expected: Uint8Array;
  /** It sleeps on a word whose changes are told to all that sleep there. */
  word: Word | undefined;
}

export function sleep(world: World, thread: Thread): void {
  const { random, direct, order } = world;
  const { node } = thread.process;
  const word = random.oneIn(3) ? undefined : random.pick(world.words);
  const length = word === undefined ? random.pick([1, 2, 4, 8]) : 4;
  const offset = word?.offset ?? world.offset(length);
  const seen = node.memory.slice(offset, offset + length);
  const expected = random.oneIn(8) ? random.bytes(length) : seen;
  const body = random.bytes(8);
  body.set(expected);
  const isEqual = Buffer.compare(expected, seen) === 0;
  const { changes } = direct;
  const isDecided = node === direct.decider;
  ask(
    world,
    thread,
    { kind: Kind.FUTEX_WAIT, offset, length, body },
    {
      ...{ what: "sleep", statuses: [Status.AGAIN], endsByLoss: true, cancelable: true, judged: true },
      // A node in direct mode may find the value changed, which is in no order: it alone knows what it compared with.
      answeredByNode: (status) => {
        if (!isDecided || status !== Status.AGAIN) return false;
        if (isEqual && changes === direct.changes) throw new Violation("a sleep is refused without a change");
        return true;
      },
      answered: ({ status }) => {
        if (status === Status.OK) world.report.woken += 1;
        if (status === Status.AGAIN) world.report.refused += 1;
      },
      waits: () => {
        checkWoken(world, thread, { offset, expected, word });
        const tag = thread.request?.tag as number;
        return order.futexes.sleeps(keyOf(node.number, thread.channel.index, tag));
      },
    },
  );
}

/** No thread that changed what it saw has still to wake those that had seen it. */
function checkWoken(world: World, thread: Thread, { offset, expected, word }: Sleep): void {
  const { order } = world;
  if (word === undefined || word.broken || word.owed > 0 || order.heap.wordsZeroed) return;
  const memory = world.expectedMemory(thread, order.length);
  const now = memory.subarray(offset, offset + expected.length);
  if (Buffer.compare(now, expected) !== 0) throw new Violation(`process ${thread.process.pid} was not woken`);
}
