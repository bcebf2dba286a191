/** Every limit of the system in one place. Sizes are bytes, times milliseconds. */

export const VERSION = "0.1.0";
/** Version of the frames in protocol.ts. Both ends of a link must have the same. */
export const PROTOCOL_VERSION = 3;

export const DEFAULT_PORT = 4200;
export const DEFAULT_HOST = "127.0.0.1";
/** Size of a session's map where nobody says one. */
export const DEFAULT_SIZE = 1 << 20;

export const PAGE_SIZE = 4096;
/** Largest map: what one typed array can hold. */
export const SIZE_MAX = 2 ** 32;
export const PROCESSES_MAX = 1024;
export const NODES_MAX = 256;
/** Bytes of a session, node or semaphore name in UTF-8. */
export const NAME_MAX = 63;
/** Bytes of a host's name with its user, on the command line of ssh. */
export const HOST_NAME_MAX = 255;
/** Payload of one frame between `dsm run` and a node: the orders, which hold an environment and arguments. */
export const LAUNCH_FRAME_MAX = 4 << 20;
export const SEMAPHORES_MAX = 4096;
export const SEMAPHORE_VALUE_MAX = 0x7fffffff;
export const LOCKS_MAX = 4096;
/** Blocks that allocation has given out. */
export const BLOCKS_MAX = 65536;
/** Largest alignment of a block: a page. */
export const ALIGN_MAX = 4096;
/** Fields of a struct, its nested structs' own not counted; how deep those may be nested, */
export const STRUCT_FIELDS_MAX = 1024;
export const STRUCT_DEPTH_MAX = 16;
/** how many may be in an array (each is an object of the program), */
export const STRUCT_ARRAY_MAX = 65536;
/** and bytes of one text in it. */
export const UTF8_MAX = 65536;
/** Requests of a session that may wait at once, for semaphores and locks and on values of the map. */
export const WAITING_MAX = 65536;
/** Joiners that may wait for a running session to end and the next of that name to begin. */
export const WAITING_JOINS_MAX = 1024;
/** Sessions of one daemon. */
export const SESSIONS_MAX = 1024;

/** Where maps live: see addresses.ts. */
export const ADDRESS_FIRST = 0x2000_0000_0000;
export const ADDRESS_STRIDE = 2 ** 36;
export const ADDRESS_WIDE_SLOTS = 512;
export const ADDRESS_NARROW_FIRST = 0x5500_0000_0000;
export const ADDRESS_NARROW_STRIDE = 2 ** 32;
export const ADDRESS_NARROW_SLOTS = 64;
export const ADDRESS_SLOTS = ADDRESS_WIDE_SLOTS + ADDRESS_NARROW_SLOTS;

/** Largest frame of any kind but WELCOME. */
export const FRAME_MAX = 1 << 20;
/** Largest WELCOME: more than a session can hold at its limits. Only a node that greets takes so much, and only once. */
export const WELCOME_MAX = 32 << 20;
/** Largest frame taken from a peer that has not been welcomed. */
export const GREETING_FRAME_MAX = 4096;
/** Bytes of one store entry; larger stores are split, larger publications go in parts. */
export const STORE_MAX = 64 << 10;
/** Connections of processes and their threads to one arbiter. */
export const CHANNELS_MAX = 4096;
/** Connections of arbiters and of status readers to one server. */
export const LINKS_MAX = 1024;
/** Descriptors that a role keeps for itself: files, the listener, the runtime's own, and connections it is refusing. */
export const DESCRIPTORS_RESERVE = 48;
/** Connections being refused at once: they were told why, and have not closed their end. More are cut off. */
export const REFUSALS_MAX = 16;
/** With fewer connections than that a role does not begin. */
export const CONNECTIONS_MIN = 8;
/** Snapshots of one session taken at once. Each costs the pages that change meanwhile, at most the size of the map. */
export const PICTURES_MAX = 4;
/** Whoever takes a snapshot and takes nothing of it for so long is given up. */
export const PICTURE_STALL_MS = 30_000;
/** Connections to one server that have not proven that they know the token; the oldest makes room for the next. */
export const UNPROVEN_LINKS_MAX = 64;
/** Bytes of the shared token. */
export const TOKEN_MIN = 16;
export const TOKEN_MAX = 256;
/** Certificates that the daemon's authority signs for servers and arbiters are good for this long; renewed at half of it. */
export const CERTIFICATE_LIFE_MS = 7 * 86_400_000;
/** Certificates count from this long ago on, because clocks of machines differ. */
export const CLOCK_SLACK_MS = 86_400_000;
/** A renewal that fails is tried again after this long. */
export const RENEWAL_PAUSE_MS = 60_000;
/** A challenge of the daemon's API is answered within this time, or not at all. */
export const CHALLENGE_LIFETIME_MS = 30_000;
/** Proven requests to one daemon in that time. */
export const PROVEN_REQUESTS_MAX = 65536;
/** Cells of the map of which a server says who wrote there last and how often, */
export const HEAT_CELLS_MAX = 4096;
/** and their least size. */
export const HEAT_CELL_MIN = 64;
/** Semaphores, locks and named blocks, of each kind, that the status of a session shows; more are counted. */
export const SHOWN_MAX = 256;
/** Ranks it shows as waiting for semaphores, and for locks, in all. */
export const WAITERS_SHOWN_MAX = 4096;
/** Bytes of the map in one answer of the daemon. */
export const MEMORY_READ_MAX = 64 << 10;
/** Who may watch sessions through one daemon at once, */
export const WATCHERS_MAX = 32;
/** and how often each is told; and how often if it does not say. */
export const WATCH_INTERVAL_MIN_MS = 100;
export const WATCH_INTERVAL_MAX_MS = 60_000;
export const WATCH_INTERVAL_MS = 500;
/** Who watches and takes nothing for so long is given up. */
export const WATCH_STALL_MS = 30_000;
/** Bytes of what happens that a server keeps for who traces the session, of whom there is one at a time. */
export const TRACE_BUFFER_BYTES = 512 << 10;
/** It sends them so often. */
export const TRACE_INTERVAL_MS = 20;
export const TRACE_SECONDS_MAX = 3600;
/** Requests one channel may have under way. */
export const CHANNEL_REQUESTS_MAX = 1024;
/** Bytes waiting for a slow reader beyond which we stop reading from those who cause more. */
export const OUTBOX_HIGH = 4 << 20;
/** Bytes waiting for a reader at which its connection is given up. Far above OUTBOX_HIGH: what may still come after we
 * stopped reading is bounded by the sockets' own buffers and by the one frame each link was in the middle of. */
