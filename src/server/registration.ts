/**
 * Registration: the server's entry in the daemon's registry. The server renews it at intervals, so that a restarted
 * daemon learns of the server, and the server learns of a successor.
 */
import { DsmError } from "../core/base/errors.ts";
import { REGISTER_INTERVAL_MS } from "../core/base/limits.ts";
import type { DaemonApi } from "../core/messages/daemon-api.ts";

/** What the daemon needs to know of the server. */
export type RegisteredServer = Parameters<DaemonApi["register"]>[0];

export class Registration {
  readonly #directory: DaemonApi;
  readonly #server: RegisteredServer;
  readonly #timer: Timer;

  private constructor(directory: DaemonApi, server: RegisteredServer, onReplaced: () => void) {
    this.#directory = directory;
    this.#server = server;
    this.#timer = setInterval(() => {
      directory.register(server).catch((error) => {
        if (error instanceof DsmError && error.code === "DSM_ENDED") onReplaced();
      });
    }, REGISTER_INTERVAL_MS);
  }

  /** Registers the server. Throws DsmError. `onReplaced`: called when the session continues with another server. */
  static async begin(directory: DaemonApi, server: RegisteredServer, onReplaced: () => void): Promise<Registration> {
    await directory.register(server);
    return new Registration(directory, server, onReplaced);
  }

  /** Ends the renewals. `removes`: the session is over, and its entry is removed, if the daemon is still there. */
  async end(removes: boolean): Promise<void> {
    clearInterval(this.#timer);
    const { name, instance, epoch } = this.#server;
    if (removes) await this.#directory.remove(name, { instance, epoch }).catch(() => false);
  }
}
