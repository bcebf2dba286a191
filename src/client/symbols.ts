/**
 * The functions of libdsm that the package calls: one table, from which both the bindings and their types follow. A row
 * is the function's C name and the types of its arguments, which `ArgumentValues` gives for TypeScript and
 * `argumentTypes()` for koffi. To call one more function, add a row.
 */
import type * as Koffi from "koffi";

/** `dsm_session *`, valid from the moment it is opened until it is closed. */
export type SessionPointer = unknown;

/** Functions that return a status (`enum dsm_status`); dsm_last_error() returns the reason, per thread. */
const CALLS = {
  openStart: ["dsm_open_start", "config", "outI32"],
  close: ["dsm_close", "session"],
  closeText: ["dsm_close_text", "session", "outText", "size"],
  attachInfo: ["dsm_attach_info", "session", "outAttach"],
  setProcesses: ["dsm_set_processes", "session", "u32"],
  barrier: ["dsm_barrier_wait", "session"],
  barrierTimed: ["dsm_barrier_timed", "session", "u32"],
  semaphoreWait: ["dsm_sem_wait", "session", "string", "u32"],
  semaphoreTry: ["dsm_sem_trywait", "session", "string", "u32"],
  semaphoreTimed: ["dsm_sem_timedwait", "session", "string", "u32", "u32"],
  semaphorePost: ["dsm_sem_post", "session", "string", "u32"],
  lock: ["dsm_lock", "session", "string"],
  lockTry: ["dsm_lock_try", "session", "string"],
  lockTimed: ["dsm_lock_timed", "session", "string", "u32"],
  unlock: ["dsm_unlock", "session", "string"],
  unlockInconsistent: ["dsm_unlock_unmended", "session", "string"],
  lockAtOnce: ["dsm_lock_at_once", "session", "string"],
  unlockAtOnce: ["dsm_unlock_at_once", "session", "string"],
  lockGranted: ["dsm_lock_granted", "session", "string", "u64"],
  semaphoreAtOnce: ["dsm_sem_wait_at_once", "session", "string"],
  semaphorePostAtOnce: ["dsm_sem_post_at_once", "session", "string"],
  semaphoreGranted: ["dsm_sem_granted", "session", "string", "u64"],
  waitWhile: ["dsm_wait_while", "session", "address", "size", "u64", "i32"],
  wake: ["dsm_wake", "session", "address", "u32", "outU32"],
  fence: ["dsm_fence", "session"],
  holeDig: ["dsm_hole_dig", "session", "address", "size", "outI32"],
  holeFill: ["dsm_hole_fill", "session", "i32"],
  holeFillText: ["dsm_hole_fill_text", "session", "i32", "outText", "size"],
  alloc: ["dsm_alloc", "session", "size", "size", "outAddress"],
  named: ["dsm_named", "session", "string", "size", "outAddress"],
  free: ["dsm_free", "session", "address"],
} as const satisfies Record<string, Row>;

