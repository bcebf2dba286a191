/** Inspector: the bytes of one cell of the map as numbers. */
import { READINGS, type Reading, valueRows } from "./bytes.ts";
import { element, setText } from "./dom.ts";
import { address, bytes as bytesText } from "./format.ts";

/** Bytes of a page; a cell of a large map has several pages. */
const SHOWN = 512;
/** Bytes are read again after this time even if the cell has no new version: not every change makes one. */
const AGAIN_MS = 2_000;

export interface Inspected {
  cell: number;
  from: number;
  to: number;
  /** Changes with each write to the cell. */
  version: number;
  description: string;
  /** Reason why its bytes cannot be read; null if they can. */
  unreadable: string | null;
}

export class Inspector {
  readonly element: HTMLElement;
  readonly #title = element("h4", { id: "bytes-title" }, "Bytes");
  readonly #what = element("p", { class: "quiet" });
  readonly #table = element("table", { class: "values", role: "table", "aria-labelledby": "bytes-title" });
  readonly #rows = element("tbody");
  readonly #pages = element("p", { class: "pages" });
  readonly #controls: HTMLElement;
  readonly #read: (offset: number, length: number) => Promise<Uint8Array>;
  readonly #step: (by: number) => void;
  #reading: Reading = "i32";
  #inspected: Inspected | null = null;
  #skipped = 0;
  #bytes: { offset: number; bytes: Uint8Array } | null = null;
  #asked: { version: number; at_ms: number } | null = null;
  #busy = false;

  /** `read` reads bytes of the map. `step` shows the cell at that distance. `goTo` shows the cell of an offset. */
  constructor(
    read: (offset: number, length: number) => Promise<Uint8Array>,
    step: (by: number) => void,
    goTo: (offset: number) => boolean,
  ) {
    this.#read = read;
    this.#step = step;
    this.#table.append(this.#rows);
    this.#controls = element(
      "div",
      { class: "controls" },
      this.#readings(),
      button("Previous cell", "‹", () => this.#step(-1)),
      button("Next cell", "›", () => this.#step(1)),
      goToForm(goTo),
    );
    this.element = element(
      "div",
      { class: "inspector", role: "group", "aria-labelledby": "bytes-title" },
      this.#title,
      this.#what,
      this.#controls,
      element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Values" }, this.#table),
      this.#pages,
    );
    this.#show();
  }

  #readings(): HTMLElement {
    const group = element("fieldset", { class: "readings" }, element("legend", {}, "Read as"));
    for (const [reading, { label }] of Object.entries(READINGS)) {
      const input = element("input", {
        type: "radio",
        name: "reading",
        value: reading,
        checked: reading === this.#reading,
      });
      input.addEventListener("change", () => {
        this.#reading = reading as Reading;
        this.#showValues(null);
      });
      group.append(element("label", {}, input, element("span", {}, label)));
    }
    return group;
  }

  /** Shows a cell: a new state of the same one, or another. */
  show(inspected: Inspected): void {
    const other = inspected.cell !== this.#inspected?.cell;
    if (other) {
      this.#skipped = 0;
      this.#bytes = null;
      this.#asked = null;
    }
    this.#inspected = inspected;
    this.#show();
    void this.#refresh();
  }

