/** MemoryView: the map of a session as a heat map, and the bytes of the chosen cell. */

import { formatCount } from "../../core/base/count.ts";
import type { SessionDetail } from "../../core/messages/daemon-api.ts";
import type { Api } from "./api.ts";
import { element, section, setText } from "./dom.ts";
import { bytes } from "./format.ts";
import { HeatMap, showRanksIn } from "./heat.ts";
import { Inspector } from "./inspector.ts";

export class MemoryView {
  readonly element: HTMLElement;
  readonly #facts = element("p", { class: "quiet" });
  readonly #heat = new HeatMap((cell) => this.#choose(cell));
  readonly #inspector: Inspector;
  #detail: SessionDetail | null = null;
  #selected = -1;

  constructor(name: string, api: Api) {
    this.#inspector = new Inspector(
      (offset, length) => api.memory(name, offset, length),
      (by) => this.#choose(this.#selected + by),
      (offset) => this.#goTo(offset),
    );
    this.element = section(
      "memory",
      "Memory",
      this.#facts,
      element("div", { class: "memory" }, this.#heat.element, this.#inspector.element),
    );
  }

  show(detail: SessionDetail): void {
    this.#detail = detail;
    const { heat, size, blocks } = detail;
    if (heat === undefined) return;
    this.#heat.show(heat, { size, blocks });
    showRanksIn(
      this.#heat,
      detail.ranks.map(({ rank }) => rank),
    );
    const written = heat.writers.filter((writer) => writer >= 0).length;
    setText(
      this.#facts,
      `${bytes(size)} in ${formatCount(heat.writers.length)} cells of ${bytes(heat.cell)}; ${written === 0 ? "none" : formatCount(written)} written so far. ` +
        "Outlined cells were written since the last sample.",
    );
    if (this.#selected >= 0) this.#inspect();
  }

  #choose(cell: number): void {
    const heat = this.#heat.heat;
    if (heat === null || cell < 0 || cell >= heat.writers.length) return;
    this.#selected = cell;
    this.#heat.mark(cell);
    this.#inspect();
  }

  #goTo(offset: number): boolean {
    const heat = this.#heat.heat;
    if (heat === null || this.#detail === null || offset >= this.#detail.size) return false;
    this.#choose(Math.floor(offset / heat.cell));
    return true;
  }

  #inspect(): void {
    const { heat } = this.#heat;
    if (heat === null) return;
    const cell = this.#selected;
    this.#inspector.show({
      ...{ cell, ...this.#heat.range(cell), version: heat.writes[cell] as number },
      description: this.#heat.describe(cell),
      unreadable: this.#detail?.direct ? "In direct mode its bytes cannot be read from here." : null,
    });
  }
}
