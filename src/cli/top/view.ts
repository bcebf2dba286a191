/** The view of `dsm top`: lines from a model, and models from keys. It knows no terminal. */
import { counted } from "../../core/base/count.ts";
import type { Key } from "./keys.ts";
import { cut, type Line, sorted } from "./lines.ts";
import { known, opened, type TopModel } from "./model.ts";
import { LIST, listView } from "./session-list.ts";
import { RANKS, sessionView } from "./session-view.ts";

const HELP = [
  "Up, Down, k, j   choose a line",
  "Enter            show the chosen session in full",
  "Esc, Backspace   back to the list of sessions",
  "s                sort by the next column",
  "?                this help",
  "q                quit",
  "",
  "ENTRIES/S: stores, atomic operations, publications, barriers and all else that",
  "has a place in the order. RTT: from the session's server to the node and back.",
  "In direct mode stores do not leave the processes and are not seen.",
];

/** view returns the whole picture: at most `rows` lines of at most `width` columns. */
export function view(model: TopModel, width: number, rows: number): Line[] {
  const room = rows - (model.trouble === null ? 2 : 3);
  const body = model.help
    ? helpLines()
    : model.open === null
      ? listView(model, width, room, chosenOf(model))
      : sessionView(model, width, room, chosenOf(model));
  const title = `dsm top - ${model.address}, ${counted(model.sessions.length, "session")}`;
  const columns = model.open === null ? LIST : RANKS;
  const sort = model.open === null ? model.sortList : model.sortRanks;
  const by = columns[sort % columns.length]?.name.toLowerCase();
  const keys = model.help
    ? "? back  q quit"
    : `q quit  ? help  s sort (by ${by})  j/k choose  ${model.open === null ? "Enter show" : "Esc list"}`;
  const lines: Line[] = [{ text: title, look: "title" }];
  if (model.trouble !== null) lines.push({ text: model.trouble, look: "bad" });
  lines.push(...body);
  const shown = lines.slice(0, Math.max(1, rows - 1));
  if (rows > 1) shown.push({ text: keys, look: "dim" });
  return shown.map(({ text, look }) => ({ text: cut(text, width), look }));
}

function helpLines(): Line[] {
  return HELP.map((text) => ({ text, look: "plain" }));
}

/** choices returns the ids of the lines that the user can choose, in their order. */
function choices(model: TopModel): string[] {
  if (model.open === null) return sorted(model.sessions, LIST, model.sortList).map(({ name }) => name);
  const found = opened(model);
  const session = found === undefined ? null : known(found);
  return sorted(session?.ranks ?? [], RANKS, model.sortRanks).map(({ rank }) => String(rank));
}

/**
 * chosenOf returns the chosen line. Without a choice, or if its line is gone: in the list the first line, in a session
 * none.
 */
function chosenOf(model: TopModel): string | null {
  const all = choices(model);
  if (model.chosen !== null && all.includes(model.chosen)) return model.chosen;
  return model.open === null ? (all[0] ?? null) : null;
}

/** press returns the model after a key. The screen handles `quit`. */
export function press(model: TopModel, key: Key): TopModel {
  if (model.help) return key === "help" || key === "back" || key === "enter" ? { ...model, help: false } : model;
  switch (key) {
    case "help":
      return { ...model, help: true };
    case "sort":
      return model.open === null
        ? { ...model, sortList: (model.sortList + 1) % LIST.length }
        : { ...model, sortRanks: (model.sortRanks + 1) % RANKS.length };
    case "enter":
      return model.open === null && chosenOf(model) !== null
        ? { ...model, open: chosenOf(model), chosen: null }
        : model;
    case "back":
      return model.open === null ? model : { ...model, open: null, chosen: model.open };
    case "up":
    case "down": {
      const all = choices(model);
      const now = all.indexOf(chosenOf(model) ?? "");
      const next = key === "down" ? Math.min(all.length - 1, now + 1) : Math.max(0, now - 1);
      return { ...model, chosen: all[next] ?? null };
    }
    default:
      return model;
  }
}
