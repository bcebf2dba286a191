/** The files inside the program. */

/** Where each file is in the project; embedded.ts embeds the same set. */
export const SOURCES = {
  "libdsm.so": "native/build/libdsm.so",
  "libdsm-runs.so": "native/build/libdsm-runs.so",
  "libdsm.a": "native/build/libdsm.a",
  "libxed.a": "native/build/libxed.a",
  "libdsm-gdb.py": "native/src/libdsm-gdb.py",
  "koffi.node": "native/build/koffi.node",
  "dsm.h": "native/include/dsm/dsm.h",
  "dsm_util.h": "native/include/dsm/dsm_util.h",
  "dsm.hpp": "native/bindings/cpp/dsm/dsm.hpp",
  "error.hpp": "native/bindings/cpp/dsm/error.hpp",
  "mutex.hpp": "native/bindings/cpp/dsm/mutex.hpp",
  "dsm.py": "native/bindings/python/dsm/__init__.py",
  "pyproject.toml": "native/bindings/python/pyproject.toml",
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
