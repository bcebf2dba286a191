/** Stretching the contrast: the sums that the sequential and the shared program have in common. All in integers. */

/** How many pixels have each value. */
export function countValues(pixels: Uint8Array): Uint32Array {
  const counts = new Uint32Array(256);
  for (const value of pixels) counts[value]!++;
  return counts;
}

/**
 * The new value for each old one: the darkest `cut` percent become black, the brightest `cut` percent white, and the
 * values between are spread evenly. An image with nothing between stays as it is.
 */
export function stretchTable(counts: Uint32Array, white: number, cut: number): Uint8Array {
  const pixels = counts.reduce((sum, count) => sum + count, 0);
  const spare = Math.floor((pixels * cut) / 100);
  let low = 0;
  for (let below = counts[0]!; below <= spare; below += counts[++low]!);
  let high = white;
  for (let above = counts[white]!; above <= spare; above += counts[--high]!);
  return Uint8Array.from({ length: 256 }, (_, value) => {
    if (low >= high) return value;
    if (value <= low) return 0;
    if (value >= high) return white;
    return Math.floor(((value - low) * white * 2 + (high - low)) / (2 * (high - low))); // rounded
  });
}

/** Replaces each pixel by its new value, in place. */
export function applyTable(pixels: Uint8Array, table: Uint8Array): void {
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[pixels[i]!]!;
}

/** The rows, from the first up to but not the last, that `rank` of `processes` works on. */
export function rowsOf(rank: number, processes: number, height: number): [first: number, last: number] {
  return [Math.floor((height * rank) / processes), Math.floor((height * (rank + 1)) / processes)];
}
