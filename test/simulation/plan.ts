/** The kinds of session that simulator.ts plays, as settings, and what one seed makes of them. */
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import type { Random } from "../support/core-random.ts";

/** Two pages. */
export const SIZE = 8192;
export const PAGE = 4096;
/** The last bytes of the map hold words of 4 bytes that are only changed by those who then wake all that sleep there. */
export const WORDS_FROM = SIZE - 64;

interface Settings {
  /** Nodes and processes come while it runs, and go. */
  elastic: boolean;
  /** All processes are on one node, which decides the order. */
  direct: boolean;
  /** Half of what threads do concerns locks, processes die, and the session goes on. */
  locks: boolean;
  /** Nearly all that threads do concerns locks, in a direct session where few die: most are taken by their cells. */
  cells: boolean;
  /** Leased locks matter most: nodes that have them die, and readers take snapshots. */
  leases: boolean;
  /** Half of what threads do concerns the barrier, and processes that come late mostly come where the others are. */
  barriers: boolean;
  /** Most of what threads do concerns semaphores. */
  semaphores: boolean;
  /** Most of what threads do concerns objects in the map: a mutex, conditions, a reader-writer lock and a barrier. */
  objects: boolean;
  /** So many processes at most are expected, and so many more than twice those may come in all. */
  expectedMax: number;
  extraMax: number;
  /** A wished rank may be so far beyond those expected. */
  ranksBeyond: number;
  /** Once in so many acts a node comes, a process comes late, a thread with nothing else to do leaves. */
  nodeOneIn: number;
  lateOneIn: number;
  leaveOneIn: number;
}

const USUAL: Settings = {
  ...{ elastic: false, direct: false, locks: false, cells: false, leases: false, barriers: false, semaphores: false },
  ...{ objects: false },
  ...{ expectedMax: 5, extraMax: 2, ranksBeyond: 0 },
  ...{ nodeOneIn: 200, lateOneIn: 150, leaveOneIn: 20 },
};

export const FLAVOURS = [
  "sequencer",
  "direct",
  "locks",
  "cells",
  "semaphores",
  "leases",
  "objects",
  "elastic",
  "barriers",
] as const;
export type Flavour = (typeof FLAVOURS)[number];

const SETTINGS: Readonly<Record<Flavour, Settings>> = {
  sequencer: USUAL,
  direct: { ...USUAL, direct: true },
  locks: { ...USUAL, locks: true },
  cells: { ...USUAL, direct: true, cells: true },
  semaphores: { ...USUAL, direct: true, semaphores: true, nodeOneIn: 60, lateOneIn: 40 },
  leases: { ...USUAL, cells: true, leases: true, leaveOneIn: 6 },
  objects: { ...USUAL, objects: true, leaveOneIn: 6 },
  elastic: {
    ...{ elastic: true, direct: false, locks: false, cells: false, leases: false, barriers: false, semaphores: false },
    ...{ objects: false },
    ...{ expectedMax: 3, extraMax: 12, ranksBeyond: 4 },
    ...{ nodeOneIn: 40, lateOneIn: 15, leaveOneIn: 2 },
  },
  barriers: {
    ...{ elastic: true, direct: true, locks: false, cells: false, leases: false, barriers: true, semaphores: false },
    ...{ objects: false },
    ...{ expectedMax: 3, extraMax: 12, ranksBeyond: 4 },
    ...{ nodeOneIn: 200, lateOneIn: 60, leaveOneIn: 2 },
  },
};

/** What a seed makes happen. */
export interface Plan extends Settings {
  steps: number;
  /** Tags are below this: few are used again at once. */
  tags: number;
  /** Processes and nodes die; threads close their connections; strangers connect. */
  losses: boolean;
  closes: boolean;
  strangers: boolean;
  /** "ordered": all refuse direct mode; "direct": all that are expected come on one node; "any": as it comes. */
  mode: "ordered" | "direct" | "any";
  /** So many more than expected come at the beginning. */
  extra: number;
  config: SessionConfig;
}

export function makePlan(random: Random, flavour: Flavour): Plan {
  const settings = SETTINGS[flavour];
  // Most mistakes show early, some only after long.
  const isLong = settings.cells || random.oneIn(settings.objects ? 3 : 12);
  const steps = isLong ? random.between(600, 1500) : random.between(80, 400);
  const expected = random.between(settings.cells || settings.objects ? 2 : 1, settings.expectedMax);
  const tags = random.oneIn(2) ? 2 : 0x10000;
  const losses =
    settings.locks || settings.objects || random.oneIn(flavour === "cells" ? 6 : flavour === "leases" ? 2 : 3);
  const closes = random.oneIn(2);
  const strangers = random.oneIn(4);
  const mode = settings.direct
    ? "direct"
    : random.pick(["ordered", settings.elastic || settings.objects ? "direct" : "ordered", "any"] as const);
  const extra = random.pick([0, 0, 1, 2]);
  const elastic = settings.elastic || ((settings.semaphores || settings.objects) && random.oneIn(3));
  const config: SessionConfig = {
    ...{ name: "simulated", instance: "0", processes: expected, size: SIZE, base: 0x2000_0000_0000 },
    ...{
      order: "sequential",
      onLoss:
        settings.locks || flavour === "leases" || random.oneIn(3) || (settings.objects && random.oneIn(2))
          ? "continue"
          : "fail",
    },
    elastic,
  };
  return { ...settings, elastic, steps, tags, losses, closes, strangers, mode, extra, config };
}
