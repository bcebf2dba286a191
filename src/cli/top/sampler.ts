/** Sampler: the source of the figures of `dsm top`. */
import type { DaemonApi, SessionDetail, SessionSummary } from "../../core/messages/daemon-api.ts";
import { rated, type TopModel } from "./model.ts";

/** Sessions whose status is requested. Further ones are only listed. */
const DETAILED_MAX = 64;

/** Sampler asks the daemon for all sessions, and makes rates of two answers. */
export class Sampler {
  readonly #daemon: DaemonApi;
  readonly #only: string | null;
  #before = new Map<string, SessionDetail>();

  /** `only`: the one session to sample; null: all. */
  constructor(daemon: DaemonApi, only: string | null) {
    this.#daemon = daemon;
    this.#only = only;
  }

  /** look returns the sessions as they are now. `also`: a session whose status is requested in any case. */
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
