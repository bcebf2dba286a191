/** "Did you mean": the name that is most similar to a mistyped word. */
import { distance } from "fastest-levenshtein";

/** allowed returns how many letters may be wrong, missing or superfluous in a word of that length. */
const allowed = (length: number): number => (length <= 3 ? 1 : length <= 6 ? 2 : 3);

/** nearest returns the most similar name; null if none is similar enough. */
export function nearest(word: string, names: readonly string[]): string | null {
  let best: string | null = null;
  let least = allowed(word.length) + 1;
  for (const name of names) {
    const away = swapped(word, name) ? 1 : distance(word, name);
    // A word with another first letter and a second error is another word: version, session.
    if (away > 1 && name[0] !== word[0]) continue;
    if (away < least) [best, least] = [name, away];
  }
  if (best !== null || word.length < 3) return best;
  // The word is the beginning of exactly one name.
  const longer = names.filter((name) => name.startsWith(word));
  return longer.length === 1 ? (longer[0] as string) : null;
}

/** swapped returns whether two adjacent letters are exchanged: one slip, but a Levenshtein distance of two. */
function swapped(word: string, name: string): boolean {
  if (word.length !== name.length) return false;
  const first = [...word].findIndex((letter, index) => letter !== name[index]);
  return (
    first >= 0 &&
    word[first] === name[first + 1] &&
    word[first + 1] === name[first] &&
    word.slice(first + 2) === name.slice(first + 2)
  );
}
