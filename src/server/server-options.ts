/** ServerOptions: what a server is started with, and the session that it follows from. */
import { randomBytes } from "node:crypto";
import { checkListening, OPEN, type Security } from "../core/access/auth.ts";
import { addressOf } from "../core/base/addresses.ts";
import { DsmError } from "../core/base/errors.ts";
import { ADDRESS_SLOTS, ADDRESS_WIDE_SLOTS } from "../core/base/limits.ts";
import { checkName, checkProcesses, fnv1a64 } from "../core/base/names.ts";
import { checkSize, exactSize } from "../core/base/size.ts";
import type { ApplyRuns } from "../core/memory/map-bytes.ts";
import type { DaemonApi } from "../core/messages/daemon-api.ts";
import type { SavedSession } from "../core/messages/saved-session.ts";
import { type SessionSettings, settingsOfNew } from "../core/messages/session-settings.ts";
import type { SessionConfig } from "../core/messages/session-state.ts";
import type { Sharing } from "../core/wire/shared-parts.ts";

/** The settings of the session, those with a default may be left out; and how its server runs. */
export interface ServerOptions extends Partial<SessionSettings> {
  session: string;
  processes: number;
  host: string;
  /** 0: any free port. */
  port: number;
  /** The state with which the session begins: a saved session, and the bytes of its map, which the server then owns. */
  restore?: { image: SavedSession; map: Uint8Array };
  /** Maximum of connections, from the limit of open files; left out: LINKS_MAX. */
  connectionsMax?: number;
  /** The daemon with which the server registers; null: none. */
  directory: DaemonApi | null;
  /** Which run of the session's name; left out: a new one. */
  instance?: string;
  /** Epoch of the server; left out: 1, the first. */
  epoch?: number;
  /** For a later epoch: whether the predecessor is known to be gone, or only does not answer. */
  predecessor?: "gone" | "silent";
  /** Address slot of the map; left out: chosen by the session's name. */
  slot?: number;
  /**
   * Whether the peer of a Unix socket belongs to the server's user: arbiters on this host may then use a Unix socket,
   * which costs half as much as TCP. Null, or left out: TCP only.
   */
  isOwnPeer?: ((socket: object) => boolean) | null;
  /**
   * How to share parts of large publications with arbiters on the Unix socket; null, or left out: parts go through the
   * socket.
   */
  sharing?: Sharing | null;
  /** A faster implementation of MapBytes.publish(), or null. */
  applyRuns?: ApplyRuns | null;
  /** Ends the server when no process has come after UNUSED_TIMEOUT_MS. For servers that were not started by a user. */
  endUnused?: boolean;
  /** The token that arbiters must prove, and TLS; left out: none, which is possible on loopback only. */
  security?: Security;
}

/** Address slot of the session's map. */
export const slotOf = ({ slot, session }: ServerOptions): number =>
  slot ?? Number(BigInt(`0x${fnv1a64(session)}`) % BigInt(ADDRESS_WIDE_SLOTS));

/** The session that the options describe. Throws DsmError when one of them is invalid. */
export function sessionConfig(options: ServerOptions): SessionConfig {
  const { session, processes, restore, host, security = OPEN } = options;
  // Null is impossible: the one setting without a default, `processes`, is checked before.
  const bad = checkName("session", session) ?? checkProcesses(processes);
  if (bad !== null) throw new DsmError("DSM_INVALID", bad);
  const { elastic, ...settings } = settingsOfNew(options) as SessionSettings;
  const badSize = checkSize(settings.size);
  if (badSize !== null) throw new DsmError("DSM_INVALID", badSize);
  if (restore !== undefined && restore.map.length !== settings.size) {
    const words = `the snapshot has a map of ${exactSize(restore.map.length)}, not ${exactSize(settings.size)}`;
    throw new DsmError("DSM_MISMATCH", words);
  }
  const slot = slotOf(options);
  if (!(slot >= 0 && slot < ADDRESS_SLOTS)) throw new DsmError("DSM_INVALID", `slot ${slot} is not possible`);
  const refused = checkListening(security, host);
  if (refused !== null) throw new DsmError("DSM_INVALID", refused);
  const instance = options.instance ?? randomBytes(8).toString("hex");
  return { name: session, instance, ...settings, base: addressOf(slot), ...(elastic ? { elastic } : {}) };
}
