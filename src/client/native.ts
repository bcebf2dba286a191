/** libdsm through koffi: where the library is, and its calls with their types. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { getSystemErrorName } from "node:util";
import type * as Koffi from "koffi";
import { DsmError, Status, statusCode, systemCode } from "../core/errors.ts";
import type { OnLoss } from "../core/loss.ts";
import type { Order } from "../core/order.ts";
import type { Attachment } from "./channel.ts";
import type { JoinConfig } from "./config.ts";
import type { LockOutcome } from "./lock.ts";
import { readToEnd } from "./runtime.ts";
import type { WaitOutcome } from "./waiting.ts";

/** `dsm_session *`, valid from open() to close(). */
export type SessionPointer = unknown;

/** Facts of a session that do not change. */
export interface Opened {
  pointer: SessionPointer;
  rank: number;
  processes: number;
  name: string;
  node: string;
  order: Order;
  onLoss: OnLoss;
  /** Direct mode when it joined: the map is shared read-write by the processes of this node, and they are all. */
  direct: boolean;
  /** Direct mode may end: the library knows whether it has. */
  changes: boolean;
  /** Bytes. */
  size: number;
  address: bigint;
  buffer: ArrayBuffer;
  attachment: Attachment;
}

/** A call of libdsm. It returns a status; the words for it are kept per thread. */
type Call = Koffi.KoffiFunc<(...values: unknown[]) => number>;

/** read() or pread(): bytes read, or -1 with errno. */
type Transfer = Koffi.KoffiFunc<(...values: (number | bigint)[]) => number | bigint>;

type Type = NonNullable<Parameters<typeof Koffi.out>[0]>;

/** Where the fields of struct dsm_opened are. */
const OPENED = { status: 0, session: 8, text: 16 } as const;
const TEXT_SIZE = 512;
const SOCKET_SIZE = 108;
const TOKEN_SIZE = 8;

/** The folder of this file, or of the bundle of it. */
const here = fileURLToPath(new URL(".", import.meta.url));
/** The package's folder: this file is in src/client of it, the bundle in dist/client. */
const packageRoot = join(here, "..", "..");

let loaded: Library | undefined;

/** libdsm, loaded once per program. Throws DsmError DSM_SYSTEM when it is not there. */
export function loadLibrary(): Library {
  loaded ??= new Library();
  return loaded;
}

export class Library {
  readonly #koffi: typeof Koffi;
  readonly #openStart: Call;
  readonly #close: Call;
  readonly #closeText: Call;
  readonly #attachment: Call;
  readonly #barrier: Call;
  readonly #barrierTimed: Call;
  readonly #semaphoreWait: Call;
  readonly #semaphoreTryWait: Call;
  readonly #semaphoreTimedWait: Call;
  readonly #semaphorePost: Call;
  readonly #lock: Call;
  readonly #lockTry: Call;
  readonly #lockTimed: Call;
  readonly #unlock: Call;
  readonly #unlockUnmended: Call;
  readonly #dig: Call;
  readonly #fill: Call;
  readonly #fillText: Call;
  readonly #fence: Call;
  readonly #alloc: Call;
  readonly #named: Call;
  readonly #free: Call;
  readonly #waitWhile: Call;
  readonly #wake: Call;
  readonly #read: Transfer;
  readonly #readAt: Transfer;
  readonly #lastError: () => string;
  readonly #rank: (session: SessionPointer) => number;
  readonly #processes: (session: SessionPointer) => number;
  readonly #address: (session: SessionPointer) => bigint;
  readonly #size: (session: SessionPointer) => number | bigint;
  readonly #node: (session: SessionPointer) => string;
  readonly #name: (session: SessionPointer) => string;
  readonly #order: (session: SessionPointer) => string;
  readonly #setProcesses: Call;
  readonly #onLoss: (session: SessionPointer) => string;
  readonly #isDirect: (session: SessionPointer) => number;

