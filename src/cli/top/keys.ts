/** Keys of `dsm top`. */

export type Key = "up" | "down" | "enter" | "back" | "sort" | "help" | "quit";

/** readKeys returns the keys in the input of a terminal. */
export function readKeys(text: string): Key[] {
  const keys: Key[] = [];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what keys send
  for (const [sequence] of text.matchAll(/\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Z])?|[^\x1b]/gu)) {
    const key = KEYS[sequence];
    if (key !== undefined) keys.push(key);
  }
  return keys;
}

const KEYS: Partial<Record<string, Key>> = {
  ...{ "\x1b[A": "up", "\x1bOA": "up", k: "up", "\x1b[B": "down", "\x1bOB": "down", j: "down" },
  ...{ "\r": "enter", "\n": "enter", "\x1b": "back", "\x7f": "back", "\b": "back", s: "sort" },
  ...{ "?": "help", h: "help", q: "quit", Q: "quit", "\x03": "quit" },
};
