/** Every limit of the system in one place. Sizes are bytes, times milliseconds. */

export const VERSION = "0.1.0";
/** Version of the frames (see wire/README.md). Both ends of a link must have the same. */
export const PROTOCOL_VERSION = 5;

export const DEFAULT_PORT = 4200;
export const DEFAULT_HOST = "127.0.0.1";
/** Default size of a session's map. */
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
/** Payload of one frame between `dsm run` and a node: ORDERS, which holds an environment and arguments. */
export const LAUNCH_FRAME_MAX = 4 << 20;
/**
 * Semaphores that have names, and those in the map that are in use at a time: their value is above 0, or a process waits for
 * them. The session forgets others in the map.
 */
export const SEMAPHORES_MAX = 4096;
export const SEMAPHORE_VALUE_MAX = 0x7fffffff;
/**
 * Locks that have names, and mutexes in the map that are in use at a time: a process has one or waits for it, or its owner
 * ended without unlocking it. The session forgets others in the map.
 */
export const LOCKS_MAX = 4096;
/** Mutexes in the map that are leased to nodes at a time; before there are more, the oldest leases are recalled. */
export const OBJECT_LEASES_MAX = 4096;
/** Reader-writer locks in the map that are in use at a time, and processes that have them for reading, added up. */
export const RW_LOCKS_MAX = 4096;
export const READERS_MAX = 65536;
/** So many reads of processes that read already are granted while a writer waits; further ones wait behind it. */
export const OVERTAKES_MAX = 1024;
/** Objects in the map begin at multiples of this, and have at least so many bytes. */
export const OBJECT_ALIGN = 8;
/** How many may have to arrive at a barrier in the map. */
export const ARRIVALS_MAX = 65536;
/** So many processes of one node in a row must have had a lock before it is leased to that node. */
export const LEASE_STREAK = 2;
/**
 * So many grants must pass before a lock is leased again whose lease the server has asked for: a snapshot begins when no
 * lock is leased, and many locks may be in use.
 */
export const LEASE_PAUSE = 256;
/** Allocated blocks. */
export const BLOCKS_MAX = 65536;
/** Largest alignment of a block: a page. */
export const ALIGN_MAX = 4096;
/** Fields of a struct, without those of its nested structs; depth of nesting; */
export const STRUCT_FIELDS_MAX = 1024;
export const STRUCT_DEPTH_MAX = 16;
/** items of an array of structs (each is an object in the program); */
export const STRUCT_ARRAY_MAX = 65536;
/** bytes of one text. */
export const UTF8_MAX = 65536;
/** Requests of a session that may wait at once: for semaphores, locks and other objects, and on values of the map. */
export const WAITING_MAX = 65536;
/** Joiners that may wait for a running session to end and the next of that name to begin. */
export const WAITING_JOINS_MAX = 1024;
/** Sessions of one daemon. */
export const SESSIONS_MAX = 1024;

/** Addresses of maps: see addresses.ts. */
export const ADDRESS_FIRST = 0x2000_0000_0000;
export const ADDRESS_STRIDE = 2 ** 36;
export const ADDRESS_WIDE_SLOTS = 512;
export const ADDRESS_NARROW_FIRST = 0x5500_0000_0000;
export const ADDRESS_NARROW_STRIDE = 2 ** 32;
export const ADDRESS_NARROW_SLOTS = 64;
export const ADDRESS_SLOTS = ADDRESS_WIDE_SLOTS + ADDRESS_NARROW_SLOTS;

/** Largest frame of any kind but WELCOME. */
export const FRAME_MAX = 1 << 20;
/**
 * Largest WELCOME: more than a session can hold at its limits. Only a node that is joining accepts that much, and only
 * once.
 */
export const WELCOME_MAX = 48 << 20;
/** Largest frame taken from a peer that has not been welcomed. */
export const GREETING_FRAME_MAX = 4096;
/** Bytes of one store entry; larger stores are split, larger publications go in parts. */
export const STORE_MAX = 64 << 10;
/** Connections of processes and their threads to one arbiter. */
export const CHANNELS_MAX = 4096;
/** Connections of arbiters and of status readers to one server. */
export const LINKS_MAX = 1024;
/** Descriptors that a role reserves: files, the listener, the runtime's own, and connections that are being refused. */
export const DESCRIPTORS_RESERVE = 48;
/**
 * Connections being refused at once: they got the reason, and have not closed their end. Further ones are closed at
 * once.
 */
