/** What `dsm run` loads before a script, so that the script can import "dsm" with nothing installed. */
import { plugin } from "bun";
import * as dsm from "./index.ts";

// This made the dsm program act as bun. It is not for the programs that the script starts.
delete process.env.BUN_BE_BUN;

plugin({
  name: "dsm",
  setup(build) {
    build.module("dsm", () => ({ loader: "object", exports: dsm }));
  },
});
