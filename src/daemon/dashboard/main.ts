/**
 * The dashboard: a page that the daemon serves at "/". It shows what the daemon's API says, over server-sent events, and
 * changes nothing. The address names the session: "/#/NAME".
 */
import type { SessionSummary } from "../../core/messages/daemon-api.ts";
import { Api, TokenNeeded } from "./api.ts";
import { element, setText } from "./dom.ts";
import { bytes } from "./format.ts";
import { SessionView } from "./session-view.ts";

/** How often the list of sessions is asked for. */
const LIST_INTERVAL_MS = 2_000;

const api = new Api();
const main = document.querySelector("main") as HTMLElement;
const list = document.querySelector("#sessions") as HTMLElement;
const link = document.querySelector("#link") as HTMLElement;
const where = document.querySelector("#where") as HTMLElement;

let sessions: SessionSummary[] = [];
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
  } catch (error) {
    if (error instanceof TokenNeeded) return askToken(error);
    setLink("lost", "the daemon does not answer; trying again");
    if (shown === null) say("The daemon does not answer.", "It is asked again every two seconds.");
  }
  listing = setTimeout(refresh, LIST_INTERVAL_MS);
}

function showList(): void {
  const name = chosenName() ?? shown?.name;
  const key = JSON.stringify([sessions.map((one) => [one.name, one.processes, one.size, one.order]), name]);
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
          element(
            "span",
            { class: "quiet" },
            `${one.processes} ${one.processes === 1 ? "process" : "processes"}, ${bytes(one.size)}`,
          ),
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
    // The name has come again, as another session; or the daemon has begun anew, and has learned of the same one.
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
      },
      ended() {
        opened.ended = true;
        view.stale(
          "This session has ended, as far as the daemon knows. What is shown is the last that was seen of it.",
        );
      },
      lost() {
        setLink("lost", "the daemon does not answer; trying again");
        view.stale(
          "The daemon does not answer. What is shown is the last that was seen; it goes on when the daemon is back.",
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
  say("No session runs.", "Start one with ", command, "; it appears here by itself.");
}

function missing(name: string): void {
  say(`There is no session “${name}”.`, "It has ended, or has not begun; it appears here by itself when it does.");
}

/** The daemon wants a proof that we know the token. It is asked for only where a proof can be made. */
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
      "Whoever is on the way could change this page and take the token. Reach the daemon through ssh: ",
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
        " has where the daemon runs. It does not leave this page: requests carry proofs that it is known.",
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
