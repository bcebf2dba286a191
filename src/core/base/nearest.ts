/** "Did you mean": the name that is most likely meant by what was typed. */
import { distance } from "fastest-levenshtein";

/** Of a word this long, this many letters may be wrong, left out, or too many. */
const allowed = (length: number): number => (length <= 3 ? 1 : length <= 6 ? 2 : 3);

/** Null where nothing is near enough to be of help. */
export function nearest(word: string, names: readonly string[]): string | null {
  let best: string | null = null;
  let least = allowed(word.length) + 1;
  for (const name of names) {
    const away = swapped(word, name) ? 1 : distance(word, name);
    // With more than one slip, a word that begins with another letter is rather another word: version, session.
    if (away > 1 && name[0] !== word[0]) continue;
    if (away < least) [best, least] = [name, away];
  }
  if (best !== null || word.length < 3) return best;
  // The beginning of one name alone.
  const longer = names.filter((name) => name.startsWith(word));
  return longer.length === 1 ? (longer[0] as string) : null;
}

/** Whether two neighbours have changed places, which counts as two changes for Levenshtein but is one slip. */
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
