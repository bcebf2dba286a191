/** What `dsm run` loads before a script, so that the script can import "dsm" with nothing installed. */
import { plugin } from "bun";
import * as dsm from "./index.ts";

// This variable made the dsm program act as bun. Programs that the script starts with its process.env must not get it.
// (Bun.spawn() without `env` hands on the environment that the script began with, whatever is done here.)
delete process.env.BUN_BE_BUN;

plugin({
  name: "dsm",
  setup(build) {
    build.module("dsm", () => ({ loader: "object", exports: dsm }));
  },
});
