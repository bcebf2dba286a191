/** All groups of rows, in the order of the tables. */
import type { Group } from "./bench.ts";
import { bulk } from "./bulk.ts";
import { capture, queued } from "./capture.ts";
import { contended } from "./contended.ts";
import { hops } from "./hops.ts";
import { intervals } from "./intervals.ts";
import { kernels } from "./kernels.ts";
import { local } from "./local.ts";
import { loops } from "./loops.ts";
import { nodes } from "./nodes.ts";
import { ordering } from "./ordering.ts";
import { start } from "./start.ts";

export const groups: readonly Group[] = [
  ...[local, contended, capture, queued, loops, hops, ...nodes, bulk, intervals, kernels, ordering, start],
];
