/** Loops of stores, which are bursts: one trap for many of them. */
import { dsm, type Group, least, medianOf, most, numbers, program } from "./bench.ts";

const MIB_WORDS = 131_072;
/** They fit the ring of `pipelined`, with the bytes that they replace. */
const RING_WORDS = 16_384;
const BYTES_PER_WORD = 8;

export const loops: Group = {
  rows: [
    {
      name: "loop",
      what: "`for (i) m[i] = i` over 1 MiB, `sequential`, 2 nodes",
      unit: "MB/s",
      figure: "loop",
      limits: [least("value", 100)],
    },
    {
      name: "loop-pipelined",
      what: "the same loop over 128 KiB, `pipelined`, a store",
      unit: "ns",
      figure: "pipelined",
      floor: { figure: "plain", what: "private memory" },
      limits: [most("value", 15)],
    },
    {
      name: "loop-vectors",
      what: "the same with vectors, 8 bytes",
      unit: "ns",
      figure: "vectors",
      floor: { figure: "plain vectors", what: "private memory" },
      limits: [most("value", 4)],
    },
  ],
  start: async ({ environment, quick }) => {
    const run = (words: number, rounds: number, order: string) =>
      numbers(
        [dsm, "run", "-n", "2", "--nodes", "2", "--", program("loops"), String(words), quick ? "2" : String(rounds)],
        { ...environment, DSM_ORDER: order, DSM_SIZE: "2MiB" },
      );
    return {
      probes: [
        {
          gives: ["loop"],
          run: async () => ({ loop: (BYTES_PER_WORD * 1000) / medianOf(await run(MIB_WORDS, 40, "sequential"), 1) }),
        },
        {
          gives: ["plain", "pipelined", "plain vectors", "vectors"],
          run: async () => {
            const lines = await run(RING_WORDS, 60, "pipelined");
            const [plain, pipelined, plainVectors, vectors] = [0, 1, 2, 3].map((column) => medianOf(lines, column));
            return {
              ...{ plain: plain as number, pipelined: pipelined as number },
              ...{ "plain vectors": plainVectors as number, vectors: vectors as number },
            };
          },
        },
      ],
    };
  },
};
