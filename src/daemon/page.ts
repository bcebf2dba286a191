/**
 * Serves the dashboard: a few static files, the same for every client, without data of any session. The page gets its
 * data from the API, under the rules of the API. scripts/build.ts builds the files from src/daemon/dashboard/.
 */

const FILES = {
  "/": { name: "dashboard.html", type: "text/html; charset=utf-8" },
  "/dashboard.js": { name: "dashboard.js", type: "text/javascript; charset=utf-8" },
  "/dashboard.css": { name: "dashboard.css", type: "text/css; charset=utf-8" },
  "/dashboard.svg": { name: "dashboard.svg", type: "image/svg+xml" },
} as const;

export type PageFile = (typeof FILES)[keyof typeof FILES]["name"];

/** ReadPage reads a file of the dashboard. */
export type ReadPage = (name: PageFile) => Promise<Uint8Array>;

/**
 * The policy of the page: it loads everything from the daemon itself, other pages must not show it in a frame, and it
 * sends no forms.
 */
const HEADERS = {
  "content-security-policy":
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  // A daemon of another version has another dashboard.
  "cache-control": "no-store",
};

type PagePath = keyof typeof FILES;
export const PAGE_PATHS = Object.keys(FILES) as PagePath[];

export async function servePage(path: PagePath, read: ReadPage): Promise<Response> {
  const { name, type } = FILES[path];
  const content = await read(name);
  return new Response(content as Uint8Array<ArrayBuffer>, { headers: { ...HEADERS, "content-type": type } });
}
