/** Waits: which ranks wait for what, in sentences. */

import type { SessionDetail } from "../../core/messages/daemon-api.ts";
import { whySilent } from "../../core/observe/why.ts";
import { element, setText } from "./dom.ts";
import { lastingFindings } from "./marks.ts";

/** Limit of the sentences: a session of 1,000 ranks may have as many waits. */
const SENTENCES_MAX = 6;

export class Waits {
  readonly list = element("ul", { class: "waits", "aria-label": "Which ranks wait for what" });
  /** The text that screen readers announce. */
  readonly announced = element("p", { class: "unseen", role: "status" });

  show(detail: SessionDetail): void {
    const findings = detail.answered ? lastingFindings(detail) : [];
    this.list.classList.toggle(
      "held-up",
      findings.some(({ waiting }) => waiting.length > 0),
    );
    const sentences = findings
      .slice(0, SENTENCES_MAX)
      .map(({ text }) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`);
    if (findings.length > SENTENCES_MAX) sentences.push(`And ${findings.length - SENTENCES_MAX} more.`);
    if (!detail.answered) sentences.push(`No figures: ${whySilent(detail)}.`);
    else if (findings.length === 0) sentences.push("No rank has waited longer than a second.");
    while (this.list.children.length > sentences.length) this.list.lastElementChild?.remove();
    sentences.forEach((text, i) => {
      setText(this.list.children[i] ?? this.list.appendChild(element("li")), text);
    });
    // Times change all the time. Announced is only a change of who waits, or of what they wait for.
    const key = findings.map(({ kind, waiting, for: awaited }) => `${kind} ${waiting} ${awaited}`).join();
    if (this.announced.dataset.key === key) return;
    this.announced.dataset.key = key;
    setText(this.announced, sentences.join(" "));
  }
}