export const REFUSALS_MAX = 16;
/** A role does not start with fewer connections than this. */
export const CONNECTIONS_MIN = 8;
/** Snapshots of one session taken at once. Each costs the pages that change meanwhile, at most the size of the map. */
export const SNAPSHOTS_MAX = 4;
/** The server closes the connection of a snapshot reader that reads nothing for this long. */
export const READER_STALL_TIMEOUT_MS = 30_000;
/** Connections to one server that have not proven that they know the token; a new one displaces the oldest. */
export const UNPROVEN_LINKS_MAX = 64;
/** Bytes of the shared token. */
export const TOKEN_MIN = 16;
export const TOKEN_MAX = 256;
/**
 * Lifetime of certificates that the daemon's authority signs for servers and arbiters; they are renewed at half of it.
 */
export const CERTIFICATE_LIFE_MS = 7 * 86_400_000;
/** Certificates are valid from this long ago on, because the clocks of machines differ. */
export const CLOCK_SLACK_MS = 86_400_000;
/**
 * Pause before a failed renewal is tried again, and how many such pauses fit into the life of a certificate at least: a
 * short-lived one is tried again sooner.
 */
export const RENEWAL_PAUSE_MS = 60_000;
export const RENEWAL_ATTEMPTS = 16;
/** A challenge of the daemon's API expires after this time. */
export const CHALLENGE_LIFETIME_MS = 30_000;
/** Proven requests to one daemon in that time. */
export const PROVEN_REQUESTS_MAX = 65536;
/** Cells of the map for which a server reports the last writer and the number of writes, */
export const HEAT_CELLS_MAX = 4096;
/** and their smallest size. */
export const HEAT_CELL_MIN = 64;
/** Semaphores, locks and named blocks, of each kind, that the status of a session shows; more are counted. */
export const SHOWN_MAX = 256;
/** Ranks that the status shows as waiting for semaphores, and for locks, in all. */
export const WAITERS_SHOWN_MAX = 4096;
/** Bytes of the map in one answer of the daemon. */
export const MEMORY_READ_MAX = 64 << 10;
/** Clients that may watch sessions through one daemon at once; */
export const WATCHERS_MAX = 32;
/** bounds of the interval between two updates, and its default. */
export const WATCH_INTERVAL_MIN_MS = 100;
export const WATCH_INTERVAL_MAX_MS = 60_000;
export const WATCH_INTERVAL_MS = 500;
/** The daemon closes the connection of a watcher that reads nothing for this long. */
export const WATCH_STALL_MS = 30_000;
/** Bytes of trace records that a server buffers for the one client that traces the session; */
export const TRACE_BUFFER_BYTES = 512 << 10;
/** interval at which it sends them. */
export const TRACE_INTERVAL_MS = 20;
export const TRACE_SECONDS_MAX = 3600;
/** Requests that one channel may have in flight. */
export const CHANNEL_REQUESTS_MAX = 1024;
/** Bytes queued for a slow reader beyond which a role stops reading from the peers that cause more. */
export const OUTBOX_HIGH = 4 << 20;
/**
 * Bytes queued for a reader at which its connection is closed. Far above OUTBOX_HIGH: what may still arrive after the
 * role has stopped reading is bounded by the sockets' own buffers and by the one frame that each link was receiving.
 */
export const OUTBOX_MAX = 256 << 20;

/** Buffers for parts of publications (512 KiB) that a server keeps for reuse: enough for a publication of 64 MiB. */
export const SPARE_PARTS_MAX = 150;
/**
 * Bytes of the log that a server retains for nodes whose connection is broken, beyond which all others wait for them. A
 * publication is retained whole, however large.
 */
export const RETAINED_HIGH = 16 << 20;
/** An entry that only makes its process wait goes to the nodes with the next one, at the latest after this long. */
export const DEFERRED_BROADCAST_MS = 100;
/** A node acknowledges the entries that it has applied after this many bytes of the log. */
export const ACK_BYTES = 256 << 10;
/** Highest node number of a session; its servers assign the numbers in sequence. */
export const NODE_NUMBER_MAX = 65_535;