/** Functions for objects in the map, by their addresses. */
const OBJECTS = {
  mutexLock: ["dsm_mutex_lock", "address"],
  mutexTry: ["dsm_mutex_trylock", "address"],
  mutexTimed: ["dsm_mutex_timedlock", "address", "u32"],
  mutexUnlock: ["dsm_mutex_unlock", "address"],
  mutexUnlockInconsistent: ["dsm_mutex_unlock_unmended", "address"],
  mutexAtOnce: ["dsm_mutex_lock_at_once", "address"],
  mutexUnlockAtOnce: ["dsm_mutex_unlock_at_once", "address"],
  mutexGranted: ["dsm_mutex_granted", "address", "u64"],
  readLock: ["dsm_rwlock_rdlock", "address"],
  readTry: ["dsm_rwlock_tryrdlock", "address"],
  readTimed: ["dsm_rwlock_timedrdlock", "address", "u32"],
  writeLock: ["dsm_rwlock_wrlock", "address"],
  writeTry: ["dsm_rwlock_trywrlock", "address"],
  writeTimed: ["dsm_rwlock_timedwrlock", "address", "u32"],
  rwUnlock: ["dsm_rwlock_unlock", "address"],
  rwUnlockInconsistent: ["dsm_rwlock_unlock_unmended", "address"],
  condWait: ["dsm_cond_wait", "address", "address"],
  condTimed: ["dsm_cond_timedwait", "address", "address", "u32"],
  condSignal: ["dsm_cond_signal", "address"],
  condBroadcast: ["dsm_cond_broadcast", "address"],
  mapSemaphoreInit: ["dsm_semaphore_init", "address", "u32"],
  mapSemaphoreWait: ["dsm_semaphore_wait", "address"],
  mapSemaphoreTry: ["dsm_semaphore_trywait", "address"],
  mapSemaphoreTimed: ["dsm_semaphore_timedwait", "address", "u32"],
  mapSemaphorePost: ["dsm_semaphore_post", "address"],
  mapSemaphoreAtOnce: ["dsm_semaphore_wait_at_once", "address"],
  mapSemaphorePostAtOnce: ["dsm_semaphore_post_at_once", "address"],
  mapSemaphoreGranted: ["dsm_semaphore_granted", "address", "u64"],
  mapBarrierInit: ["dsm_barrier_init", "address", "u32"],
  mapBarrierWait: ["dsm_barrier_arrive_and_wait", "address", "outI32"],
  mapBarrierTimed: ["dsm_barrier_arrive_and_wait_timed", "address", "u32", "outI32"],
  objectCheck: ["dsm_object_check", "address"],
  objectOwn: ["dsm_object_own", "address"],
  objectDisown: ["dsm_object_disown", "address"],
} as const satisfies Record<string, Row>;

/** Functions that return one property of a session, and its type. */
const FACTS = {
  rank: ["dsm_rank", "i32"],
  processes: ["dsm_processes", "i32"],
  address: ["dsm_address", "address"],
  size: ["dsm_size", "size"],
  node: ["dsm_node", "string"],
  name: ["dsm_name", "string"],
  order: ["dsm_order", "string"],
  onLoss: ["dsm_on_loss", "string"],
  isDirect: ["dsm_is_direct", "i32"],
} as const satisfies Record<string, readonly [symbol: string, type: Argument]>;

/** read() and pread() into the map: the number of bytes, or -1 with errno. */
const READS = {
  read: ["dsm_read", "i32", "address", "size"],
  readAt: ["dsm_pread", "i32", "address", "size", "i64"],
} as const satisfies Record<string, Row>;

type Row = readonly [symbol: string, ...types: Argument[]];

/** `struct dsm_config` of dsm.h. */
export interface NativeConfig {
  session: string;
  node: string | null;
  daemon: string | null;
  processes: number;
  size: number;
  rank: number;
  join_timeout_ms: number;
  autostart: number;
  binary: string | null;
  order: string | null;
  direct: number;
  on_loss: string | null;
  elastic: number;
}

/** `struct dsm_attach` of native/src/api/attach.h. */
export interface NativeAttach {
  /** Path of the arbiter's socket, zero-terminated. */
  socket: Uint8Array;
  token: Uint8Array;
  rank: number;
  direct_may_end: number;
}

const SOCKET_SIZE = 108;
const TOKEN_SIZE = 8;

/** The TypeScript type for an argument of each type. The call fills an `out` argument. */
interface ArgumentValues {
  session: SessionPointer;
  string: string | null;
  i32: number;
  u32: number;
  i64: number | bigint;
  u64: number | bigint;
  size: number;
  address: number | bigint;
  config: NativeConfig;
  outI32: number[];
  outU32: number[];
  /** Addresses of a process are below 2^47: numbers hold them exactly. */
  outAddress: number[];
  outText: Uint8Array;
  outAttach: Partial<NativeAttach>;
}
type Argument = keyof ArgumentValues;

/** The TypeScript type of a property; koffi returns a bigint where a number would not be exact. */
interface FactValues {
  i32: number;
  size: number | bigint;
  address: number | bigint;
  string: string;
}

