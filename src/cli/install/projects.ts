/** The files of the projects that `dsm init` writes. Every program adds up the same numbers, each process its part. */
import { VERSION } from "../../core/base/limits.ts";
import { readAsset } from "./assets.ts";
import { isCompiled } from "./executable.ts";

export const LANGUAGES = ["ts", "c", "python"] as const;
export type Language = (typeof LANGUAGES)[number];

/** The names of the languages in text. */
export const LANGUAGE_NAMES: Record<Language, string> = { ts: "TypeScript", c: "C", python: "Python" };

export interface Project {
  /** Text of each file, by name. */
  files: Record<string, string>;
  /** The command that runs it, in its folder. */
  command: string;
}

export async function projectFor(language: Language): Promise<Project> {
  switch (language) {
    case "ts": {
      const types = new TextDecoder().decode(await readAsset("dsm.d.ts"));
      const files = { "main.ts": MAIN_TS, "dsm.d.ts": types, "tsconfig.json": TSCONFIG, "README.md": README_TS };
      return { files, command: RUN_TS };
    }
    case "c":
      return { files: { "main.c": MAIN_C, Makefile: MAKEFILE, "README.md": README_C }, command: "make run" };
    case "python":
      return { files: { "main.py": MAIN_PY, "README.md": README_PY }, command: RUN_PY };
  }
}

/** What the user calls: a dsm that npm has put into a project is in no PATH. */
const DSM = isCompiled && process.execPath.includes("/node_modules/") ? "npx dsm" : "dsm";

const RUN_TS = `${DSM} run -n 4 --nodes 2 -- main.ts`;
const RUN_PY = `${DSM} run -n 4 --nodes 2 -- main.py`;

const MAIN_TS = `/** Adds the numbers 1 to 1,000,000 up: every process takes its part, and all add to one sum in shared memory. */
import { join } from "dsm";

const LAST = 1_000_000;

const session = await join(); // which session, and as whom: dsm run says it, in DSM_ variables
const sum = session.view(Float64Array, 0, 1); // the first 8 bytes of the shared memory

let mine = 0;
for (let n = session.rank + 1; n <= LAST; n += session.processes) mine += n;

await session.lock("sum").use(() => {
  sum[0] += mine; // a plain write, seen by all
});
await session.barrier();

if (session.rank === 0) console.log(session.processes + " processes added up to " + sum[0]);
await session.leave();
`;

const TSCONFIG = `{
  "compilerOptions": {
    "target": "ESNext",
    "lib": ["ESNext", "DOM"],
    "types": [],
    "module": "Preserve",
    "moduleResolution": "bundler",
    "moduleDetection": "force",
    "allowImportingTsExtensions": true,
    "noEmit": true,
    "strict": true,
    "skipLibCheck": true
  }
}
`;

const MAIN_C = `/* Adds the numbers 1 to 1,000,000 up: every process takes its part, and all add to one sum in shared memory. */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>

enum { LAST = 1000000 };

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "%s\\n", dsm_last_error());
  exit(1);
}

int main(void) {
  dsm_session *session;
  check(dsm_open(NULL, &session)); /* which session, and as whom: dsm run says it, in DSM_ variables */
  double *sum = dsm_address(session);

  double mine = 0;
  for (int n = dsm_rank(session) + 1; n <= LAST; n += dsm_processes(session)) mine += n;

  check(dsm_sem_wait(session, "sum", 1));
  *sum += mine; /* a plain write, seen by all */
  check(dsm_sem_post(session, "sum", 1));
  check(dsm_barrier_wait(session));

  if (dsm_rank(session) == 0) printf("%d processes added up to %.0f\\n", dsm_processes(session), *sum);
  check(dsm_close(session));
  return 0;
}
`;

const MAKEFILE = `# Headers and library are those beside the dsm in the PATH: see "dsm install --help".
DSM_PREFIX ?= $(patsubst %/bin/dsm,%,$(shell command -v dsm))
CFLAGS ?= -O2 -g -Wall -Wextra

main: main.c
	$(CC) $(CFLAGS) -I$(DSM_PREFIX)/include -o $@ $< -L$(DSM_PREFIX)/lib -ldsm

run: main
	dsm run -n 4 --nodes 2 -- ./main

clean:
	rm -f main

.PHONY: run clean
`;

const MAIN_PY = `"""Adds the numbers 1 to 1,000,000 up: every process takes its part, and all add to one sum in shared memory."""

import dsm

LAST = 1_000_000

with dsm.join() as session:  # which session, and as whom: dsm run says it, in DSM_ variables
    sum_ = session.buffer[0:8].cast("d")  # the first 8 bytes of the shared memory, as one number

    mine = sum(range(session.rank + 1, LAST + 1, session.processes))

    with session.lock("sum"):
        sum_[0] += mine  # a plain write, seen by all
    session.barrier()

    if session.rank == 0:
        print(f"{session.processes} processes added up to {sum_[0]:.0f}")
`;

const readme = (language: Language, start: string, more: string): string => `# A program on shared memory

Made by dsm ${VERSION} (\`dsm init --language ${language}\`). Several processes, on one machine or on many, share one memory
and write to it as if it were their own.

\`\`\`sh
${start}
\`\`\`

It prints \`4 processes added up to 500000500000\`. The two nodes are simulated: they share nothing but what dsm carries
between them, as two machines would.

${more}

Next: \`${DSM} sessions\` shows what runs, \`${DSM} run --help\` what else can be chosen, \`${DSM} man\` everything.
`;

const README_TS = readme(
  "ts",
  RUN_TS,
  `\`dsm run\` brings the module "dsm" along, so nothing needs to be installed. \`dsm.d.ts\` tells editors and \`tsc\` its types;
after an update of dsm, \`dsm init\` in an empty folder writes the new one. The program runs on Bun: for the types of its
own interfaces, \`npm install --save-dev bun-types\` and write \`"types": ["bun-types"]\` into \`tsconfig.json\`.`,
);

const README_C = readme(
  "c",
  `${DSM} install --prefix ~/.local   # once: headers and library; any folder whose bin/ is in the PATH\nmake run`,
  `The \`Makefile\` takes headers and library from beside the \`dsm\` in the PATH; \`make DSM_PREFIX=DIR\` names another place.
All calls are described in \`include/dsm/dsm.h\` there; for C++ there is \`dsm/dsm.hpp\`.`,
);

const README_PY = readme(
  "python",
  RUN_PY,
  `\`dsm run\` brings the module \`dsm\` and its library along for scripts (\`main.py\`) and interpreters (\`python3 main.py\`), so
nothing needs to be installed. For editors, notebooks and programs started otherwise, \`dsm install --prefix DIR\` and
\`pip install DIR/share/dsm/python\`. With NumPy, \`session.array("grid", np.float64, (512, 512))\` is an array that all
processes share.`,
);
