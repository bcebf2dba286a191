/** join(): from the options to a session. */
import { Channel } from "./channel.ts";
import { type JoinOptions, readConfig } from "./config.ts";
import { serveReadSync } from "./fs.ts";
import { openSession } from "./join-info.ts";
import { loadLibrary } from "./library.ts";
import { Session } from "./session.ts";
import { SessionHandle } from "./session-handle.ts";

/**
 * Joins a session, creating it if it is not there, and waits until all its processes have joined. The event loop stays
 * free meanwhile.
 *
 * Rejects with a DsmError: DSM_INVALID (an option or variable is wrong), DSM_MISMATCH (others have given other numbers
 * of processes, another size or another order), DSM_FULL (one process too many), DSM_TIMEOUT (the others did not come),
 * DSM_UNREACHABLE (no daemon, server or arbiter), DSM_REFUSED, DSM_VERSION, DSM_NO_MEMORY, DSM_LIMIT, DSM_SYSTEM
 * (among others: libdsm or the dsm program is not there).
 */
export async function join(options: JoinOptions = {}): Promise<Session> {
  const config = readConfig(options, process.env);
  const library = loadLibrary();
  const info = await openSession(library, config);
  let channel: Channel;
  try {
    channel = await Channel.open(info.attachment);
  } catch (error) {
    // The reason why the channel cannot be opened says more than an error of leaving.
    await library.closeAsync(info.pointer).catch(() => {});
    throw error;
  }
  const session = new Session(new SessionHandle(library, info, channel));
  if (!info.direct || info.directMayEnd) serveReadSync(session);
  return session;
}
