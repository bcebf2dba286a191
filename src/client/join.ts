/** join(): from the options to a session; attach(): from a handle to the same session in another thread. */
import { Channel } from "./channel.ts";
import { invalid, type JoinOptions, readConfig } from "./config.ts";
import { serveReadSync } from "./fs.ts";
import { describeSession, openSession } from "./join-info.ts";
import { loadLibrary } from "./library.ts";
import { hasLeft } from "./outcomes.ts";
import { Session } from "./session.ts";
import { SessionHandle } from "./session-handle.ts";
import { promised } from "./stack.ts";
import { isState, type ThreadHandle, ThreadState } from "./thread-state.ts";

/**
 * Joins a session, creating it if it is not there, and waits until all its processes have joined. The event loop stays
 * free meanwhile.
 *
 * Rejects with a DsmError: DSM_INVALID (an option or variable is wrong), DSM_MISMATCH (others have given other numbers
 * of processes, another size or another order), DSM_FULL (one process too many), DSM_BUSY (this process has joined
 * already: a worker thread calls `attach()`), DSM_TIMEOUT (the others did not come), DSM_UNREACHABLE (no daemon, server
 * or arbiter), DSM_REFUSED, DSM_VERSION, DSM_NO_MEMORY, DSM_LIMIT, DSM_SYSTEM (among others: libdsm or the dsm program is
 * not there).
 */
export function join(options: JoinOptions = {}): Promise<Session> {
  return promised(async () => {
    const config = readConfig(options, process.env);
    const library = loadLibrary();
    const info = await openSession(library, config);
    const threads = new ThreadState(info.name);
    try {
      const channel = await Channel.open(info.attachment, () => threads.left);
      return newSession(new SessionHandle(library, info, channel, threads, false));
    } catch (error) {
      // The reason why the channel cannot be opened says more than an error of leaving.
      await library.closeAsync(info.pointer).catch(() => {});
      throw error;
    }
  });
}

/**
 * Uses, in a worker thread, the session that another thread of the process has joined. All threads share the memory,
 * the rank and the process's locks, for which they take turns. A barrier is one of the process: one thread at a time may
 * be in it.
 *
 * `leave()` ends the use by this thread alone: waits of it end, and locks that it has are unlocked. When the thread
 * that joined leaves, the process has left: all calls of attached threads, also those under way, fail with
 * DSM_LEFT, and their views become what views are after leaving. A worker should leave before it is ended by
 * `terminate()`: what it has or waits for otherwise stays with the process.
 *
 * Rejects with a DsmError: DSM_INVALID (not a handle, or one of another process), DSM_LEFT (the process has left),
 * DSM_UNREACHABLE, DSM_SYSTEM.
 */
export function attach(handle: ThreadHandle): Promise<Session> {
  return promised(async () => {
    checkHandle(handle);
    const threads = new ThreadState(handle.session, handle.state);
    if (threads.left) throw hasLeft(handle.session);
    const library = loadLibrary(handle.library);
    const info = describeSession(library, handle.pointer);
    const channel = await Channel.open(info.attachment, () => threads.left);
    return newSession(new SessionHandle(library, info, channel, threads, true));
  });
}

function checkHandle(handle: ThreadHandle): void {
  const { session, pid, pointer, library, state } = { ...handle };
  const isHandle = typeof session === "string" && typeof pointer === "bigint" && typeof library === "string";
  if (!isHandle || !isState(state)) throw invalid("attach() takes what session.handle() has given to this process");
  if (pid !== process.pid) throw invalid(`the handle is one of process ${pid}; a process of its own calls join()`);
}

function newSession(handle: SessionHandle): Session {
  const session = new Session(handle);
  const { direct, directMayEnd } = handle.info;
  if (!direct || directMayEnd) serveReadSync(session);
  return session;
}
