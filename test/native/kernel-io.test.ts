/** The C tests of reading into the map. */
import { setDefaultTimeout } from "bun:test";
import { testCases } from "../support/native-cases.ts";

setDefaultTimeout(240_000);

await testCases(
  "reading into the map",
  "kernel_io_cases",
  ...[
    "native/src/trap/*.c",
    "native/src/base/size.c",
    "native/src/interpose/{interpose,real_calls,scratch,buffers,read_into_map,stdio}.c",
  ],
);