export const JOIN_TIMEOUT_MS = 300_000;
/**
 * How long an ending arbiter waits for a server that would end with its container and that other nodes need; a little
 * less than the processes wait for the arbiter (ARBITER_END_TIMEOUT_MS in native/src/api/close.c).
 */
export const FAREWELL_TIMEOUT_MS = 4000;
/** A broken connection between arbiter and server counts as lost after this long (DSM_RECONNECT_TIMEOUT_MS), */
export const RECONNECT_TIMEOUT_MS = 30_000;
/** its largest setting; */
export const RECONNECT_TIMEOUT_MAX_MS = 3_600_000;
/** the pause between two attempts doubles from the first of these to the second. */
export const RECONNECT_PAUSE_MIN_MS = 10;
export const RECONNECT_PAUSE_MAX_MS = 500;
/** A connection that was silent for this long is broken (DSM_HEARTBEAT_TIMEOUT_MS), */
export const HEARTBEAT_TIMEOUT_MS = 10_000;
/** its smallest setting. */
export const HEARTBEAT_TIMEOUT_MIN_MS = 100;
/** Heartbeats in that time that an idle end sends. */
export const HEARTBEATS = 5;
/**
 * Leases of locks. A node uses its leases for LEASE_OPEN_MS after it asked a server that then answered; a server that
 * loses its connection to a node with leases keeps the node's place for LEASE_MS at least. The difference allows for
 * clocks that do not run alike, and for those that libdsm reads, which are late by up to 10 ms.
 */
export const LEASE_MS = 2_000;
export const LEASE_OPEN_MS = 1_800;
/** Interval at which a node with leases asks. */
export const LEASE_ASK_INTERVAL_MS = 450;
/** A peer must have sent its handshake after this long. */
export const GREETING_TIMEOUT_MS = 10_000;
/** A server to which no process came ends after this long, */
export const UNUSED_TIMEOUT_MS = 30_000;
/** and this long after the last arbiter has left without a process. */
export const UNUSED_AGAIN_TIMEOUT_MS = 1_000;
/** A server that takes over waits this long for the reports of nodes that are only joining, */
export const JOINING_SETTLE_MS = 3_000;
/** and sends a heartbeat to the waiting nodes at this interval. */
export const RECOVERY_BEAT_MS = 500;
/** Interval at which a server registers with the daemon, so that a restarted daemon learns of it. */
export const REGISTER_INTERVAL_MS = 5_000;
/** After a server's loss, a request for its session waits this long for its arbiters to ask for another server. */
export const ORPHAN_TIMEOUT_MS = 1_000;
/** Servers of one session, one after the other. */
export const EPOCH_MAX = 100_000;
/** An arbiter ends after this long without a process: the process that started it connects at once, or never. */
export const ARBITER_UNUSED_TIMEOUT_MS = 5_000;
/** A daemon that dsm started on demand ends this long after its last session. */
export const DAEMON_IDLE_MS = 60_000;

if (OUTBOX_HIGH < 2 * FRAME_MAX || OUTBOX_MAX < 8 * OUTBOX_HIGH) throw new Error("limits: outbox limits");
if (LEASE_OPEN_MS > 0.9 * LEASE_MS || 3 * LEASE_ASK_INTERVAL_MS > LEASE_OPEN_MS) throw new Error("limits: leases");
if (DESCRIPTORS_RESERVE < 2 * REFUSALS_MAX) throw new Error("limits: descriptors for refusals");
if (TRACE_BUFFER_BYTES + 4096 > FRAME_MAX) throw new Error("limits: a trace must fit a frame");
if (STORE_MAX + 4096 > FRAME_MAX) throw new Error("limits: a store must fit a frame");
if (ADDRESS_FIRST + ADDRESS_WIDE_SLOTS * ADDRESS_STRIDE > ADDRESS_NARROW_FIRST)
  throw new Error("limits: address slots");
if (SIZE_MAX > ADDRESS_STRIDE || SIZE_MAX > ADDRESS_NARROW_STRIDE) throw new Error("limits: a map must fit its slot");
