/**
 * The dashboard: a page that the daemon serves at "/". It shows what the daemon's API says, over server-sent events,
 * and changes nothing. The address names the session: "/#/NAME".
 */
import { counted } from "../../core/base/count.ts";
import type { SessionDetail, SessionSummary } from "../../core/messages/daemon-api.ts";
import { Api, TokenNeeded } from "./api.ts";
import { element, setText } from "./dom.ts";
import { bytes } from "./format.ts";
import { markOf } from "./marks.ts";
import { SessionView } from "./session-view.ts";

/** Interval of requests for the list of sessions. */
const LIST_INTERVAL_MS = 2_000;

const api = new Api();
const main = document.querySelector("main") as HTMLElement;
const list = document.querySelector("#sessions") as HTMLElement;
const link = document.querySelector("#link") as HTMLElement;
const where = document.querySelector("#where") as HTMLElement;

/** Sessions whose status one round asks for: of more, each round takes the next ones. */
const MARKED_PER_ROUND = 16;

let sessions: SessionSummary[] = [];
/** What the list says of a session that is held up, by its name. */
const marks = new Map<string, string>();
let isMarking = false;
let nextMarked = 0;
interface Shown {
  name: string;
  instance: string;
  view: SessionView;
  stop: AbortController;
  ended: boolean;
}

let shown: Shown | null = null;
let listing: ReturnType<typeof setTimeout> | undefined;
let asking = false;

function chosenName(): string | null {
  const match = /^#\/(.+)$/.exec(location.hash);
  if (match === null) return null;
  try {
    return decodeURIComponent(match[1] as string);
  } catch {
    return null;
  }
}

function setLink(state: "live" | "lost" | "locked", text: string): void {
  link.dataset.state = state;
  setText(link, text);
}

async function refresh(): Promise<void> {
  clearTimeout(listing);
  try {
    sessions = await api.sessions();
    setLink("live", "connected");
    showList();
    choose();
    void markSessions();
  } catch (error) {
    if (error instanceof TokenNeeded) return askToken(error);
    setLink("lost", "the daemon does not answer; trying again");
    if (shown === null) say("The daemon does not answer.", "The page tries again every two seconds.");
  }
  listing = setTimeout(refresh, LIST_INTERVAL_MS);
}

/** Asks for the status of the sessions in the list. Samples of the one that is shown mark it as they come. */
async function markSessions(): Promise<void> {
  if (isMarking) return;
  isMarking = true;
  try {
    const names = sessions.map((one) => one.name);
    for (const name of marks.keys()) if (!names.includes(name)) marks.delete(name);
    const others = names.filter((name) => name !== shown?.name);
    if (nextMarked >= others.length) nextMarked = 0;
    for (const name of others.slice(nextMarked, nextMarked + MARKED_PER_ROUND)) mark(name, await api.session(name));
    nextMarked += MARKED_PER_ROUND;
  } catch {
    // The session has ended meanwhile, or the daemon does not answer: the next round asks again, and says so.
  } finally {
    isMarking = false;
  }
  showList();
}

function mark(name: string, detail: SessionDetail): void {
  const found = markOf(detail);
  if (found === null) marks.delete(name);
  else marks.set(name, found);
}

