/** The environment variables that dsm and its libraries read, for the manual page. */
import {
  DEFAULT_HOST,
  DEFAULT_PORT,
  HEARTBEAT_TIMEOUT_MIN_MS,
  HEARTBEAT_TIMEOUT_MS,
  JOIN_TIMEOUT_MS,
  RECONNECT_TIMEOUT_MAX_MS,
  RECONNECT_TIMEOUT_MS,
} from "../core/limits.ts";
import { DEFAULT_ON_LOSS, ON_LOSS } from "../core/loss.ts";
import { DEFAULT_ORDER, ORDERS } from "../core/order.ts";

export const VARIABLES: readonly (readonly [name: string, meaning: string])[] = [
  ["DSM_SESSION", "Name of the session."],
  ["DSM_PROCESSES", "How many processes the session waits for."],
  ["DSM_SIZE", "Size of the shared memory, such as 65536, 64KiB or 1GiB; 1MiB for a new session if not set."],
  ["DSM_ORDER", `${ORDERS.join(", ")}: how strictly stores are ordered; ${DEFAULT_ORDER} if not set.`],
  ["DSM_ON_LOSS", `${ON_LOSS.join(", ")}: what happens when a process dies; ${DEFAULT_ON_LOSS} if not set.`],
  ["DSM_ELASTIC", "1: processes may join while the session runs; the first process has to ask for it."],
  ["DSM_DIRECT", "0: stores are trapped even if all processes are on one node."],
  ["DSM_DAEMON", `Address of the daemon; ${DEFAULT_HOST}:${DEFAULT_PORT} if not set.`],
  ["DSM_AUTOSTART", "0: never start a local daemon."],
  ["DSM_NODE", "Name of this node, the host's name if not set; several names make one host several nodes."],
  ["DSM_RANK", "Wished rank, given if it is free."],
  ["DSM_JOIN_TIMEOUT_MS", `How long to wait for the other processes, in milliseconds; ${JOIN_TIMEOUT_MS} if not set.`],
  [
    "DSM_RECONNECT_TIMEOUT_MS",
    `How long a broken connection to the server may last, in milliseconds; ${RECONNECT_TIMEOUT_MS} if not set, at most ${RECONNECT_TIMEOUT_MAX_MS}. 0: not at all.`,
  ],
  [
    "DSM_HEARTBEAT_TIMEOUT_MS",
    `A connection on which nothing came for this long is broken, in milliseconds; ${HEARTBEAT_TIMEOUT_MS} if not set, at least ${HEARTBEAT_TIMEOUT_MIN_MS}.`,
  ],
  ["DSM_TOKEN", "The shared token, TOKEN:FINGERPRINT as in the file, instead of that one; demanded on loopback too."],
  ["DSM_TOKEN_FILE", "Whole path of another file with the token than the one below."],
  ["DSM_SSH", "ssh with its options, for dsm run --hosts."],
  ["DSM_TLS_CA", "Whole path of the authority's certificate, as PEM. With these three: TLS everywhere."],
  ["DSM_TLS_OFF", "1: no TLS, with a daemon that was started with --tls-off."],
  ["DSM_TLS_CERT", "Whole path of this host's certificate."],
  ["DSM_TLS_KEY", "Whole path of its private key."],
  ["DSM_BIN", "Path of the dsm program, for programs that cannot find it."],
  ["DSM_LIBRARY", "Path of libdsm.so, for Python and JavaScript programs; dsm run sets it."],
  ["DSM_PRELOAD", "0: dsm run does not load libdsm into its processes by LD_PRELOAD."],
  ["DSM_QUIET", "1: no notes and no advice on stderr, such as that a hole would be faster."],
  ["NO_COLOR", "Set to anything: no colours. They are for terminals only, and not for TERM=dumb."],
  ["FORCE_COLOR", "Set: colours everywhere. 0: none anywhere."],
];

export const FILES: readonly (readonly [path: string, meaning: string])[] = [
  [
    "~/.config/dsm/token",
    "The shared token of a cluster, 16 to 256 bytes, and the fingerprint of its authority; readable by its owner alone.",
  ],
  [
    "~/.config/dsm/authority-key.pem, authority.pem",
    "The authority of this user's daemons: its key, and its certificate.",
  ],
  [
    "~/.cache/dsm/",
    "What the program has inside and programs must load: the library and its like; and copies of dsm itself, from dsm run --hosts.",
  ],
  ["$XDG_RUNTIME_DIR/dsm/", "Sockets of this user's arbiters."],
  ["/dev/shm/dsm*", "Replicas of the memory of running sessions."],
  ["PREFIX/share/dsm/manifest", "What dsm install has put under a prefix."],
];
