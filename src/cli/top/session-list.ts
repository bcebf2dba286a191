/** The list of sessions. */
import { formatSize } from "../../core/base/size.ts";
import { type Column, cut, down, type Line, rateText, table } from "./lines.ts";
import { isWaiting, known, type TopModel, type TopSession } from "./model.ts";

export const LIST: Column<TopSession>[] = [
  { name: "SESSION", width: 16, grow: true, text: ({ name }, width) => cut(name, width), key: ({ name }) => name },
  {
    ...{ name: "HERE", width: 9, right: true },
    text: (session) => `${known(session)?.present ?? "?"} of ${session.processes}`,
    key: (session) => down(known(session)?.present),
  },
  {
    ...{ name: "WAITING", width: 7, right: true },
    text: (session) => String(known(session)?.ranks.filter(isWaiting).length ?? "?"),
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

/** At most `height` lines of `width` columns. `chosen`: the name of the session that is marked. */
export function listView(model: TopModel, width: number, height: number, chosen: string | null): Line[] {
  if (model.sessions.length === 0) return [{ text: "no session runs", look: "plain" }];
  return table({
    ...{ columns: LIST, rows: model.sessions, sort: model.sortList, width, height, chosen },
    idOf: ({ name }) => name,
    lookOf: (session) =>
      known(session) === null || known(session)?.ranks.some(({ state }) => state === "lost") ? "bad" : "plain",
  });
}