function showList(): void {
  const name = chosenName() ?? shown?.name;
  const key = JSON.stringify([
    sessions.map((one) => [one.name, one.processes, one.size, one.order, marks.get(one.name)]),
    name,
  ]);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const focused = list.contains(document.activeElement) ? document.activeElement?.getAttribute("href") : null;
  list.replaceChildren(
    ...sessions.map((one) =>
      element(
        "li",
        {},
        element(
          "a",
          { href: `#/${encodeURIComponent(one.name)}`, "aria-current": one.name === name ? "page" : false },
          element("span", { class: "name" }, one.name),
          ...(marks.has(one.name) ? [element("span", { class: "mark-bad" }, marks.get(one.name) as string)] : []),
          element("span", { class: "quiet" }, `${counted(one.processes, "process", "processes")}, ${bytes(one.size)}`),
        ),
      ),
    ),
  );
  if (focused) list.querySelector<HTMLElement>(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

/** Shows the session that the address names, or the first. */
function choose(): void {
  const name = chosenName() ?? (shown !== null ? shown.name : (sessions[0]?.name ?? null));
  if (name === null) {
    sayNothingRuns();
    return;
  }
  const found = sessions.find((one) => one.name === name);
  if (found === undefined) {
    if (shown?.name !== name) missing(name);
    return;
  }
  if (shown?.name !== name) open(name, found.instance);
  else if (shown.ended) {
    // Another session has taken the name; or a restarted daemon has learned of the same session again.
    if (shown.instance === found.instance) watch(shown);
    else open(name, found.instance);
  }
}

function open(name: string, instance: string): void {
  shown?.stop.abort();
  const stop = new AbortController();
  const view = new SessionView(name, api, stop.signal);
  shown = { name, instance, view, stop, ended: false };
  main.replaceChildren(view.element);
  document.title = `${name} – dsm`;
  showList();
  watch(shown);
}

function watch(opened: Shown): void {
  const { name, view, stop } = opened;
  opened.ended = false;
  api.watch(
    name,
    {
      sample(detail) {
        setLink("live", "connected");
        view.show(detail);
        mark(name, detail);
        showList();
      },
      ended() {
        opened.ended = true;
        view.stale("This session has ended, as far as the daemon knows. The page shows its last known state.");
      },
      lost() {
        setLink("lost", "the daemon does not answer; trying again");
        view.stale(
          "The daemon does not answer. The page shows the last known state, and goes on when the daemon is back.",
        );
      },
      tokenNeeded: askToken,
    },
    stop.signal,
  );
}

function close(): void {
  shown?.stop.abort();
  shown = null;
  document.title = "dsm";
}

function say(title: string, ...text: (Node | string)[]): void {
  if (main.dataset.said === title && shown === null && main.querySelector(".empty")) return;
  close();
  main.dataset.said = title;
  main.replaceChildren(element("div", { class: "empty" }, element("h2", {}, title), element("p", {}, ...text)));
}

function sayNothingRuns(): void {
  const command = element("code", {}, "dsm run -n 4 --nodes 2 -- hello.ts");
  say("No session runs.", "Start one with ", command, "; it then appears here.");
}

function missing(name: string): void {
  say(`There is no session “${name}”.`, "It has ended, or has not started. It appears here when it starts.");
}

/** Asks the user for the token, if the page can compute proofs: for that the connection must be secure. */
function askToken(error: TokenNeeded): void {
  clearTimeout(listing);
  setLink("locked", "the daemon demands a token");
  if (asking) return;
  close();
  sessions = [];
  showList();
  if (!window.isSecureContext) {
    const port = location.port || "80";
    say(
      "This daemon demands a token, and this connection is not safe for one.",
      "An attacker on the network could change this page and take the token. Reach the daemon through ssh: ",
      element("code", {}, `ssh -L ${port}:${location.host} ${location.hostname}`),
      ", then open ",
      element("code", {}, `http://127.0.0.1:${port}/`),
      ". Or start it without ",
      element("code", {}, "--tls-off"),
      " and open it by https.",
    );
    listing = setTimeout(refresh, 5 * LIST_INTERVAL_MS);
    return;
  }
  asking = true;
  const input = element("input", {
    type: "password",
    id: "token",
    autocomplete: "off",
    required: true,
    minlength: 16,
    spellcheck: "false",
  });
  const form = element(
    "form",
    { class: "token" },
    element("label", { for: "token" }, "Token"),
    input,
    element("button", { type: "submit" }, "Unlock"),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await api.useToken(input.value);
    asking = false;
    await refresh();
  });
  const title = error.wrong ? "That is not the daemon's token." : "This daemon demands a token.";
  main.replaceChildren(
    element(
      "div",
      { class: "empty" },
      element("h2", { role: "alert" }, title),
      element(
        "p",
        {},
        "It is what DSM_TOKEN or ",
        element("code", {}, "~/.config/dsm/token"),
        " has where the daemon runs. The token does not leave this page: requests carry proofs that the page knows it.",
      ),
      form,
    ),
  );
  input.focus();
}

window.addEventListener("hashchange", () => {
  if (asking) return;
  const name = chosenName();
  if (name !== null && name !== shown?.name) close();
  choose();
  showList();
  main.focus();
});

setText(where, location.host);
void refresh();
