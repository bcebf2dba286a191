/** The C tests of memcpy() and its relatives. */
import { setDefaultTimeout } from "bun:test";
import { testCases } from "../support/native-cases.ts";

setDefaultTimeout(240_000);

await testCases(
  "copying into the map",
  "memory_calls_cases",
  ...[
    "native/src/trap/*.c",
    "native/src/base/size.c",
    "native/src/interpose/{scratch,buffers,store_to_map,memory_calls}.c",
  ],
);
