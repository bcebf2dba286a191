/** Reading what a server answers to an arbiter's greeting: nothing of it is used before all of it has been checked. */
import { EPOCH_MAX } from "./limits.ts";
import type { NodeHello, Resumed, Welcome } from "./sequencer.ts";
import { checkSnapshot, fields, numbers, parseChecked, WORD_MAX, whole } from "./session-check.ts";

/** The WELCOME's body as what answers `hello`. Throws ProtocolError. */
export function parseWelcome(text: string, hello: NodeHello): Welcome {
  return parseChecked(text, "its welcome", (welcome) => {
    whole(welcome, "node", 0, WORD_MAX);
    whole(welcome, "epoch", 1, EPOCH_MAX);
    whole(welcome, "base", 0, Number.MAX_SAFE_INTEGER);
    numbers(welcome, "starts", 0, EPOCH_MAX);
    checkSnapshot(fields(welcome.snapshot, "snapshot"), hello.session);
  });
}

/** The body of a WELCOME to an arbiter that has come back. Throws ProtocolError. */
export function parseResumed(text: string): Resumed {
  return parseChecked(text, "its welcome", (resumed) => {
    whole(resumed, "node", 0, WORD_MAX);
    whole(resumed, "ordered", 0, Number.MAX_SAFE_INTEGER);
    whole(resumed, "epoch", 1, EPOCH_MAX);
    numbers(resumed, "starts", 0, EPOCH_MAX);
  });
}
