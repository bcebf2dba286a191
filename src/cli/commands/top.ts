/** `dsm top`: the running sessions, live. The pictures are in ../top. */
import { command } from "../command.ts";
import { noSession } from "../find-session.ts";
import { daemonOption, jsonOption, readDaemon, readName, UsageError, wrongValue } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";
import { newModel } from "../top/model.ts";
import { Sampler } from "../top/sampler.ts";
import { Screen } from "../top/screen.ts";
import { view } from "../top/view.ts";
import { daemonClient } from "../user-daemon-client.ts";

const INTERVAL_MIN_MS = 100;
const INTERVAL_MAX_MS = 60_000;

export default command({
  meta: { name: "top", description: "Show the running sessions live: what each rank writes, and what it waits for" },
  args: {
    name: { type: "positional", required: false, description: "Session to show in full", valueHint: "SESSION" },
    interval: { type: "string", description: "Seconds between samples", valueHint: "SECONDS", default: "1" },
    once: { type: "boolean", description: "Take two samples, print once and end: for scripts, and without a terminal" },
    ...jsonOption,
    ...daemonOption,
  },
  manual: {
    details: [
      "Keys: up, down, j and k choose, Enter shows the chosen session in full, Esc goes back, s sorts by the next column, ? helps, q quits. In direct mode stores do not leave the processes, and are not counted.",
    ],
    examples: [
      { does: "All sessions, live", line: "dsm top" },
      { does: "One of them, twice a second", line: "dsm top heat --interval 0.5" },
      { does: "For a script", line: "dsm top heat --json" },
    ],
    exits: { "130": "^C ended it." },
  },
  async run({ args }) {
    const { address } = readDaemon(args.daemon);
    const interval_ms = readInterval(args.interval);
    const open = args.name === undefined ? null : readName("session", args.name);
    const once = args.once === true || args.json === true;
    if (!once && !(process.stdout.isTTY && process.stdin.isTTY)) {
      throw new UsageError("top needs a terminal; give --once or --json where there is none");
    }
    const daemon = daemonClient({ address, autostart: false });
    const sampler = new Sampler(daemon, once ? open : null);
    let model = newModel(address, open);
    model = { ...model, sessions: await sampler.look(open) };
    if (open !== null && !model.sessions.some(({ name }) => name === open)) {
      throw noSession(open, address);
    }
    if (!once) return new Screen(model, sampler, interval_ms).done;
    await Bun.sleep(interval_ms);
    model = { ...model, sessions: await sampler.look() };
    if (args.json) await printJson({ address, sessions: model.sessions });
    else
      await print(
        view(model, process.stdout.columns || 80, Number.POSITIVE_INFINITY)
          .slice(0, -1)
          .map(({ text }) => text)
          .join("\n"),
      );
    return 0;
  },
});

function readInterval(text: string): number {
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Number.NaN;
  if (ms >= INTERVAL_MIN_MS && ms <= INTERVAL_MAX_MS) return ms;
  throw wrongValue(
    `interval "${text}" is not possible; use ${INTERVAL_MIN_MS / 1000} to ${INTERVAL_MAX_MS / 1000} seconds`,
  );
}
