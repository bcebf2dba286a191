/** What the tests of the dashboard ask of a page. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Browser, type Look } from "../../scripts/browser.ts";
import { eventually, ROOT } from "./e2e-cluster.ts";

/** Pictures of what the tests have seen, for people to look at; not kept in git. */
const SCREENSHOTS = join(ROOT, "dist/screenshots");

export class Page {
  readonly browser: Browser;

  private constructor(browser: Browser) {
    this.browser = browser;
  }

  static async start(): Promise<Page> {
    return new Page(await Browser.start());
  }

  /** The text of an element; "" if there is none. */
  text(selector: string): Promise<string> {
    return this.browser.evaluate(
      `document.querySelector(${JSON.stringify(selector)})?.innerText.replace(/\\s+/g, " ") ?? ""`,
    );
  }

  /** The texts of all such elements. */
  texts(selector: string): Promise<string[]> {
    return this.browser.evaluate(
      `[...document.querySelectorAll(${JSON.stringify(selector)})].map((one) => one.innerText.replace(/\\s+/g, " ").trim())`,
    );
  }

  attribute(selector: string, name: string): Promise<string | null> {
    const [element, attribute] = [selector, name].map((text) => JSON.stringify(text));
    return this.browser.evaluate(`document.querySelector(${element})?.getAttribute(${attribute}) ?? null`);
  }

  /** Waits until the element's text has that in it. */
  async untilText(selector: string, wanted: string): Promise<void> {
    let text = "";
    await eventually(`${selector} says "${wanted}"`, async () => {
      text = await this.text(selector);
      return text.includes(wanted);
    }).catch((error) => {
      throw new Error(`${(error as Error).message}; it says "${text}"`);
    });
  }

  /** What the keyboard is at, as a selector would say it. */
  focused(): Promise<string> {
    return this.browser.evaluate(
      `(({ tagName, id, dataset, value, className }) => [tagName.toLowerCase(), id && "#" + id, dataset.cell && ":" + dataset.cell, className && "." + className, value && "=" + value].filter(Boolean).join(""))(document.activeElement)`,
    );
  }

  /** Another size or theme, laid out. */
  async look(look: Look): Promise<void> {
    await this.browser.look(look);
    await eventually("the charts are as wide as their places", () =>
      this.browser.evaluate(
        "[...document.querySelectorAll('.uplot')].every((one) => Math.abs(one.offsetWidth - one.parentElement.clientWidth) <= 1)",
      ),
    );
  }

  /** The whole page as a picture. */
  async picture(name: string): Promise<void> {
    await mkdir(SCREENSHOTS, { recursive: true });
    await Bun.write(join(SCREENSHOTS, `${name}.png`), await this.browser.capture());
  }
}
