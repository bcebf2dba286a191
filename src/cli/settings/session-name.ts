/** Names of sessions that the user has not named. */

/** Crockford's base 32: no letters that are easily taken for digits. */
const DIGITS = "0123456789abcdefghjkmnpqrstvwxyz";
/** 40 bits: among 1,000 sessions of one daemon, a new name is taken with a probability of 1 in 10^9. */
const LENGTH = 8;

/** newSessionName returns a name that is short enough to type: "run-4k9x2mqz". */
export function newSessionName(prefix: string): string {
  const random = crypto.getRandomValues(new Uint8Array(LENGTH));
  return `${prefix}-${Array.from(random, (byte) => DIGITS[byte % DIGITS.length]).join("")}`;
}