type Values<Types extends readonly unknown[]> = {
  -readonly [Index in keyof Types]: Types[Index] extends Argument ? ArgumentValues[Types[Index]] : never;
};
type Caller<R extends Row, Result> = R extends readonly [string, ...infer Types]
  ? NativeFunction<Values<Types>, Result>
  : never;

/**
 * A function bound by koffi. This does not use koffi's types, so programs that use the package's types do not need
 * them.
 */
interface NativeFunction<Arguments extends unknown[], Result> {
  (...values: Arguments): Result;
  /** Runs it on another thread. */
  async(...values: [...Arguments, done: (error: unknown, result: Result) => void]): void;
}

/** Each function of libdsm by the name that the tables give it. */
export type Symbols = {
  readonly [Name in keyof typeof CALLS]: Caller<(typeof CALLS)[Name], number>;
} & {
  readonly [Name in keyof typeof OBJECTS]: Caller<(typeof OBJECTS)[Name], number>;
} & {
  readonly [Name in keyof typeof READS]: Caller<(typeof READS)[Name], number | bigint>;
} & {
  readonly [Name in keyof typeof FACTS]: (session: SessionPointer) => FactValues[(typeof FACTS)[Name][1]];
} & {
  /** The reason of the last status that was not OK on this thread. */
  readonly lastError: () => string;
  /** What to do where a map must have so many bytes, for the end of a message. */
  readonly sizeAdvice: (bytes: number) => string;
};

type KoffiType = NonNullable<Parameters<typeof Koffi.out>[0]>;

function argumentTypes(koffi: typeof Koffi): Record<Argument, KoffiType> {
  const out = (type: KoffiType): KoffiType => koffi.out(koffi.pointer(type as Koffi.TypeObject));
  const config = koffi.struct({
    session: "const char *",
    node: "const char *",
    daemon: "const char *",
    processes: "uint32_t",
    size: "uint64_t",
    rank: "int32_t",
    join_timeout_ms: "uint32_t",
    autostart: "int32_t",
    binary: "const char *",
    order: "const char *",
    direct: "int32_t",
    on_loss: "const char *",
    elastic: "int32_t",
  } satisfies Record<keyof NativeConfig, string>);
  const attach = koffi.struct({
    socket: koffi.array("uint8_t", SOCKET_SIZE, "Typed"),
    token: koffi.array("uint8_t", TOKEN_SIZE, "Typed"),
    rank: "uint32_t",
    direct_may_end: "uint32_t",
  } satisfies Record<keyof NativeAttach, KoffiType>);
  return {
    session: koffi.pointer(koffi.opaque()),
    string: "const char *",
    i32: "int32_t",
    u32: "uint32_t",
    i64: "int64_t",
    u64: "uint64_t",
    size: "size_t",
    address: "uintptr_t",
    config: koffi.pointer(config),
    outI32: out("int32_t"),
    outU32: out("uint32_t"),
    outAddress: out("uintptr_t"),
    outText: out("uint8_t"),
    outAttach: out(attach),
  };
}

/** @internal Binds every function of the tables. Throws if the library lacks one, because it has another version. */
export function bindSymbols(koffi: typeof Koffi, library: Koffi.LibraryHandle): Symbols {
  const types = argumentTypes(koffi);
  const symbols: Record<string, unknown> = {};
  const bind = (rows: Record<string, Row>, result: string): void => {
    for (const [name, [symbol, ...names]] of Object.entries(rows)) {
      symbols[name] = library.func(
        symbol,
        result,
        names.map((type) => types[type]),
      );
    }
  };
  bind(CALLS, "int");
  bind(OBJECTS, "int");
  bind(READS, "int64_t");
  for (const [name, [symbol, type]] of Object.entries(FACTS)) {
    symbols[name] = library.func(symbol, types[type], [types.session]);
  }
  symbols.lastError = library.func("dsm_last_error", "const char *", []);
  symbols.sizeAdvice = library.func("dsm_size_advice", "const char *", ["uint64_t"]);
  return symbols as unknown as Symbols;
}
