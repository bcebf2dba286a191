/** The files inside a compiled `dsm`. Imported only there: from source the files may not have been built yet. */

import headerPrinter from "../../../dist/client/header.js" with { type: "file" };
import preload from "../../../dist/client/preload.js" with { type: "file" };
import types from "../../../dist/client/types.txt" with { type: "file" };
import dashboardStyle from "../../../dist/dashboard/dashboard.css" with { type: "file" };
import dashboardPage from "../../../dist/dashboard/dashboard.html" with { type: "file" };
import dashboardScript from "../../../dist/dashboard/dashboard.js" with { type: "file" };
import dashboardIcon from "../../../dist/dashboard/dashboard.svg" with { type: "file" };
import licenses from "../../../dist/licenses.txt" with { type: "file" };
import cppAllocator from "../../../native/bindings/cpp/dsm/allocator.hpp" with { type: "file" };
import cppContainers from "../../../native/bindings/cpp/dsm/containers.hpp" with { type: "file" };
import cppHeader from "../../../native/bindings/cpp/dsm/dsm.hpp" with { type: "file" };
import cppErrors from "../../../native/bindings/cpp/dsm/error.hpp" with { type: "file" };
import cppMutex from "../../../native/bindings/cpp/dsm/mutex.hpp" with { type: "file" };
import pythonModule from "../../../native/bindings/python/dsm/__init__.py" with { type: "file" };
import pythonProject from "../../../native/bindings/python/pyproject.toml" with { type: "file" };
import koffi from "../../../native/build/koffi.node" with { type: "file" };
import libdsmArchive from "../../../native/build/libdsm.a" with { type: "file" };
import libdsm from "../../../native/build/libdsm.so" with { type: "file" };
import runs from "../../../native/build/libdsm-runs.so" with { type: "file" };
import libxedArchive from "../../../native/build/libxed.a" with { type: "file" };
import header from "../../../native/include/dsm/dsm.h" with { type: "file" };
import utilHeader from "../../../native/include/dsm/dsm_util.h" with { type: "file" };
import gdbScript from "../../../native/src/libdsm-gdb.py" with { type: "file" };
import type { AssetName } from "./asset-names.ts";

export const EMBEDDED: Record<AssetName, string> = {
  "libdsm.so": libdsm,
  "libdsm-runs.so": runs,
  "libdsm.a": libdsmArchive,
  "libxed.a": libxedArchive,
  "libdsm-gdb.py": gdbScript,
  "koffi.node": koffi,
  "dsm.h": header,
  "dsm_util.h": utilHeader,
  "dsm.hpp": cppHeader,
  "allocator.hpp": cppAllocator,
  "containers.hpp": cppContainers,
  "error.hpp": cppErrors,
  "mutex.hpp": cppMutex,
  "dsm.py": pythonModule,
  "pyproject.toml": pythonProject,
  "preload.js": preload as unknown as string,
  "header.js": headerPrinter as unknown as string,
  "dsm.d.ts": types,
  "licenses.txt": licenses,
  "dashboard.html": dashboardPage as unknown as string,
  "dashboard.js": dashboardScript as unknown as string,
  "dashboard.css": dashboardStyle,
  "dashboard.svg": dashboardIcon,
};