  constructor() {
    // Loaded here, not at import: a program that imports dsm but joins nothing does not pay for it. And by its CommonJS
    // entry, the only one that can be bundled.
    const koffi = require("koffi") as typeof Koffi;
    const library = load(koffi);
    this.#koffi = koffi;
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
    });
    const attachment = koffi.struct({
      socket: koffi.array("uint8_t", SOCKET_SIZE, "Typed"),
      token: koffi.array("uint8_t", TOKEN_SIZE, "Typed"),
      rank: "uint32_t",
      changes: "uint32_t",
    });
    const session = koffi.pointer(koffi.opaque());
    const call = (name: string, ...types: Type[]): Call => library.func(name, "int", types) as unknown as Call;
    const get = <Value>(name: string, type: string): ((session: SessionPointer) => Value) =>
      library.func(name, type, [session]) as unknown as (session: SessionPointer) => Value;
    const out = (type: string | Koffi.TypeObject): Type => koffi.out(koffi.pointer(type as Koffi.TypeObject));

    this.#openStart = call("dsm_open_start", koffi.pointer(config), out("int"));
    this.#close = call("dsm_close", session);
    this.#closeText = call("dsm_close_text", session, out("uint8_t"), "size_t");
    this.#attachment = call("dsm_attach_info", session, out(attachment));
    this.#barrier = call("dsm_barrier_wait", session);
    this.#barrierTimed = call("dsm_barrier_timed", session, "uint32_t");
    this.#semaphoreWait = call("dsm_sem_wait", session, "const char *", "uint32_t");
    this.#semaphoreTryWait = call("dsm_sem_trywait", session, "const char *", "uint32_t");
    this.#semaphoreTimedWait = call("dsm_sem_timedwait", session, "const char *", "uint32_t", "uint32_t");
    this.#semaphorePost = call("dsm_sem_post", session, "const char *", "uint32_t");
    this.#lock = call("dsm_lock", session, "const char *");
    this.#lockTry = call("dsm_lock_try", session, "const char *");
    this.#lockTimed = call("dsm_lock_timed", session, "const char *", "uint32_t");
    this.#unlock = call("dsm_unlock", session, "const char *");
    this.#unlockUnmended = call("dsm_unlock_unmended", session, "const char *");
    this.#dig = call("dsm_hole_dig", session, "uint64_t", "size_t", out("int"));
    this.#fill = call("dsm_hole_fill", session, "int");
    this.#fillText = call("dsm_hole_fill_text", session, "int", out("uint8_t"), "size_t");
    this.#fence = call("dsm_fence", session);
    this.#alloc = call("dsm_alloc", session, "size_t", "size_t", out("uintptr_t"));
    this.#named = call("dsm_named", session, "const char *", "size_t", out("uintptr_t"));
    this.#free = call("dsm_free", session, "uintptr_t");
    this.#waitWhile = call("dsm_wait_while", session, "uintptr_t", "size_t", "uint64_t", "int32_t");
    this.#wake = call("dsm_wake", session, "uintptr_t", "uint32_t", out("uint32_t"));
    const transfer = (name: string, ...more: Type[]): Transfer =>
      library.func(name, "int64_t", ["int", "uint64_t", "size_t", ...more]) as unknown as Transfer;
    this.#read = transfer("dsm_read");
    this.#readAt = transfer("dsm_pread", "int64_t");
    this.#lastError = library.func("dsm_last_error", "const char *", []) as unknown as () => string;
    this.#rank = get("dsm_rank", "int");
    this.#processes = get("dsm_processes", "int");
    this.#address = get("dsm_address", "uintptr_t");
    this.#size = get("dsm_size", "size_t");
    this.#node = get("dsm_node", "const char *");
    this.#name = get("dsm_name", "const char *");
    this.#order = get("dsm_order", "const char *");
    this.#setProcesses = call("dsm_set_processes", session, "uint32_t");
    this.#onLoss = get("dsm_on_loss", "const char *");
    this.#isDirect = get("dsm_is_direct", "int");
  }

  /**
   * Joins on a thread of its own: the event loop stays free for as long as it takes until all have joined. (The runtime's
   * threads would not do: they are few, and joins that hold them all may be waiting for each other.)
   */
  async open(config: JoinConfig): Promise<Opened> {
    const native = {
      session: config.session,
      node: config.node,
      daemon: config.daemon,
      processes: config.processes,
      size: config.size,
      rank: config.rank,
      join_timeout_ms: config.joinTimeoutMs,
      autostart: config.autostart ? 1 : 0,
      binary: config.binary ?? findBinary(),
      order: config.order,
      direct: config.direct ? 1 : 0,
      on_loss: config.onLoss,
      elastic: config.elastic ? 1 : 0,
    };
    const descriptor = [-1];
    this.#check(this.#openStart(native, descriptor));
    const opened = await readToEnd(descriptor[0] as number).catch((error) => {
      throw new DsmError(systemCode(error), `cannot wait until the session is joined: ${(error as Error).message}`);
    });
    const view = new DataView(opened.buffer, opened.byteOffset, opened.byteLength);
    const status = view.getInt32(OPENED.status, true);
    if (status !== Status.OK) throw new DsmError(statusCode(status), zeroTerminated(opened.subarray(OPENED.text)));
    return this.#describe(view.getBigUint64(OPENED.session, true));
  }

  #describe(pointer: SessionPointer): Opened {
    const size = Number(this.#size(pointer));
    const address = BigInt(this.#address(pointer));
    const attachment = {} as { socket: Uint8Array; token: Uint8Array; rank: number; changes: number };
    this.#check(this.#attachment(pointer, attachment));
    return {
      pointer,
      rank: this.#rank(pointer),
      processes: this.#processes(pointer),
      name: this.#name(pointer),
      node: this.#node(pointer),
      order: this.#order(pointer) as Order,
      onLoss: this.#onLoss(pointer) as OnLoss,
      direct: this.isDirect(pointer),
      changes: attachment.changes === 1,
      size,
      address,
      // The map stays where it is for as long as the program runs, also after leaving.
      buffer: this.#koffi.view(address, size),
      attachment: { socket: zeroTerminated(attachment.socket), token: attachment.token, rank: attachment.rank },
    };
  }

  isDirect(pointer: SessionPointer): boolean {
    return this.#isDirect(pointer) === 1;
  }

  /** After it, whatever its outcome, the pointer is of no more use. */
  close(pointer: SessionPointer): void {
    this.#check(this.#close(pointer));
  }

  /** Like close(), on another thread. */
  async closeLater(pointer: SessionPointer): Promise<void> {
    await later(this.#closeText, pointer);
  }

  /** `timeoutMs` left out: no limit. */
  barrier(pointer: SessionPointer, timeoutMs?: number): void {
    this.#check(timeoutMs === undefined ? this.#barrier(pointer) : this.#barrierTimed(pointer, timeoutMs));
  }

  semaphoreWait(pointer: SessionPointer, name: string, initial: number): void {
    this.#check(this.#semaphoreWait(pointer, name, initial));
  }

  semaphoreTimedWait(pointer: SessionPointer, name: string, initial: number, timeoutMs: number): void {
    this.#check(this.#semaphoreTimedWait(pointer, name, initial, timeoutMs));
  }

  /** False where it would have had to wait. */
  semaphoreTryWait(pointer: SessionPointer, name: string, initial: number): boolean {
    const status = this.#semaphoreTryWait(pointer, name, initial);
    if (status === Status.AGAIN) return false;
    this.#check(status);
    return true;
  }

  semaphorePost(pointer: SessionPointer, name: string, initial: number): void {
    this.#check(this.#semaphorePost(pointer, name, initial));
  }

  /** `timeoutMs` left out: no limit. */
  lock(pointer: SessionPointer, name: string, timeoutMs?: number): LockOutcome {
    const status = timeoutMs === undefined ? this.#lock(pointer, name) : this.#lockTimed(pointer, name, timeoutMs);
    return this.#locked(status);
  }

  /** False where it would have had to wait. */
  lockTry(pointer: SessionPointer, name: string): LockOutcome | false {
    const status = this.#lockTry(pointer, name);
    return status === Status.AGAIN ? false : this.#locked(status);
  }

  #locked(status: number): LockOutcome {
    if (status === Status.OWNER_DIED) return "owner-died";
    this.#check(status);
    return "ok";
  }

  unlock(pointer: SessionPointer, name: string, unmended: boolean): void {
    this.#check(unmended ? this.#unlockUnmended(pointer, name) : this.#unlock(pointer, name));
  }

  /** Returns the hole's number. */
  dig(pointer: SessionPointer, address: bigint, size: number): number {
    const hole = [0];
    this.#check(this.#dig(pointer, address, size, hole));
    return hole[0] as number;
  }

  fill(pointer: SessionPointer, hole: number): void {
    this.#check(this.#fill(pointer, hole));
  }

  /** Like fill(), on another thread. */
  async fillLater(pointer: SessionPointer, hole: number): Promise<void> {
    await later(this.#fillText, pointer, hole);
  }

  /** Processes in the session; of an elastic one, those there when this process last joined or passed a barrier. */
  processes(pointer: SessionPointer): number {
    return this.#processes(pointer);
  }

  /** What a barrier says that was passed on a channel of our own. */
  setProcesses(pointer: SessionPointer, processes: number): void {
    this.#check(this.#setProcesses(pointer, processes));
  }

  fence(pointer: SessionPointer): void {
    this.#check(this.#fence(pointer));
  }

  /** Returns the new block's address. */
  alloc(pointer: SessionPointer, size: number, align: number): bigint {
    const block = [0];
    this.#check(this.#alloc(pointer, size, align, block));
    return BigInt(block[0] as number);
  }

  /** Returns the named block's address. */
  named(pointer: SessionPointer, name: string, size: number): bigint {
    const block = [0];
    this.#check(this.#named(pointer, name, size, block));
    return BigInt(block[0] as number);
  }

  free(pointer: SessionPointer, address: bigint): void {
    this.#check(this.#free(pointer, address));
  }

  /** `timeoutMs` -1: no limit. */
  waitWhile(pointer: SessionPointer, address: bigint, width: number, value: bigint, timeoutMs: number): WaitOutcome {
    const status = this.#waitWhile(pointer, address, width, value, timeoutMs);
    if (status === Status.AGAIN) return "not-equal";
    if (status === Status.TIMEOUT) return "timed-out";
    this.#check(status);
    return "ok";
  }

  /** Returns how many were woken. */
  wake(pointer: SessionPointer, address: bigint, count: number): number {
    const woken = [0];
    this.#check(this.#wake(pointer, address, count, woken));
    return woken[0] as number;
  }

  /** Reads from a file's position, which then moves on, or from the one given. Returns the bytes read, 0 at its end. */
  read(descriptor: number, address: bigint, size: number, position: number | bigint | null): number {
    const got =
      position === null ? this.#read(descriptor, address, size) : this.#readAt(descriptor, address, size, position);
    if (got >= 0) return Number(got);
    throw new DsmError(
      "DSM_SYSTEM",
      `descriptor ${descriptor} cannot be read: ${getSystemErrorName(-this.#koffi.errno())}`,
    );
  }

  #check(status: number): void {
    if (status === Status.OK) return;
    throw new DsmError(statusCode(status), this.#lastError());
  }
}

/** Runs a `_text` call on another thread, whose dsm_last_error() cannot be asked from here. */
async function later(call: Call, ...values: unknown[]): Promise<void> {
  const text = new Uint8Array(TEXT_SIZE);
  const status = await new Promise<number>((resolve, reject) => {
    call.async(...values, text, TEXT_SIZE, (error: unknown, status: number) =>
      error ? reject(error) : resolve(status),
    );
  });
  if (status !== Status.OK) throw new DsmError(statusCode(status), zeroTerminated(text));
}

function zeroTerminated(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function load(koffi: typeof Koffi): Koffi.LibraryHandle {
  const path = findLibrary();
  try {
    return koffi.load(path);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const advice = `run "npm run build" in the dsm package, or set DSM_LIBRARY to the path of libdsm.so`;
    throw new DsmError("DSM_SYSTEM", `libdsm cannot be loaded (${reason}); ${advice}`);
  }
}

/** DSM_LIBRARY, beside the bundle, in the package, in that for this platform, or where the dynamic linker finds one. */
function findLibrary(): string {
  const named = process.env.DSM_LIBRARY;
  if (named) {
    if (existsSync(named)) return named;
    throw new DsmError("DSM_SYSTEM", `DSM_LIBRARY is "${named}", but there is no such file`);
  }
  for (const path of [join(here, "libdsm.so"), join(packageRoot, "native/build/libdsm.so")]) {
    if (existsSync(path)) return path;
  }
  return inPlatformPackage("lib/libdsm.so") ?? "libdsm.so";
}

/** The packages' dsm program, which plays the arbiter; null lets libdsm look for one. */
function findBinary(): string | null {
  const built = join(packageRoot, "dist/dsm");
  return existsSync(built) ? built : inPlatformPackage("bin/dsm");
}

/** A file of the package with what is compiled, which is installed beside the published form of this one; else null. */
function inPlatformPackage(path: string): string | null {
  try {
    return createRequire(import.meta.url).resolve(`@dsm/linux-x64/${path}`);
  } catch {
    return null;
  }
}
