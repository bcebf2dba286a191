/** Starting and ending. */
import { dsm, type Group, most, program } from "./bench.ts";

export const start: Group = {
  rows: [
    {
      name: "run",
      what: "`dsm run -n 2` of a program that joins and leaves",
      unit: "s",
      figure: "run",
      limits: [most("value", 0.5)],
    },
  ],
  start: async ({ environment }) => ({
    probes: [
      {
        gives: ["run"],
        run: async () => {
          const argv = [dsm, "run", "-n", "2", "--", program("empty")];
          const from = performance.now();
          const child = Bun.spawn(argv, { env: environment, stdin: "ignore", stdout: "ignore", stderr: "inherit" });
          if ((await child.exited) !== 0) throw new Error(`${argv.join(" ")} failed`);
          return { run: (performance.now() - from) / 1000 };
        },
      },
    ],
  }),
};
