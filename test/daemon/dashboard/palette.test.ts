/** The colours of the dashboard's style sheet: legible, and told apart also by those who do not see all colours. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { RANK_COLOURS } from "../../../src/daemon/dashboard/dashboard-limits.ts";

type Rgb = [number, number, number];

const style = await Bun.file(join(import.meta.dir, "../../../src/daemon/dashboard/dashboard.css")).text();
const [light, dark] = [...style.matchAll(/:root \{([^}]*)\}/g)].map(
  ([, body]) =>
    new Map([...(body as string).matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map(([, name, hex]) => [name, hex])),
) as [Map<string, string>, Map<string, string>];

/** Linear light. */
function linear(hex: string): Rgb {
  return [1, 3, 5].map((at) => {
    const part = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as Rgb;
}

/** Contrast as WCAG 2.2 defines it. */
function contrast(one: string, other: string): number {
  const [low, high] = [one, other]
    .map((hex) => linear(hex))
    .map(([red, green, blue]) => 0.2126 * red + 0.7152 * green + 0.0722 * blue)
    .sort((a, b) => a - b) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

function times(matrix: number[][], [red, green, blue]: Rgb): Rgb {
  return matrix.map(([a, b, c]) => (a as number) * red + (b as number) * green + (c as number) * blue) as Rgb;
}

/** How colours look to a person without one kind of cones (Machado, Oliveira and Fernandes, 2009, severity 1). */
const SEEN: Record<string, number[][]> = {
  "with all cones": [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protanope: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranope: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanope: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

/** Oklab (Ottosson, 2020), in which distances are about those that are seen. */
function oklab(colour: Rgb): Rgb {
  const cones = times(
    [
      [0.4122214708, 0.5363325363, 0.0514459929],
      [0.2119034982, 0.6806995451, 0.1073969566],
      [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    colour,
  ).map(Math.cbrt) as Rgb;
  return times(
    [
      [0.2104542553, 0.793617785, -0.0040720468],
      [1.9779984951, -2.428592205, 0.4505937099],
      [0.0259040371, 0.7827717662, -0.808675766],
    ],
    cones,
  );
}

function distance(one: string, other: string, seen: number[][]): number {
  const [a, b] = [one, other].map((hex) =>
    oklab(times(seen, linear(hex)).map((part) => Math.min(1, Math.max(0, part))) as Rgb),
  ) as [Rgb, Rgb];
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

describe.each([
  ["light", light],
  ["dark", dark],
])("%s", (_, theme) => {
  const colour = (name: string) => {
    const hex = theme.get(name);
    if (hex === undefined) throw new Error(`the style sheet has no --${name}`);
    return hex;
  };
  const ranks = Array.from({ length: RANK_COLOURS }, (_, i) => colour(`rank-${i}`));

  test("text is legible", () => {
    for (const ground of ["page", "card"]) {
      expect([ground, contrast(colour("text"), colour(ground)) >= 7]).toEqual([ground, true]);
      expect([ground, contrast(colour("quiet"), colour(ground)) >= 4.5]).toEqual([ground, true]);
      expect([ground, contrast(colour("accent"), colour(ground)) >= 4.5]).toEqual([ground, true]);
    }
    expect(contrast(colour("text"), colour("late-card"))).toBeGreaterThanOrEqual(7);
    expect(contrast(colour("late"), colour("card"))).toBeGreaterThanOrEqual(3);
  });

  test("a rank's colour stands out from the ground, and its number from the colour", () => {
    for (const [i, rank] of ranks.entries()) {
      expect([rank, contrast(rank, colour("card")) >= 3]).toEqual([rank, true]);
      expect([rank, contrast(rank, colour(`on-rank-${i}`)) >= 4.5]).toEqual([rank, true]);
    }
  });

  test.each(Object.entries(SEEN))("ranks are distinguishable %s", (_, seen) => {
    // Okabe and Ito's palette, the usual one, has 0.076.
    for (const [i, one] of ranks.entries()) {
      for (const other of ranks.slice(0, i)) {
        expect([one, other, distance(one, other, seen) >= 0.1]).toEqual([one, other, true]);
      }
    }
  });
});
