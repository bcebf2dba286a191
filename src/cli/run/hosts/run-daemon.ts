/** The daemon of a run over many hosts. */
import { randomBytes } from "node:crypto";
import { parseToken } from "../../../core/access/token.ts";
import { DsmError } from "../../../core/base/errors.ts";
import { parseAddress } from "../../../core/base/names.ts";
import { inheritedEnvironment } from "../../../core/launch/environment.ts";
import type { Share } from "../../../core/launch/hosts.ts";
import { warnReadable } from "../../commands/daemon.ts";
import { selfCommand } from "../../install/executable.ts";
import { isHere, localAddresses } from "../../settings/host-options.ts";
import { invalid } from "../../settings/options.ts";
import { readSecurity, readTlsOff, tokenText } from "../../settings/security.ts";
import { firstLine } from "../../terminal/split-lines.ts";
import { daemonClient } from "../../user-daemon-client.ts";

export interface RunDaemon {
  address: string;
  token: string | null;
  /** Null: the daemon was there before. */
  process: Bun.Subprocess | null;
}

export interface RunDaemonOptions {
  /** Address of an existing daemon, or null. */
  given: string | null;
  /** The address of this machine as the first other machine sees it; null: all hosts are this machine. */
  seen: string | null;
  /** The address that the user gave; left out: `seen`. */
  chosen: string | undefined;
  shares: readonly Share[];
}

/**
 * Returns the daemon of the run, at an address that all hosts reach: the one that the user gave, or a new one for this
 * run alone.
 * Throws DsmError.
 */
export async function startRunDaemon({ given, seen, chosen, shares }: RunDaemonOptions): Promise<RunDaemon> {
  if (given !== null) {
    const { host } = parseAddress(given) as { host: string };
    return { address: given, token: tokenText(readSecurity(host)), process: null };
  }
  const token = randomBytes(32).toString("hex");
  const host = ownAddress(seen, chosen, shares);
  if (readTlsOff()) warnReadable(host, null);
  const child = Bun.spawn({
    // By itself it ends a minute after its last session, even if this process is killed.
    cmd: [...selfCommand(), "daemon", "--autostarted", `--host=${host}`, "--port=0"],
    cwd: "/",
    env: { ...inheritedEnvironment(process.env), DSM_TOKEN: token },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const said = await firstLine(child.stdout);
  const [ready, address, fingerprint] = said.split(" ");
  if (ready === "ready" && address !== undefined) {
    // With the fingerprint of the authority that the daemon has made for this run.
    return { address, token: fingerprint === undefined ? token : `${token}:${fingerprint}`, process: child };
  }
  const reason = (await firstLine(child.stderr)).replace(/^dsm: /, "");
  await child.exited;
  throw new DsmError("DSM_SYSTEM", `no session daemon could be started at ${host}: ${reason || "it gave no reason"}`);
}

/** Returns the address of this machine for all hosts. */
function ownAddress(seen: string | null, chosen: string | undefined, shares: readonly Share[]): string {
  if (chosen !== undefined) return chosen;
  if (seen === null) return "127.0.0.1";
  // Behind address translation the other machine sees an address that this one does not have.
  if (localAddresses().includes(seen)) return seen;
  const why =
    seen === "" ? "does not say by which address it was reached" : `was reached by ${seen}, which is not ours`;
  const host = shares.find((share) => !isHere(share.host))?.host;
  throw invalid(`${host} ${why}; give the address of this machine that all hosts reach with --interface`);
}

/** Ends the daemon if it was for this run alone, and with it the session that a failed run may have left. */
export async function endRunDaemon(daemon: RunDaemon, session: string, hasFailed: boolean): Promise<void> {
  const { host } = parseAddress(daemon.address) as { host: string };
  const own = daemon.process !== null;
  const known = daemon.token === null ? null : parseToken(daemon.token);
  const settings = readSecurity(host);
  const security = known === null || typeof known === "string" ? settings : { ...settings, ...known, always: true };
  try {
    const client = daemonClient({ address: daemon.address, autostart: false, security });
    const detail = own || hasFailed ? await client.get(session) : null;
    // In a daemon that was there before it may be a session of another run.
    if (detail !== null && (own || (detail.answered && detail.present === 0))) {
      await client.remove(session);
    }
  } catch (error) {
    // Without a daemon there is no session either.
    if (!(error instanceof DsmError)) throw error;
  }
  daemon.process?.kill("SIGTERM");
  await daemon.process?.exited;
}
