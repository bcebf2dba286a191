/** Which session a command is about: the one it names, or the only one that runs. */
import { formatCount } from "../core/base/count.ts";
import { DsmError } from "../core/base/errors.ts";
import type { DaemonApi, SessionDetail } from "../core/messages/daemon-api.ts";
import { readName, UsageError } from "./settings/options.ts";
import { messages } from "./terminal/messages.ts";

/** Sessions that a message names; further ones are only counted. */
const NAMED_MAX = 8;

/** A daemon, and its address for messages. */
export interface SessionSource {
  daemon: Pick<DaemonApi, "get" | "list">;
  address: string;
}

/**
 * findSession returns the session with its status. Without a name it takes the only one, and says on stderr which that is.
 * Throws DSM_INVALID for a bad name, DSM_REFUSED when there is no such session, UsageError when there are several.
 */
export async function findSession(source: SessionSource, given: string | undefined): Promise<SessionDetail> {
  const name = given === undefined ? await onlySession(source) : readName("session", given);
  const session = await source.daemon.get(name);
  if (!session) throw noSession(name, source.address);
  return session;
}

/** noSession returns the error for a name that no session has. */
export function noSession(name: string, address: string): DsmError {
  return new DsmError("DSM_REFUSED", `there is no session "${name}" at ${address}; see "dsm sessions"`);
}

async function onlySession({ daemon, address }: SessionSource): Promise<string> {
  const names = (await daemon.list()).map(({ name }) => name).sort();
  const [name] = names;
  if (name === undefined) throw new DsmError("DSM_REFUSED", `no session runs at ${address}`);
  if (names.length > 1) {
    throw new UsageError(
      `${formatCount(names.length)} sessions run at ${address}; give the name of one: ${nameList(names)}`,
      true,
    );
  }
  messages.info(`session "${name}", the only one at ${address}`);
  return name;
}

function nameList(names: string[]): string {
  const shown = names.slice(0, NAMED_MAX).map((name) => `"${name}"`);
  const more = names.length - shown.length;
  const last = more > 0 ? `${formatCount(more)} more` : shown.pop();
  return `${shown.join(", ")} ${more > 0 ? "and" : "or"} ${last}`;
}