  #show(): void {
    const inspected = this.#inspected;
    this.#controls.hidden = inspected === null;
    if (inspected === null) {
      setText(this.#what, "Choose a cell of the map to see what it holds.");
      return;
    }
    setText(this.#title, `Bytes at ${address(inspected.from)}`);
    const { description, unreadable } = inspected;
    setText(this.#what, unreadable === null ? description : `${description}. ${unreadable}`);
    const length = inspected.to - inspected.from;
    this.#pages.hidden = length <= SHOWN;
    if (length <= SHOWN || this.#pages.dataset.cell === `${inspected.cell} ${this.#skipped}`) return;
    this.#pages.dataset.cell = `${inspected.cell} ${this.#skipped}`;
    const at = inspected.from + this.#skipped;
    this.#pages.replaceChildren(
      button("Earlier bytes", "‹", () => this.#turn(-SHOWN)),
      ` ${address(at)} to ${address(Math.min(at + SHOWN, inspected.to) - 1)} of ${bytesText(length)} `,
      button("Later bytes", "›", () => this.#turn(SHOWN)),
    );
  }

  #turn(by: number): void {
    if (this.#inspected === null) return;
    const length = this.#inspected.to - this.#inspected.from;
    this.#skipped = Math.max(0, Math.min(this.#skipped + by, length - (length % SHOWN || SHOWN)));
    this.#bytes = null;
    this.#asked = null;
    this.#show();
    void this.#refresh();
  }

  async #refresh(): Promise<void> {
    const inspected = this.#inspected;
    if (inspected === null || inspected.unreadable !== null || this.#busy) return;
    const now = performance.now();
    const asked = this.#asked;
    if (asked !== null && asked.version === inspected.version && now - asked.at_ms < AGAIN_MS) return;
    const offset = inspected.from + this.#skipped;
    const length = Math.min(SHOWN, inspected.to - offset);
    this.#busy = true;
    this.#asked = { version: inspected.version, at_ms: now };
    try {
      const bytes = await this.#read(offset, length);
      const before = this.#bytes;
      this.#bytes = { offset, bytes };
      if (this.#isShown(offset)) this.#showValues(before?.offset === offset ? before.bytes : null);
    } catch (error) {
      this.#rows.replaceChildren();
      setText(this.#what, `These bytes cannot be read: ${(error as Error).message}`);
    } finally {
      this.#busy = false;
    }
    // The user has chosen another cell meanwhile.
    if (!this.#isShown(offset)) void this.#refresh();
  }

  #isShown(offset: number): boolean {
    return this.#inspected !== null && this.#inspected.from + this.#skipped === offset;
  }

  /** `before`: the bytes before; values that differ from them are marked. */
  #showValues(before: Uint8Array | null): void {
    if (this.#bytes === null) return;
    const { offset, bytes } = this.#bytes;
    const { size, perRow } = READINGS[this.#reading];
    this.#table.dataset.reading = this.#reading;
    const rows = valueRows(bytes, offset, this.#reading).map((row) => {
      const cells = row.values.map((value, i) => {
        const at = row.offset - offset + i * size;
        const changed = before?.subarray(at, at + size).some((byte, k) => byte !== bytes[at + k]) ?? false;
        return element("td", { class: changed ? "changed" : false, "data-zero": /^0+$/.test(value) }, value);
      });
      while (cells.length < perRow) cells.push(element("td"));
      const text = row.text === "" ? [] : [element("td", { class: "ascii" }, row.text)];
      return element("tr", {}, element("th", { scope: "row" }, address(row.offset)), ...cells, ...text);
    });
    this.#rows.replaceChildren(...rows);
  }
}

function button(label: string, sign: string, press: () => void): HTMLButtonElement {
  const made = element("button", { type: "button", "aria-label": label, title: label }, sign);
  made.addEventListener("click", press);
  return made;
}

/** goToForm makes a field for an offset in the map, such as 0x1f00 or 4096. */
function goToForm(goTo: (offset: number) => boolean): HTMLFormElement {
  const input = element("input", {
    type: "text",
    id: "go-to",
    size: 10,
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "0x0",
  });
  const form = element("form", { class: "go-to" }, element("label", { for: "go-to" }, "Go to"), input);
  input.addEventListener("input", () => input.setCustomValidity(""));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (/^(0x[0-9a-f]{1,12}|\d{1,12})$/i.test(text) && goTo(Number(text))) return;
    input.setCustomValidity("A place of the map, such as 0x1f00 or 4096");
    input.reportValidity();
  });
  return form;
}
