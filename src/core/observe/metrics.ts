/**
 * Running sessions as metrics for Prometheus: its text format 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/).
 */
import { objectText } from "../base/names.ts";
import type { RankStatus, SessionDetail } from "../messages/daemon-api.ts";

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

type Labels = Record<string, string | number>;
type Sample = [labels: Labels, value: number];

/** Exposition: one family after the other, each with all its samples. */
class Exposition {
  #text = "";

  add(type: "counter" | "gauge", name: string, help: string, samples: Sample[]): void {
    if (samples.length === 0) return;
    this.#text += `# HELP ${name} ${escaped(help)}\n# TYPE ${name} ${type}\n`;
    for (const [labels, value] of samples) {
      const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(String(text), true)}"`);
      this.#text += `${name}${pairs.length > 0 ? `{${pairs.join(",")}}` : ""} ${value}\n`;
    }
  }

  get text(): string {
    return this.#text;
  }
}

function escaped(text: string, quoted = false): string {
  const escapes = text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  return quoted ? escapes.replaceAll('"', '\\"') : escapes;
}

const seconds = (ms: number): number => ms / 1000;

export function metricsText(version: string, sessions: SessionDetail[]): string {
  const all = new Exposition();
  all.add("gauge", "dsm_build_info", "Version of the daemon.", [[{ version }, 1]]);
  all.add("gauge", "dsm_sessions", "Sessions that the daemon knows.", [[{}, sessions.length]]);
  all.add(
    ...(["gauge", "dsm_session_up", "Whether the session's server answers."] as const),
    sessions.map(({ name, answered }) => [{ session: name }, Number(answered)]),
  );
  const known = sessions.filter(({ answered }) => answered);

  const ofSession = (
    type: "counter" | "gauge",
    name: string,
    help: string,
    value: (s: SessionDetail) => number,
  ): void =>
    all.add(
      ...([type, `dsm_session_${name}`, help] as const),
      known.map((session) => [{ session: session.name }, value(session)]),
    );
  ofSession("gauge", "started", "Whether all processes have joined.", ({ started }) => Number(started));
  ofSession("gauge", "direct", "Whether it is in direct mode, where stores are not seen.", ({ direct }) =>
    Number(direct),
  );
  ofSession("gauge", "running_seconds", "Time since all had joined.", ({ started_ms }) => seconds(started_ms));
  ofSession("gauge", "processes", "Processes the session is for.", ({ processes }) => processes);
  ofSession("gauge", "present", "Processes that are in the session.", ({ present }) => present);
  ofSession("gauge", "map_bytes", "Size of the map.", ({ size }) => size);
  ofSession("gauge", "log_bytes", "Bytes of the order that the server holds.", ({ logBytes }) => logBytes);
  ofSession("gauge", "epoch", "Which server of the session it is, from 1.", ({ epoch }) => epoch);
  ofSession("counter", "entries_total", "Entries in the order.", ({ entries }) => entries);
  ofSession("counter", "written_bytes_total", "Bytes of stores, atomics and publications.", ({ bytes }) => bytes);
  ofSession("counter", "barriers_total", "Barriers that all have passed.", ({ barriers }) => barriers);

  const ofRank = (
    type: "counter" | "gauge",
    name: string,
    help: string,
    value: (rank: RankStatus) => number | null,
    more: (rank: RankStatus) => Labels = () => ({}),
  ): void =>
    all.add(
      ...([type, `dsm_rank_${name}`, help] as const),
      known.flatMap((session) =>
        session.ranks.flatMap((rank): Sample[] => {
          const labels = { session: session.name, rank: rank.rank, node: rank.node, ...more(rank) };
          const now = value(rank);
          return now === null ? [] : [[labels, now]];
        }),
      ),
    );
  ofRank("counter", "entries_total", "Entries of the rank in the order.", ({ entries }) => entries);
  ofRank("counter", "written_bytes_total", "Bytes that the rank has written.", ({ bytes }) => bytes);
  ofRank(
    ...([
      "gauge",
      "state_seconds",
      "Time in the state that the rank is in.",
      ({ stateMs }: RankStatus) => seconds(stateMs),
    ] as const),
    ({ state }) => ({ state }),
  );
  ofRank("gauge", "last_write_seconds", "Time since the rank's last entry that wrote.", ({ lastWriteMs }) =>
    lastWriteMs === null ? null : seconds(lastWriteMs),
  );
  ofRank("gauge", "round_trip_seconds", "Last round trip between server and node.", ({ roundTripUs }) =>
    roundTripUs === null ? null : roundTripUs / 1e6,
  );

  const semaphores = (value: (semaphore: SessionDetail["semaphores"][0]) => number): Sample[] =>
    known.flatMap((session) =>
      session.semaphores.map((one): Sample => [{ session: session.name, semaphore: one.name }, value(one)]),
    );
  all.add(
    "gauge",
    "dsm_semaphore_value",
    "Value of the semaphore.",
    semaphores(({ value }) => value),
  );
  all.add(
    "gauge",
    "dsm_semaphore_waiters",
    "Ranks that wait for it.",
    semaphores(({ waiters }) => waiters.length),
  );
  const locks = (value: (lock: SessionDetail["locks"][0]) => number): Sample[] =>
    known.flatMap((session) =>
      session.locks.map((one): Sample => [{ session: session.name, lock: one.name }, value(one)]),
    );
  all.add(
    "gauge",
    "dsm_lock_held",
    "Whether a process has the lock.",
    locks(({ owner }) => Number(owner !== null)),
  );
  all.add(
    "gauge",
    "dsm_lock_waiters",
    "Ranks that wait for it.",
    locks(({ waiters }) => waiters.length),
  );
  const objects = (value: (object: SessionDetail["objects"][0]) => number): Sample[] =>
    known.flatMap((session) =>
      session.objects.map((one): Sample => {
        const object = objectText(one.object, one.offset);
        return [{ session: session.name, object }, value(one)];
      }),
    );
  all.add(
    "gauge",
    "dsm_object_holders",
    "Ranks that have the reader-writer lock in the map.",
    objects(({ holders }) => holders.length),
  );
  all.add(
    "gauge",
    "dsm_object_waiting",
    "Requests that wait for the condition, reader-writer lock or barrier in the map.",
    objects(({ waiting }) => waiting),
  );
  return all.text;
}
