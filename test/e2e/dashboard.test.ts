/** The dashboard, in a real browser, of real sessions whose true figures are known. */
import { expect, setDefaultTimeout } from "bun:test";
import { type Browser, OTHER_NAME } from "../../scripts/browser.ts";
import type { SessionDetail } from "../../src/core/messages/daemon-api.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Page } from "../support/e2e-browser.ts";
import { Cluster, eventually } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

setDefaultTimeout(90_000);

const { afterAll, afterEach, beforeAll, describe, test } = needs("chromium");

const DESK = { width: 1280, height: 900, scheme: "light" } as const;
/** Bytes of a cell of the heat map of a map of 64 KiB. */
const CELL = 64;
const cellAt = (offset: number): string => `.grid [data-cell="${offset / CELL}"]`;

describe("dashboard", () => {
  let cluster: Cluster;
  let page: Page;
  let browser: Browser;
  let origin: string;

  beforeAll(async () => {
    cluster = await Cluster.start();
    origin = `http://${cluster.daemonAddress}`;
    page = await Page.start();
    browser = page.browser;
    await page.look(DESK);
  });
  afterEach(async () => {
    await browser.open("about:blank");
    await cluster.settled();
    expect(browser.complaints.splice(0)).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
    await cluster?.close();
  });

  const show = (session: string): Promise<void> => browser.open(`${origin}/#/${encodeURIComponent(session)}`);
  const detailOf = async (session: string): Promise<SessionDetail> =>
    (await (await fetch(`${origin}/v1/sessions/${session}?heat=1`)).json()) as SessionDetail;

  /** Rows of the table of ranks, by the titles of its columns. */
  const rankRows = async (): Promise<Record<string, string>[]> =>
    browser.evaluate(
      `[...document.querySelectorAll("#ranks tbody tr")].map((row) => Object.fromEntries([...row.children].map((cell) => [cell.dataset.title, cell.innerText.replace(/\\s+/g, " ").trim()])))`,
    );
  /** What the values of the chosen cell are read as. */
  const values = (): Promise<string[]> => page.texts(".values td:not(.ascii)");

  /** Three processes on two nodes, which have written what is known. */
  async function three(): Promise<[Actor, Actor, Actor]> {
    const actors = (await cluster.actors(["one", "two", "two"])) as [Actor, Actor, Actor];
    const [a, b] = actors;
    for (let i = 0; i < 10; i++) await a.do(`store 4 ${0x1000 + 4 * i} ${1000 + i}`);
    for (let i = 0; i < 3; i++) await b.do(`store 8 ${0x2000 + 8 * i} ${0x3ff0000000000000n + BigInt(i)}`);
    return actors;
  }

  test("says when nothing runs, and shows a session that begins, by itself", async () => {
    await browser.open(origin);
    await page.untilText("main", "No session runs.");
    expect(await page.text("main")).toContain("dsm run -n 4 --nodes 2 -- hello.ts");
    await page.picture("empty");
    const [a] = await cluster.actors(["one", "two"]);
    await page.untilText("h2#session-name", a?.session as string);
    expect(await page.texts("#sessions .name")).toEqual([a?.session as string]);
  });

  test("its figures are those of the session, as they change", async () => {
    const [a, b] = await three();
    const { session } = a;
    await a.do("lock queue");
    await b.do("begin 0 lock queue");
    await cluster.untilState(session, 1, "lock");
    await a.do("post gate 2");
    await a.do("named grid 4096");
    await show(session);
    await page.untilText("#ranks", 'for lock "queue"');

    const { ranks, entries } = await detailOf(session);
    const rows = await rankRows();
    expect(rows.map((row) => [row.Rank, row.Node, row.Pid, row.Entries])).toEqual(
      ranks.map((rank) => [rank.rank, rank.node, rank.pid, rank.entries].map(String)),
    );
    // Its JOIN, and what it has done since.
    expect(rows.map((row) => row.Bytes)).toEqual(["40 B", "24 B", "0 B"]);
    expect(rows[0]?.Entries).toBe(String(1 + 10 + 3));
    expect(rows[0]?.State).toMatch(/^runs, has "queue"( [\d.]+ m?s)?$/);
    expect(await page.text('[data-figure="entries"] .more')).toBe(`${entries} in all`);
    expect(await page.texts("#things tbody tr")).toEqual([
      "gate 3 –",
      "queue rank 0 rank 1",
      expect.stringMatching(/^grid 0x[0-9a-f]+ 4 KiB$/),
    ]);

    // Who wrote last, and how often, by cell.
    expect(await page.attribute(cellAt(0x1000), "data-writer")).toBe("0");
    expect(await page.attribute(cellAt(0x2000), "data-writer")).toBe("1");
    expect(await page.attribute(cellAt(0x1000), "aria-label")).toBe("0x1000, 64 B: last written by rank 0, 10 entries");
    const written = "[...document.querySelectorAll('.grid [data-writer]')].map((cell) => Number(cell.dataset.cell))";
    expect(await browser.evaluate<number[]>(written)).toEqual([0x1000 / CELL, 0x2000 / CELL]);

    // Without another load: who writes now takes the cell over.
    await b.do("begin 1 store 4 0x1004 77");
    await b.do("end 1");
    await eventually(
      "the cell is the other rank's",
      async () => (await page.attribute(cellAt(0x1000), "data-writer")) === "1",
    );
    await a.do("unlock queue");
    await b.do("end 0");
    await page.untilText("#things", "queue rank 1 –");
  });

  test("a click on a cell shows the very bytes, as i32, f64 and hex, and as they change; all from the daemon", async () => {
    const [a] = await three();
    browser.requests.length = 0;
    await show(a.session);
    await eventually("the map is there", async () => (await page.attribute(cellAt(0x1000), "data-writer")) === "0");
    await browser.click(cellAt(0x1000));
    await page.untilText("#bytes-title", "Bytes at 0x1000");
    await page.untilText(".values", "1000");
    const words = Array.from({ length: 16 }, (_, i) => (i < 10 ? 1000 + i : 0));
    expect(await values()).toEqual(words.map(String));
    await browser.click(cellAt(0x2000));
    await page.untilText("#bytes-title", "Bytes at 0x2000");
    await browser.click(".readings label:nth-of-type(2)");
    await page.untilText(".values", "1.0000000000000002");
    expect(await values()).toEqual(["1", "1.0000000000000002", "1.0000000000000004", ...new Array(5).fill("0")]);
    await browser.click(".readings label:nth-of-type(3)");
    await eventually("the bytes are shown", async () => (await values()).length === CELL);
    expect((await values()).slice(0, 16).join("")).toBe("000000000000f03f010000000000f03f");
    await a.do("store 1 0x2000 0x41");
    await eventually("the byte is seen", async () => (await values())[0] === "41");
    expect(await page.texts(".values .changed")).toEqual(["41"]);

    const urls = browser.requests.map(({ url }) => url).filter((url) => url !== "about:blank");
    expect(urls.filter((url) => !url.startsWith(`${origin}/`))).toEqual([]);
    expect(urls.map((url) => new URL(url).pathname)).toEqual(
      expect.arrayContaining([...["/", "/dashboard.js", "/dashboard.css"], `/v1/sessions/${a.session}/watch`]),
    );
  });

  test("a rank that does not come to a barrier is named, and so is the one that comes late again and again", async () => {
    const [a, b, c] = await three();
    await show(a.session);
    await page.untilText(".waits", "No rank has waited longer than a second.");
    await b.do("begin 0 barrier");
    await c.do("begin 0 barrier");
    await page.untilText(".waits", "not there: rank 0");
    expect(await page.text(".waits")).toMatch(
      new RegExp(
        `^Ranks 1 and 2 have been in barrier 1, the first for [\\d.]+ s; not there: rank 0 \\(node one, pid ${a.pid}\\) last wrote [\\d.]+ s ago\\.$`,
      ),
    );
    expect((await rankRows()).map((row) => row.State?.replace(/ [\d.]+ \w+$/, "").trim())).toEqual([
      "runs",
      "in barrier",
      "in barrier",
    ]);
    await page.untilText("#timeline .words", "Most waited for: rank 0.");
    expect(await page.text("#timeline [data-key='1'] td:last-child")).toBe("–");
    await page.picture("barrier");
    await a.do("barrier");
    await b.do("end 0");
    await c.do("end 0");
    await page.untilText(".waits", "No rank has waited longer than a second.");
    expect(await page.text('[data-figure="barriers"] .value')).toBe("1");
  });

  test("all of it by keyboard", async () => {
    const [a, b] = await three();
    await show(a.session);
    await eventually("the map is there", async () => (await page.attribute(cellAt(0x1000), "data-writer")) === "0");
    const visited: string[] = [];
    for (let i = 0; i < 8 && !visited.at(-1)?.startsWith("div:"); i++) {
      await browser.press("Tab");
      visited.push(await page.focused());
    }
    expect(visited).toEqual(["a.skip", "a", "div:0.cell"]);
    const columns = Number(
      await browser.evaluate("getComputedStyle(document.querySelector('.grid')).getPropertyValue('--columns')"),
    );
    // From the first cell to the one at 0x1000, by rows and then by columns.
    const target = 0x1000 / CELL;
    for (let i = 0; i < Math.floor(target / columns); i++) await browser.press("ArrowDown");
    for (let i = 0; i < target % columns; i++) await browser.press("ArrowRight");
    expect(await page.focused()).toBe(`div:${target}.cell`);
    expect(await page.text(".pointed")).toBe("0x1000, 64 B: last written by rank 0, 10 entries");
    const outline = await browser.evaluate<string>(
      "getComputedStyle(document.activeElement).outlineStyle + parseFloat(getComputedStyle(document.activeElement).outlineWidth)",
    );
    expect(outline).toBe("solid3");
    await browser.press("Enter");
    await page.untilText(".values", "1000");
    await browser.press("End");
    expect(await page.focused()).toBe(`div:${target - (target % columns) + columns - 1}.cell`);
    await browser.press("Home");
    await browser.press("ArrowUp");
    await browser.press("ArrowLeft");
    expect(await page.focused()).toBe(`div:${target - (target % columns) - columns - 1}.cell`);

    await browser.press("Tab");
    expect(await page.focused()).toBe("input=i32");
    await browser.press("ArrowRight");
    await browser.press("ArrowRight");
    await eventually("the bytes are shown", async () => (await values()).slice(0, 4).join("") === "e8030000");
    for (let i = 0; i < 3; i++) await browser.press("Tab");
    expect(await page.focused()).toBe("input#go-to");
    await browser.type("0x2008");
    await browser.press("Enter");
    await page.untilText("#bytes-title", "Bytes at 0x2000");
    // A second session: its link is reached, and followed.
    const other = await cluster.actors(["one", "two"]);
    await page.untilText("#sessions", other[0]?.session as string);
    await browser.evaluate("(document.querySelector('#sessions li:last-child a').focus(), null)");
    await browser.press("Enter");
    await page.untilText("h2#session-name", other[0]?.session as string);
    expect(await page.focused()).toBe("main#session");
    await Promise.all([a, b, ...other].map((actor) => actor.do("load 4 0")));
  });

  test("in light and dark, on a desk and on a phone: nothing is cut off, all of it has a name", async () => {
    const [a, b] = await three();
    await b.do("begin 0 barrier");
    await show(a.session);
    await page.untilText(".waits", "not there: rank 0");
    await browser.click(cellAt(0x1000));
    await page.untilText(".values", "1000");
    const grounds = new Set<string>();
    for (const scheme of ["light", "dark"] as const) {
      for (const [name, width] of [
        ["desk", 1280],
        ["phone", 375],
      ] as const) {
        await page.look({ width, height: 812, scheme });
        const [wide, inner] = await browser.evaluate<[number, number]>(
          "[document.documentElement.scrollWidth, innerWidth]",
        );
        expect([name, scheme, wide, inner]).toEqual([name, scheme, width, width]);
        grounds.add(await browser.evaluate("getComputedStyle(document.body).backgroundColor"));
        await page.picture(`${scheme}-${name}`);
      }
    }
    expect(grounds.size).toBe(2);

    const nodes = await browser.accessible();
    const named = (role: string) => nodes.filter((node) => node.role === role).map(({ name }) => name);
    expect(named("main")).toHaveLength(1);
    expect(named("navigation")).toEqual(["Sessions"]);
    expect(named("heading")).toEqual(
      expect.arrayContaining([
        "dsm",
        "Sessions",
        a.session,
        "Ranks",
        "Memory",
        "Barriers and waits",
        "Throughput and latency",
      ]),
    );
    expect(named("grid")).toEqual(["Memory by last writer and number of writes"]);
    expect(
      named("gridcell").filter((name) => name === "0x1000, 64 B: last written by rank 0, 10 entries"),
    ).toHaveLength(1);
    expect(named("table")).toEqual(expect.arrayContaining(["Ranks of the session", "Waits of each rank over time"]));
    // On the phone too, where rows are blocks.
    expect(named("columnheader")).toEqual(expect.arrayContaining(["Rank", "State", "Round trip", "Cost others"]));
    expect(named("figure")).toHaveLength(3);
    for (const role of ["button", "link", "radio", "textbox", "region", "image", "gridcell"]) {
      expect([role, named(role).filter((name) => name === "")]).toEqual([role, []]);
    }
    // A chart says in words what it draws.
    for (const words of await page.texts(".chart .words"))
      expect(words).toMatch(/^(Now .*; at most .* in .*|Not measured yet)\.$/);
    await page.look(DESK);
  });

  test("on a phone every row is there: only the page itself scrolls", async () => {
    const actors = await cluster.actors(Array.from({ length: 12 }, (_, i) => (i < 6 ? "one" : "two")));
    await show((actors[0] as Actor).session);
    await page.untilText("#ranks [data-key='11']", "runs");
    await page.untilText("#timeline [data-key='11']", "0 %");
    await page.look({ width: 375, height: 812, scheme: "light" });
    const hidden = await browser.evaluate<string[]>(
      `[...document.querySelectorAll("#ranks tbody tr, #timeline tbody tr, #things tbody tr")].filter((row) => {
        const { left, right, top, bottom, height } = row.getBoundingClientRect();
        for (let box = row.parentElement; box !== document.body; box = box.parentElement) {
          const around = box.getBoundingClientRect();
          const clips = getComputedStyle(box).overflowY !== "visible";
          if (clips && (top < around.top - 1 || bottom > around.bottom + 1)) return true;
        }
        return height === 0 || left < 0 || right > innerWidth;
      }).map((row) => row.closest("section").id + " " + row.dataset.key)`,
    );
    expect(hidden).toEqual([]);
    await page.picture("phone-rows");
    await page.look(DESK);
  });

  test("the list marks a session whose ranks wait for each other, shown or not, until they no longer do", async () => {
    const [a, b] = await three();
    const [c] = (await cluster.actors(["one", "two"])) as [Actor, Actor];
    await a.do("lock x");
    await b.do("lock y");
    await a.do("begin 0 timedlock y 60000");
    await b.do("begin 0 timedlock x 60000");
    const entry = (session: string): Promise<string> => page.text(`#sessions a[href="#/${session}"]`);
    const marked = (session: string, wanted: boolean): Promise<void> =>
      eventually(`${session} is ${wanted ? "" : "not "}marked`, async () => {
        const text = await entry(session);
        return text !== "" && text.includes("deadlock") === wanted;
      });
    // The other one is shown: the list alone says it.
    await show(c.session);
    await marked(a.session, true);
    expect(await entry(c.session)).not.toContain("deadlock");
    await show(a.session);
    await page.untilText(".waits", "Deadlock: rank 0");
    await marked(a.session, true);
    await page.picture("deadlock");
    await a.do("unlock x");
    await b.do("end 0");
    await b.do("unlock x");
    await b.do("unlock y");
    await a.do("end 0");
    await a.do("unlock y");
    await marked(a.session, false);
  });

  test("what a rank costs the others is what they say that they wait", async () => {
    const [a, b] = await three();
    await a.do("lock queue");
    await b.do("begin 0 lock queue");
    await cluster.untilState(a.session, 1, "lock");
    await eventually("it has waited for some seconds", async () => {
      const status = (await detailOf(a.session)).ranks[1];
      return status !== undefined && status.stateMs > 4_000;
    });
    // The page is opened only now, and takes all of the wait from its first sample.
    await show(a.session);
    await page.untilText("#timeline .words", "Most waited for: rank 0.");
    const [waited, cost] = await browser.evaluate<[string, string]>(
      `[document.querySelector("#ranks [data-key='1'] .times").innerText, document.querySelector("#timeline [data-key='0'] td:last-child").innerText]`,
    );
    expect(Math.abs(Number.parseFloat(waited) - Number.parseFloat(cost))).toBeLessThanOrEqual(1.5);
    await a.do("unlock queue");
    await b.do("end 0");
  });

  test("by a name that was made to lead here there is no page", async () => {
    await browser.open(cluster.daemonAddress.replace("127.0.0.1", `http://${OTHER_NAME}`));
    expect(await page.text("body")).toContain(`this daemon is reached by loopback addresses, not as ${OTHER_NAME}`);
    await browser.open("about:blank");
    // The page, and maybe an icon for it.
    expect(browser.complaints.splice(0).filter((text) => !text.includes("403"))).toEqual([]);
  });

  test("in direct mode it says what it does not see", async () => {
    const [a] = await cluster.actors(["one", "one"]);
    await show(a?.session as string);
    await page.untilText(".note:not([hidden])", "Direct mode:");
    await eventually("the map is there", () => browser.evaluate("document.querySelector('.grid .cell') !== null"));
    await browser.click(cellAt(0));
    await page.untilText(".inspector", "In direct mode its bytes cannot be read from here.");
  });

  test("says when the session has ended, and when the daemon does not answer; and goes on when it is back", async () => {
    const [a] = await three();
    const { session } = a;
    await show(session);
    await page.untilText("#ranks", "40 B");
    const port = Number(cluster.daemonAddress.split(":")[1]);
    await cluster.killDaemon();
    await page.untilText("#link", "the daemon does not answer; trying again");
    await page.untilText(".over", "The daemon does not answer. The page shows the last known state");
    expect((await rankRows())[0]?.Bytes).toBe("40 B");
    await cluster.startDaemon(port);
    await page.untilText("#link", "connected");
    await a.do("store 8 0x3000 1");
    await page.untilText("#ranks", "48 B");
    expect(await browser.evaluate("document.querySelector('.over').hidden")).toBe(true);
    // That the daemon did not answer is no fault of the page's.
    expect(
      browser.complaints.splice(0).filter((text) => !/ERR_CONNECTION_|ERR_INCOMPLETE|ERR_EMPTY|404/.test(text)),
    ).toEqual([]);

    const response = await fetch(`${origin}/v1/sessions/${session}`, { method: "DELETE" });
    expect(response.status).toBe(204);
    await page.untilText(".over", "This session has ended");
    expect(browser.complaints.splice(0).filter((text) => !/ERR_CONNECTION_|ERR_INCOMPLETE|404/.test(text))).toEqual([]);
  });

  describe("with a token", () => {
    const TOKEN = "a token of thirty-two characters";
    let guarded: Cluster;
    beforeAll(async () => {
      guarded = await Cluster.start({ environment: { DSM_TOKEN: TOKEN.replaceAll(" ", "-") } });
    });
    afterAll(() => guarded.close());

    test("asks for it, proves that it has it, and never sends it", async () => {
      const token = TOKEN.replaceAll(" ", "-");
      const [a] = await guarded.actors(["one", "two"]);
      await a?.do("store 4 0x1000 4711");
      browser.requests.length = 0;
      await browser.open(`http://${guarded.daemonAddress}/`);
      await page.untilText("main h2", "This daemon demands a token.");
      expect(await page.focused()).toBe("input#token");
      await browser.type(token.replace("a", "b"));
      await browser.press("Enter");
      await page.untilText("h2[role=alert]", "That is not the daemon's token.");
      await page.picture("token");
      await browser.type(token);
      await browser.press("Enter");
      await page.untilText("h2#session-name", a?.session as string);
      await eventually("the cell is marked", async () => (await page.attribute(cellAt(0x1000), "data-writer")) === "0");
      await browser.click(cellAt(0x1000));
      await page.untilText(".values", "4711");
      const said = browser.requests.map(({ text }) => text).join();
      expect(said).toContain("DSM-HMAC-SHA256");
      for (const form of [token, encodeURIComponent(token), btoa(token), Buffer.from(token).toString("hex")]) {
        expect(said).not.toContain(form);
      }
      expect(await browser.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")).toEqual([
        0,
        0,
        "",
      ]);
      // On a connection without TLS an attacker could have changed the page that asks for the token.
      await browser.open(guarded.daemonAddress.replace("127.0.0.1", `http://${OTHER_NAME}`));
      await page.untilText("main h2", "This daemon demands a token, and this connection is not safe for one.");
      expect(await page.text("main")).toContain(`ssh -L ${guarded.daemonAddress.split(":")[1]}:`);
      expect(await browser.evaluate("document.querySelector('input')")).toBeNull();
      await browser.open("about:blank");
      await a?.do("leave");
      await guarded.settled();
      // Each challenge is a 401.
      expect(browser.complaints.splice(0).filter((text) => !text.includes("401"))).toEqual([]);
    });
  });
});
