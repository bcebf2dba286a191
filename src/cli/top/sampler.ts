/** Where `dsm top` has its figures from. */
import type { DaemonApi, SessionDetail, SessionSummary } from "../../core/messages/daemon-api.ts";
import { rated, type TopModel } from "./model.ts";

/** Sessions whose status is asked for; of more, only that they are there. */
const DETAILED_MAX = 64;

/** Sampler asks the daemon for all sessions, and makes rates of two answers. */
export class Sampler {
  readonly #daemon: DaemonApi;
  readonly #only: string | null;
  #before = new Map<string, SessionDetail>();

  /** `only`: the one session that is wanted; null: all. */
  constructor(daemon: DaemonApi, only: string | null) {
    this.#daemon = daemon;
    this.#only = only;
  }

  /** How the sessions are now. Throws as the daemon does. `also`: this one in full, if there are very many. */
  async look(also: string | null = null): Promise<TopModel["sessions"]> {
    const all: (SessionSummary | SessionDetail)[] =
      this.#only === null
        ? await this.#daemon.list()
        : [await this.#daemon.get(this.#only)].filter((session) => session !== null);
    const wanted = all.filter(({ name }, index) => index < DETAILED_MAX || name === also);
    const details = await Promise.all(
      wanted.map((session) => ("ranks" in session ? session : this.#daemon.get(session.name))),
    );
    const now = new Map(details.flatMap((detail) => (detail === null ? [] : [[detail.name, detail] as const])));
    const sessions = all.map((session) => {
      const detail = now.get(session.name);
      return detail === undefined ? session : rated(this.#before.get(session.name), detail);
    });
    this.#before = now;
    return sessions;
  }
}