export const OUTBOX_MAX = 256 << 20;

/** Parts of publications (512 KiB) whose memory a server keeps for the next ones: enough for one of 64 MiB. */
export const SPARE_PARTS_MAX = 150;
/** Bytes of the order that a server keeps for nodes whose connection is broken, beyond which all others wait for them. A
 * publication is kept whole, however large. */
export const TAIL_HIGH = 16 << 20;
/** A node says after so many bytes of the order how far it has applied it. */
export const ACK_BYTES = 256 << 10;
/** Numbers that a session's servers give to nodes, one after the other. */
export const NODE_NUMBER_MAX = 65_535;

export const JOIN_TIMEOUT_MS = 300_000;
/** How long an arbiter waits, at its end, for a server that would end with its container and is needed by other nodes; a little
 * less than the processes wait for it (ARBITER_END_TIMEOUT_MS in session.h). */
export const FAREWELL_TIMEOUT_MS = 4000;
/** A broken connection between arbiter and server is given up after this long (DSM_RECONNECT_TIMEOUT_MS), */
export const RECONNECT_TIMEOUT_MS = 30_000;
/** which may be set up to this; */
export const RECONNECT_TIMEOUT_MAX_MS = 3_600_000;
/** the time between two attempts doubles from the first of these to the second. */
export const RECONNECT_PAUSE_MIN_MS = 10;
export const RECONNECT_PAUSE_MAX_MS = 500;
/** A connection on which nothing came for this long is broken (DSM_HEARTBEAT_TIMEOUT_MS), */
export const HEARTBEAT_TIMEOUT_MS = 10_000;
/** which may be set from this on. */
export const HEARTBEAT_TIMEOUT_MIN_MS = 100;
/** Beats in that time: an end that has nothing to say sends as many. */
export const HEARTBEATS = 5;
/** A peer must have said who it is after this long. */
export const GREETING_TIMEOUT_MS = 10_000;
/** A server nobody came to ends after this long, */
export const UNUSED_TIMEOUT_MS = 30_000;
/** and this long after the last arbiter has gone without a process. */
export const UNUSED_AGAIN_TIMEOUT_MS = 1_000;
/** A server that takes over gives nodes that are only joining this long to say so, */
export const JOINING_SETTLE_MS = 3_000;
/** and tells those who wait that it is there. */
export const RECOVERY_BEAT_MS = 500;
/** A server tells the daemon where it is: a daemon that has begun anew learns of it. */
export const REGISTER_INTERVAL_MS = 5_000;
/** Who looks for a session whose server has just died waits this long for its arbiters to ask for another server. */
export const ORPHAN_MS = 1_000;
/** Servers of one session. */
export const EPOCH_MAX = 100_000;
/** An arbiter ends after this long without a process: the one that started it comes at once, or never. */
export const ARBITER_UNUSED_TIMEOUT_MS = 5_000;
/** A daemon that was started by itself ends this long after its last session. */
export const DAEMON_IDLE_MS = 60_000;

if (OUTBOX_HIGH < 2 * FRAME_MAX || OUTBOX_MAX < 8 * OUTBOX_HIGH) throw new Error("limits: outbox limits");
if (DESCRIPTORS_RESERVE < 2 * REFUSALS_MAX) throw new Error("limits: descriptors for refusals");
if (TRACE_BUFFER_BYTES + 4096 > FRAME_MAX) throw new Error("limits: a trace must fit a frame");
if (STORE_MAX + 4096 > FRAME_MAX) throw new Error("limits: a store must fit a frame");
if (ADDRESS_FIRST + ADDRESS_WIDE_SLOTS * ADDRESS_STRIDE > ADDRESS_NARROW_FIRST)
  throw new Error("limits: address slots");
if (SIZE_MAX > ADDRESS_STRIDE || SIZE_MAX > ADDRESS_NARROW_STRIDE) throw new Error("limits: a map must fit its slot");
