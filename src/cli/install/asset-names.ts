/** The files inside the program. */

/** Where each file is in the project; embedded.ts embeds the same set. */
export const SOURCES = {
  "libdsm.so": "native/build/libdsm.so",
  "libdsm-runs.so": "native/build/libdsm-runs.so",
  "dsm-guard": "native/build/dsm-guard",
  "libdsm.a": "native/build/libdsm.a",
  "libxed.a": "native/build/libxed.a",
  "libdsm-gdb.py": "native/src/libdsm-gdb.py",
  "koffi.node": "native/build/koffi.node",
  "dsm.h": "native/include/dsm/dsm.h",
  "dsm_util.h": "native/include/dsm/dsm_util.h",
  "dsm.hpp": "native/bindings/cpp/dsm/dsm.hpp",
  "allocator.hpp": "native/bindings/cpp/dsm/allocator.hpp",
  "containers.hpp": "native/bindings/cpp/dsm/containers.hpp",
  "error.hpp": "native/bindings/cpp/dsm/error.hpp",
  "mutex.hpp": "native/bindings/cpp/dsm/mutex.hpp",
  "objects.hpp": "native/bindings/cpp/dsm/objects.hpp",
  "python/dsm/__init__.py": "native/bindings/python/dsm/__init__.py",
  "python/dsm/_arguments.py": "native/bindings/python/dsm/_arguments.py",
  "python/dsm/_arrays.py": "native/bindings/python/dsm/_arrays.py",
  "python/dsm/_errors.py": "native/bindings/python/dsm/_errors.py",
  "python/dsm/_hole.py": "native/bindings/python/dsm/_hole.py",
  "python/dsm/_join.py": "native/bindings/python/dsm/_join.py",
  "python/dsm/_library.py": "native/bindings/python/dsm/_library.py",
  "python/dsm/_lock.py": "native/bindings/python/dsm/_lock.py",
  "python/dsm/_objects.py": "native/bindings/python/dsm/_objects.py",
  "python/dsm/_reading.py": "native/bindings/python/dsm/_reading.py",
  "python/dsm/_semaphore.py": "native/bindings/python/dsm/_semaphore.py",
  "python/dsm/_session.py": "native/bindings/python/dsm/_session.py",
  "python/dsm/_waits.py": "native/bindings/python/dsm/_waits.py",
  "python/dsm/py.typed": "native/bindings/python/dsm/py.typed",
  "python/pyproject.toml": "native/bindings/python/pyproject.toml",
  "python/wheel_backend.py": "native/bindings/python/wheel_backend.py",
  "preload.js": "dist/client/preload.js",
  "header.js": "dist/client/header.js",
  "dsm.d.ts": "dist/client/types.txt",
  "licenses.txt": "dist/licenses.txt",
  "dashboard.html": "dist/dashboard/dashboard.html",
  "dashboard.js": "dist/dashboard/dashboard.js",
  "dashboard.css": "dist/dashboard/dashboard.css",
  "dashboard.svg": "dist/dashboard/dashboard.svg",
} as const;

export type AssetName = keyof typeof SOURCES;

/** The files of the Python package, and those from which pip installs it. */
export const PYTHON_FILES = (Object.keys(SOURCES) as AssetName[]).filter((name) => name.startsWith("python/"));
