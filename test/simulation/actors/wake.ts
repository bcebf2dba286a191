/** A thread wakes some that sleep, or changes a word and then wakes all that sleep on it. */
import { Status } from "../../../src/core/base/errors.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { placeWrite } from "../checks/places.ts";
import { ask } from "../conversation.ts";
import type { Thread } from "../process.ts";
import type { Word, World } from "../world.ts";

const ALL = 0xffffffff;

export function wake(world: World, thread: Thread): void {
  const { random, order } = world;
  const offset = random.pick([world.offset(1), ...order.futexes.occupied]);
  const aux = random.pick([0, 1, 1, 1, 2, ALL]);
  ask(world, thread, { kind: Kind.FUTEX_WAKE, offset, aux }, { what: "wake", judged: true });
}

/** A thread that saw the old value does not sleep on. */
export function change(world: World, thread: Thread): void {
  const { random, order, words, direct } = world;
  const sleptOn = words.filter(({ offset }) => order.futexes.occupied.includes(offset));
  const word = random.pick(sleptOn.length > 0 && !random.oneIn(4) ? sleptOn : words);
  const body = Uint8Array.of(random.below(3), 0, 0, 0);
  word.owed += 1;
  if (thread.process.direct) {
    direct.write(thread.process, word.offset, body);
    wakeAll(world, thread, word);
    return;
  }
  const breakWord = (): void => {
    word.broken = true;
  };
  ask(
    world,
    thread,
    { kind: Kind.STORE, offset: word.offset, body },
    {
      what: "change",
      answered: ({ status, tag, view }) => {
        if (status !== Status.OK) {
          breakWord();
          return;
        }
        placeWrite(world, thread, "change", tag, view);
        wakeAll(world, thread, word);
      },
      abandoned: breakWord,
    },
  );
}

function wakeAll(world: World, thread: Thread, word: Word): void {
  const breakWord = (): void => {
    word.broken = true;
  };
  ask(
    world,
    thread,
    { kind: Kind.FUTEX_WAKE, offset: word.offset, aux: ALL },
    {
      ...{ what: "wake", judged: true, abandoned: breakWord },
      answered: ({ status }) => {
        if (status === Status.OK) word.owed -= 1;
        else breakWord();
      },
    },
  );
}
