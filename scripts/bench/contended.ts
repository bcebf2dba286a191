/** Processes that compete in direct mode, beside what the C library has for processes that share memory. */
import { dsm, type Group, medianOf, most, numbers, type Probe, program, type RowSpec } from "./bench.ts";

/** Between two sections of a process: about as long as a section takes. */
const PAUSES = 20;

const row = (name: string, what: string, figure: string): RowSpec => ({
  ...{ name, what, figure },
  unit: "ns",
  floor: { figure: `plain ${figure}`, what: "robust mutex" },
  limits: [most("floor", 2)],
});

export const contended: Group = {
  rows: [
    row("contended-lock", "section under one lock, 2 processes in direct mode, of 10^6", "lock of 2"),
    row("contended-lock-4", "the same, 4 processes", "lock of 4"),
  ],
  start: async ({ environment, quick }) => {
    const probe = (processes: number): Probe => {
      const figure = `lock of ${processes}`;
      return {
        gives: [figure, `plain ${figure}`],
        run: async () => {
          const slices = quick ? 2 : 20;
          const count = quick ? 1000 : 1e6 / slices / processes;
          const argv = [dsm, "run", "-n", String(processes), "--", program("contended"), "lock"];
          const lines = await numbers([...argv, String(count), String(slices), String(PAUSES)], environment);
          const sections = count * processes;
          return { [`plain ${figure}`]: medianOf(lines, 0) / sections, [figure]: medianOf(lines, 1) / sections };
        },
      };
    };
    return { probes: [probe(2), probe(4)] };
  },
};
