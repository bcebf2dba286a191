/** The list of sessions in `dsm top`. */
import { formatCount } from "../../core/base/count.ts";
import { formatSize } from "../../core/base/size.ts";
import { isDeadlocked } from "../../core/observe/why.ts";
import { type Column, cut, down, type Line, rateText, table } from "./lines.ts";
import { isWaiting, known, type TopModel, type TopSession } from "./model.ts";

export const LIST: Column<TopSession>[] = [
  { name: "SESSION", width: 16, grow: true, text: ({ name }, width) => cut(name, width), key: ({ name }) => name },
  {
    ...{ name: "HERE", width: 9, right: true },
    text: hereText,
    key: (session) => down(known(session)?.present),
  },
  {
    ...{ name: "WAITING", width: 8, right: true },
    text: waitingText,
    key: (session) => down(known(session)?.ranks.filter(isWaiting).length),
  },
  {
    ...{ name: "ENTRIES/S", width: 9, right: true },
    text: (session) => rateText(known(session)?.rates?.entries),
    key: (session) => down(known(session)?.rates?.entries),
  },
  {
    ...{ name: "BYTES/S", width: 8, right: true },
    text: (session) => rateText(known(session)?.rates?.bytes),
    key: (session) => down(known(session)?.rates?.bytes),
  },
  { name: "SIZE", width: 9, right: true, text: ({ size }) => formatSize(size), key: ({ size }) => down(size) },
  { name: "ORDER", width: 10, text: ({ order }) => order, key: ({ order }) => order },
];

function hereText(session: TopSession): string {
  const present = known(session)?.present;
  return `${present === undefined ? "?" : formatCount(present)} of ${formatCount(session.processes)}`;
}

/** waitingText returns how many ranks wait, or that some of them wait for each other. */
function waitingText(session: TopSession): string {
  const status = known(session);
  if (status === null) return "?";
  return isDeadlocked(status) ? "deadlock" : formatCount(status.ranks.filter(isWaiting).length);
}

/** isBad returns whether the server does not answer, a rank was lost or ranks wait for each other. */
function isBad(session: TopSession): boolean {
  const status = known(session);
  return status === null || status.ranks.some(({ state }) => state === "lost") || isDeadlocked(status);
}

/** listView returns at most `height` lines of `width` columns. `chosen`: the name of the marked session. */
export function listView(model: TopModel, width: number, height: number, chosen: string | null): Line[] {
  if (model.sessions.length === 0) return [{ text: "no session runs", look: "plain" }];
  return table({
    ...{ columns: LIST, rows: model.sessions, sort: model.sortList, width, height, chosen },
    idOf: ({ name }) => name,
    lookOf: (session) => (isBad(session) ? "bad" : "plain"),
  });
}
