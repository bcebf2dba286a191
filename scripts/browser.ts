/** A page in a real, headless Chromium, by Bun's own driver: for the tests of the dashboard, and for its picture. */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

/** Debian's package; another one is named by BUN_CHROME_PATH. Null: there is none. */
export const CHROMIUM =
  process.env.BUN_CHROME_PATH ?? Bun.which("chromium") ?? Bun.which("chromium-browser") ?? Bun.which("google-chrome");

export const NO_BROWSER = "Chromium is not installed: apt-get install chromium, or set BUN_CHROME_PATH";

/** In this browser, a name for 127.0.0.1. */
export const OTHER_NAME = "dsm.test";

const ARGUMENTS = [
  // Root has no other way; and what is opened is our own daemon's.
  ...["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"],
  ...["--disable-sync", "--disable-default-apps", "--disable-breakpad", "--hide-scrollbars"],
  // A name of this machine that does not look like it.
  `--host-resolver-rules=MAP ${OTHER_NAME} 127.0.0.1`,
];

const END_TIMEOUT_MS = 20_000;

export interface Look {
  width: number;
  height: number;
  scheme: "light" | "dark";
}

interface AxNode {
  ignored: boolean;
  role?: { value: string };
  name?: { value: string };
}

export class Browser {
  readonly #view: Bun.WebView;
  readonly #profile: string;
  /** All that was asked for: the address, and everything of the request as text. */
  readonly requests: { url: string; text: string }[] = [];
  /** What the browser had to complain about: what did not load, breaches of the page's policy, uncaught errors. */
  readonly complaints: string[] = [];

  private constructor(view: Bun.WebView, profile: string) {
    this.#view = view;
    this.#profile = profile;
  }

  /** One at a time in a process: its views share a browser. */
  static async start(): Promise<Browser> {
    if (CHROMIUM === null) throw new Error(NO_BROWSER);
    const profile = mkdtempSync("/tmp/dsm-chromium-");
    const view = new Bun.WebView({
      ...{ width: 1280, height: 900 },
      backend: { type: "chrome", path: CHROMIUM, argv: ARGUMENTS },
      dataStore: { directory: profile },
    });
    const browser = new Browser(view, profile);
    await view.navigate("about:blank");
    view.addEventListener<{ request: { url: string } }>("Network.requestWillBeSent", ({ data: { request } }) => {
      browser.requests.push({ url: request.url, text: JSON.stringify(request) });
    });
    view.addEventListener<{ entry: { text: string; level: string } }>("Log.entryAdded", ({ data: { entry } }) => {
      if (entry.level !== "info" && entry.level !== "verbose") browser.complaints.push(entry.text);
    });
    view.addEventListener<{ exceptionDetails: { text: string; exception?: { description?: string } } }>(
      "Runtime.exceptionThrown",
      ({ data: { exceptionDetails } }) => {
        browser.complaints.push(exceptionDetails.exception?.description ?? exceptionDetails.text);
      },
    );
    for (const domain of ["Network", "Log", "Runtime", "Page"]) await view.cdp(`${domain}.enable`);
    return browser;
  }

  async open(url: string): Promise<void> {
    // To another place of the same page there would be nothing to load.
    await this.#view.navigate("about:blank");
    await this.#view.navigate(url);
  }

  /** What the expression gives in the page. */
  evaluate<Value>(expression: string): Promise<Value> {
    return this.#view.evaluate<Value>(expression);
  }

  click(selector: string): Promise<void> {
    return this.#view.click(selector);
  }

  press(key: string): Promise<void> {
    return this.#view.press(key);
  }

  type(text: string): Promise<void> {
    return this.#view.type(text);
  }

  async look({ width, height, scheme }: Look): Promise<void> {
    await this.#view.cdp("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    const mobile = width < 500;
    await this.#view.cdp("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile });
  }

  /** PNG of the page from its top, as high as it is or as said. */
  async capture(height?: number): Promise<Uint8Array> {
    const [width, whole] = await this.evaluate<[number, number]>(
      "[document.documentElement.clientWidth, document.documentElement.scrollHeight]",
    );
    const { data } = await this.#view.cdp<{ data: string }>("Page.captureScreenshot", {
      ...{ format: "png", captureBeyondViewport: true },
      clip: { x: 0, y: 0, width, height: Math.min(whole, height ?? whole), scale: 1 },
    });
    return Buffer.from(data, "base64");
  }

  /** What a screen reader is given: roles with names, of what is not hidden from it. */
  async accessible(): Promise<{ role: string; name: string }[]> {
    const { nodes } = await this.#view.cdp<{ nodes: AxNode[] }>("Accessibility.getFullAXTree");
    return nodes
      .filter(({ ignored }) => !ignored)
      .map(({ role, name }) => ({ role: role?.value ?? "", name: name?.value ?? "" }));
  }

  /** Ends the browser, waits until its processes have ended, and removes all that it has left. */
  async close(): Promise<void> {
    const leftovers = [this.#profile];
    try {
      // A folder of its own in /tmp, for a socket.
      leftovers.push(dirname(readlinkSync(join(this.#profile, "SingletonSocket"))));
    } catch {
      // It did not come so far.
    }
    this.#view.close();
    Bun.WebView.closeAll();
    const deadline = performance.now() + END_TIMEOUT_MS;
    while (this.#processes().length > 0) {
      if (performance.now() > deadline) throw new Error(`Chromium does not end: processes ${this.#processes()}`);
      await Bun.sleep(20);
    }
    for (const folder of leftovers) rmSync(folder, { recursive: true, force: true });
  }

  /** Those that were started with the profile. */
  #processes(): number[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(this.#profile);
        } catch {
          return false;
        }
      })
      .map(Number);
  }
}
