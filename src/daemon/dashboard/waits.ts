/** Who waits for what, in sentences. */

import type { SessionDetail } from "../../core/messages/daemon-api.ts";
import { explain, type Finding } from "../../core/observe/why.ts";
import { element, setText } from "./dom.ts";

const LASTING_MS = 1_000;
/** A session of a thousand ranks may have a thousand reasons to wait. */
const SENTENCES_MAX = 6;

export class Waits {
  readonly list = element("ul", { class: "waits", "aria-label": "Who waits for what" });
  /** What screen readers say. */
  readonly announced = element("p", { class: "unseen", role: "status" });

  show(detail: SessionDetail): void {
    const findings = detail.answered ? lasting(detail) : [];
    this.list.classList.toggle(
      "held-up",
      findings.some(({ waiting }) => waiting.length > 0),
    );
    const sentences = findings
      .slice(0, SENTENCES_MAX)
      .map(({ text }) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`);
    if (findings.length > SENTENCES_MAX) sentences.push(`And ${findings.length - SENTENCES_MAX} more.`);
    if (!detail.answered) sentences.push("The server of the session does not answer.");
    else if (findings.length === 0) sentences.push("No rank has waited longer than a second.");
    while (this.list.children.length > sentences.length) this.list.lastElementChild?.remove();
    sentences.forEach((text, i) => {
      setText(this.list.children[i] ?? this.list.appendChild(element("li")), text);
    });
    // Times change all the time. What is announced is only that somebody else waits, or for something else.
    const key = findings.map(({ kind, waiting, for: awaited }) => `${kind} ${waiting} ${awaited}`).join();
    if (this.announced.dataset.key === key) return;
    this.announced.dataset.key = key;
    setText(this.announced, sentences.join(" "));
  }
}

/** What lasts: shorter waits belong to a program that runs well, and would only flicker. */
function lasting(detail: SessionDetail): Finding[] {
  const stateMs = new Map(detail.ranks.map((rank) => [rank.rank, rank.stateMs]));
  return explain(detail).filter(({ kind, waiting }) => {
    if (kind === "nobody") return false;
    return kind === "lost" || kind === "joining" || waiting.some((rank) => (stateMs.get(rank) ?? 0) >= LASTING_MS);
  });
}
