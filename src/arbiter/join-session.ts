/** Joins a session: finds its server through the daemon and makes this node a member. */
import { randomBytes } from "node:crypto";
import { OPEN } from "../core/access/auth.ts";
import type { Security } from "../core/access/tls.ts";
import { slotOf } from "../core/base/addresses.ts";
import { DsmError } from "../core/base/errors.ts";
import { HEARTBEAT_TIMEOUT_MS, RECONNECT_TIMEOUT_MS } from "../core/base/limits.ts";
import { pageRound } from "../core/base/size.ts";
import type { DaemonApi, FindRequest } from "../core/messages/daemon-api.ts";
import type { NodeHello, Welcome } from "../core/messages/node-handshake.ts";
import { type SessionSettings, wishesOf } from "../core/messages/session-settings.ts";
import type { PartPool } from "../core/wire/frame-reader.ts";
import { ownProcess } from "../transport/own-process.ts";
import { sharing } from "../transport/shared-memory.ts";
import { ReconnectingLog } from "./reconnecting-log.ts";

/** The settings that the first process requires; left out: whatever the session has. */
export interface JoinOptions extends Partial<SessionSettings> {
  session: string;
  node: string;
  /**
   * How long the server keeps this node's place while the connection is broken; left out: RECONNECT_TIMEOUT_MS. 0: a
   * broken connection ends the session on this node.
   */
  reconnectMs?: number;
  /** How long a connection may be silent; left out: HEARTBEAT_TIMEOUT_MS. */
  heartbeatMs?: number;
  directory: DaemonApi;
  /** The token that the server must prove, and TLS; left out: none, which suffices on loopback only. */
  security?: Security;
}

/** Number of lookups of a session whose server is not there, before the arbiter gives up. */
const FIND_ATTEMPTS = 100;
/** Pause between two lookups: the daemon needs some time to notice a server's end. */
const FIND_PAUSE_MS = 10;

/**
 * Joins a session. Throws DsmError when there is no session to join. If the server has ended meanwhile, the daemon
 * starts the next one, which is joined instead. `parts`: memory of the parts of large publications.
 */
export async function joinSession(
  options: JoinOptions,
  parts: PartPool,
): Promise<{ welcome: Welcome; log: ReconnectingLog }> {
  const { directory, security = OPEN } = options;
  let after: string | undefined;
  for (let attempt = 1; ; attempt += 1) {
    const address = await directory.find(findRequest(options, after));
    try {
      return await ReconnectingLog.open({
        address,
        security,
        hello: nodeHello(options),
        // The daemon knows where the server is now, or starts another one.
        locate: (known, { base }) => directory.findOrStartSuccessor({ ...address, ...known, slot: slotOf(base) }),
        parts,
        sharing,
      });
    } catch (error) {
      if (!(error instanceof DsmError) || attempt === FIND_ATTEMPTS) throw error;
      if (error.code === "DSM_ENDED") after = address.instance;
      else if (error.code === "DSM_UNREACHABLE" || error.code === "DSM_AGAIN") await Bun.sleep(FIND_PAUSE_MS);
      else throw error;
    }
  }
}

/** `after`: the run of the session that has ended. */
function findRequest(options: JoinOptions, after: string | undefined): FindRequest {
  return { name: options.session, ...wishesOf(options), ...(after === undefined ? {} : { after }) };
}

function nodeHello(options: JoinOptions): NodeHello {
  const { session, node, processes, size, order, onLoss, elastic } = options;
  const { reconnectMs = RECONNECT_TIMEOUT_MS, heartbeatMs = HEARTBEAT_TIMEOUT_MS } = options;
  return {
    session,
    node,
    processes: processes ?? 0,
    size: size === undefined ? 0 : pageRound(size),
    order: order ?? "",
    onLoss: onLoss ?? "",
    elastic: elastic === true,
    secret: randomBytes(16).toString("hex"),
    reconnectMs,
    heartbeatMs,
    process: ownProcess(),
    resume: null,
  };
}
