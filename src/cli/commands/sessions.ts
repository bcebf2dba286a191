/** `dsm sessions`: the running sessions, or one of them. */
import { counted, formatCount } from "../../core/base/count.ts";
import { formatDuration } from "../../core/base/duration.ts";
import { formatAddress, isObjectText, nameInText } from "../../core/base/names.ts";
import { formatSize } from "../../core/base/size.ts";
import type { RankStatus, SessionDetail, SessionSummary } from "../../core/messages/daemon-api.ts";
import { whySilent } from "../../core/observe/why.ts";
import { command } from "../command.ts";
import { findSession } from "../find-session.ts";
import { daemonOption, jsonOption, readDaemon } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";
import { table } from "../terminal/table.ts";
import { daemonClient } from "../user-daemon-client.ts";

/** Names of locks shown for one process. */
const HELD_SHOWN = 4;

export default command({
  meta: { name: "sessions", description: "List the running sessions, or show one" },
  args: {
    name: { type: "positional", required: false, description: "Session to show in full", valueHint: "SESSION" },
    ...daemonOption,
    ...jsonOption,
  },
  manual: {
    examples: [
      { does: "What runs", line: "dsm sessions" },
      { does: "One session, with its processes and what they wait for", line: "dsm sessions heat" },
      {
        does: "The same for a program, of a daemon elsewhere",
        line: "dsm sessions heat --json --daemon 10.0.0.1:4200",
      },
    ],
  },
  async run({ args }) {
    const { address } = readDaemon(args.daemon);
    const directory = daemonClient({ address, autostart: false });
    if (args.name === undefined) {
      const sessions = await directory.list();
      if (args.json) await printJson({ sessions });
      else await print(sessions.length === 0 ? `no sessions at ${address}` : listing(sessions));
      return 0;
    }
    const detail = await findSession({ daemon: directory, address }, args.name);
    if (args.json) await printJson(detail);
    else await print(full(detail));
    return 0;
  },
});

function listing(sessions: SessionSummary[]): string {
  return table([
    ["SESSION", "PROCESSES", "SIZE", "ORDER", "SERVER", "PID"],
    ...sessions.map(({ name, processes, size, order, host, port, pid }) => [
      ...[name, formatCount(processes), formatSize(size), order, formatAddress(host, port), String(pid)],
    ]),
  ]);
}

function full(detail: SessionDetail): string {
  const {
    name,
    instance,
    host,
    port,
    pid,
    processes,
    present,
    size,
    order,
    onLoss,
    elastic,
    direct,
    entries,
    bytes,
    ranks,
  } = detail;
  const state = !detail.answered ? whySilent(detail) : detail.started ? "running" : "waiting for processes";
  const facts = table([
    ["session", name],
    ["state", state],
    [
      "processes",
      elastic ? `${formatCount(present)}, elastic` : `${formatCount(present)} of ${formatCount(processes)}`,
    ],
    ["size", `${formatSize(size)} (${counted(size, "byte")})`],
    ["order", direct ? `${order}, in direct mode: all on one node, no store is sent` : order],
    ["on loss", onLoss],
    ["server", `${formatAddress(host, port)}, process ${pid}, instance ${instance}`],
    ["ordered", `${counted(entries, "entry", "entries")}, ${counted(bytes, "byte")} written`],
  ]);
  if (ranks.length === 0) return facts;
  const rows = ranks.map((rank) => [String(rank.rank), rank.node, String(rank.pid), stateText(rank, detail)]);
  return `${facts}\n\n${table([["RANK", "NODE", "PID", "STATE"], ...rows])}`;
}

function stateText(rank: RankStatus, session: SessionDetail): string {
  const held = (rank.holds ?? []).map((name) => (isObjectText(name) ? name : `"${name}"`));
  const holding =
    held.length === 0 ? "" : `; has ${held[0]?.startsWith('"') ? "lock " : ""}${held.slice(0, HELD_SHOWN).join(", ")}`;
  return `${doingText(rank, session)}${holding}${held.length > HELD_SHOWN ? ` and ${held.length - HELD_SHOWN} more` : ""}`;
}

function doingText({ state, on, stateMs }: RankStatus, { barriers }: SessionDetail): string {
  const since = `for ${formatDuration(stateMs)}`;
  if (state === "barrier" && on !== undefined) return `in the ${on} ${since}`;
  if (state === "barrier") return `in barrier ${formatCount(barriers + 1)} ${since}`;
  if (state === "semaphore" || state === "lock") return `waiting for ${nameInText(state, on ?? "")} ${since}`;
  if (state === "condition" || state === "rwlock") return `waiting for the ${on} ${since}`;
  if (state === "sleeping") return `sleeping on byte ${on} ${since}`;
  return state;
}
