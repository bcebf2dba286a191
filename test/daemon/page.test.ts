/** The files of the dashboard: who gets them, and what they let a browser do. The page at work is in test/e2e. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import { type Daemon, type DaemonOptions, startDaemon } from "../../src/daemon/daemon.ts";

const made = join(import.meta.dir, "../../dist/dashboard");

function start(options: Partial<DaemonOptions> = {}): { daemon: Daemon; url: string } {
  const daemon = startDaemon({
    ...{ host: "127.0.0.1", port: 0, serverCommand: [], autostarted: false, log: () => {} },
    readPage: async (name) => Bun.file(join(made, name)).bytes(),
    ...options,
  });
  return { daemon, url: `http://127.0.0.1:${daemon.port}` };
}

let { daemon, url }: ReturnType<typeof start> = {} as never;
beforeEach(() => {
  ({ daemon, url } = start());
});
afterEach(async () => {
  daemon.stop();
  await daemon.ended;
});

test("all files of the page come from the daemon, with their types", async () => {
  for (const [path, type] of [
    ["/", "text/html; charset=utf-8"],
    ["/dashboard.js", "text/javascript; charset=utf-8"],
    ["/dashboard.css", "text/css; charset=utf-8"],
    ["/dashboard.svg", "image/svg+xml"],
  ] as const) {
    const response = await fetch(`${url}${path}`);
    expect([path, response.status, response.headers.get("content-type")]).toEqual([path, 200, type]);
    const policy = response.headers.get("content-security-policy")?.split("; ");
    expect(policy).toEqual(
      expect.arrayContaining(["default-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"]),
    );
    expect(policy?.join()).not.toContain("unsafe");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    // What a policy would stop is not even asked for.
    const text = await response.text();
    const foreign = [...text.matchAll(/(?:src|href)=["']?(https?:|\/\/)|url\(["']?(https?:|\/\/)|@import/g)];
    expect([path, foreign.map(([found]) => found)]).toEqual([path, []]);
  }
});

test("the page has nothing inline that its policy would have to allow", async () => {
  const html = await (await fetch(url)).text();
  expect(html).not.toMatch(/<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=/);
});

test("it is read, and nothing else", async () => {
  expect((await fetch(url, { method: "HEAD" })).status).toBe(200);
  const { status, headers } = await fetch(url, { method: "POST", body: "x" });
  expect([status, headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  expect((await fetch(`${url}/dashboard.js.map`)).status).toBe(404);
  expect((await fetch(`${url}/constructor`)).status).toBe(404);
});

test("a link on another page leads to it, and other pages can use none of it", async () => {
  const from = (dest: string) => ({ "sec-fetch-site": "cross-site", "sec-fetch-dest": dest });
  expect((await fetch(url, { headers: from("document") })).status).toBe(200);
  for (const dest of ["iframe", "script", "image", "empty"]) {
    expect([dest, (await fetch(`${url}/`, { headers: from(dest) })).status]).toEqual([dest, 403]);
  }
  // A link leads to the page only, not to what the API says.
  expect((await fetch(`${url}/v1/sessions`, { headers: from("document") })).status).toBe(403);
});

test("a name that was made to lead here does not lead to it", async () => {
  expect((await fetch(url, { headers: { host: "example.org:4200" } })).status).toBe(403);
});

test("where a token is demanded, the page needs none, but its data do", async () => {
  const token = new TextEncoder().encode("0123456789abcdef");
  const guarded = start({ security: { token, always: true, tls: null } });
  try {
    expect((await fetch(guarded.url)).status).toBe(200);
    expect((await fetch(`${guarded.url}/dashboard.js`)).status).toBe(200);
    expect((await fetch(`${guarded.url}/v1/sessions`)).status).toBe(401);
  } finally {
    guarded.daemon.stop();
    await guarded.daemon.ended;
  }
});
