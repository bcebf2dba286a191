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
import cppObjects from "../../../native/bindings/cpp/dsm/objects.hpp" with { type: "file" };
import pythonPackage from "../../../native/bindings/python/dsm/__init__.py" with { type: "file" };
import pythonArguments from "../../../native/bindings/python/dsm/_arguments.py" with { type: "file" };
import pythonArrays from "../../../native/bindings/python/dsm/_arrays.py" with { type: "file" };
import pythonErrors from "../../../native/bindings/python/dsm/_errors.py" with { type: "file" };
import pythonHole from "../../../native/bindings/python/dsm/_hole.py" with { type: "file" };
import pythonJoin from "../../../native/bindings/python/dsm/_join.py" with { type: "file" };
import pythonLibrary from "../../../native/bindings/python/dsm/_library.py" with { type: "file" };
import pythonLock from "../../../native/bindings/python/dsm/_lock.py" with { type: "file" };
import pythonObjects from "../../../native/bindings/python/dsm/_objects.py" with { type: "file" };
import pythonReading from "../../../native/bindings/python/dsm/_reading.py" with { type: "file" };
import pythonSemaphore from "../../../native/bindings/python/dsm/_semaphore.py" with { type: "file" };
import pythonSession from "../../../native/bindings/python/dsm/_session.py" with { type: "file" };
import pythonWaits from "../../../native/bindings/python/dsm/_waits.py" with { type: "file" };
import pythonTyped from "../../../native/bindings/python/dsm/py.typed" with { type: "file" };
import pythonProject from "../../../native/bindings/python/pyproject.toml" with { type: "file" };
import pythonBackend from "../../../native/bindings/python/wheel_backend.py" with { type: "file" };
import guard from "../../../native/build/dsm-guard" with { type: "file" };
import koffi from "../../../native/build/koffi.node" with { type: "file" };
import libdsmArchive from "../../../native/build/libdsm.a" with { type: "file" };
import libdsm from "../../../native/build/libdsm.so" with { type: "file" };
import runs from "../../../native/build/libdsm-runs.so" with { type: "file" };
import libxedArchive from "../../../native/build/libxed.a" with { type: "file" };
import header from "../../../native/include/dsm/dsm.h" with { type: "file" };
import utilHeader from "../../../native/include/dsm/dsm_util.h" with { type: "file" };
import gdbScript from "../../../native/src/libdsm-gdb.py" with { type: "file" };
import type { AssetName } from "./asset-names.ts";

/** SHA-256 of each file, in hex. scripts/build.ts puts them in the place of this name. */
declare const ASSET_DIGESTS: Record<AssetName, string>;
export const DIGESTS = ASSET_DIGESTS;

export const EMBEDDED: Record<AssetName, string> = {
  "libdsm.so": libdsm,
  "libdsm-runs.so": runs,
  "dsm-guard": guard,
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
  "objects.hpp": cppObjects,
  "python/dsm/__init__.py": pythonPackage,
  "python/dsm/_arguments.py": pythonArguments,
  "python/dsm/_arrays.py": pythonArrays,
  "python/dsm/_errors.py": pythonErrors,
  "python/dsm/_hole.py": pythonHole,
  "python/dsm/_join.py": pythonJoin,
  "python/dsm/_library.py": pythonLibrary,
  "python/dsm/_lock.py": pythonLock,
  "python/dsm/_objects.py": pythonObjects,
  "python/dsm/_reading.py": pythonReading,
  "python/dsm/_semaphore.py": pythonSemaphore,
  "python/dsm/_session.py": pythonSession,
  "python/dsm/_waits.py": pythonWaits,
  "python/dsm/py.typed": pythonTyped,
  "python/pyproject.toml": pythonProject,
  "python/wheel_backend.py": pythonBackend,
  "preload.js": preload as unknown as string,
  "header.js": headerPrinter as unknown as string,
  "dsm.d.ts": types,
  "licenses.txt": licenses,
  "dashboard.html": dashboardPage as unknown as string,
  "dashboard.js": dashboardScript as unknown as string,
  "dashboard.css": dashboardStyle,
  "dashboard.svg": dashboardIcon,
};
