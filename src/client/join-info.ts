/** Joins a session through libdsm, and returns its properties. */
import type { Order } from "../core/base/consistency.ts";
import { DsmError, Status, statusCode, systemCode } from "../core/base/errors.ts";
import type { OnLoss } from "../core/base/loss-policy.ts";
import type { Attachment } from "./channel.ts";
import type { JoinConfig } from "./config.ts";
import { findBinary, type Library, zeroTerminated } from "./library.ts";
import { readToEnd } from "./runtime.ts";
import type { NativeAttach, SessionPointer } from "./symbols.ts";

/** What joining a session returned: facts that do not change afterwards. */
export interface JoinInfo {
  pointer: SessionPointer;
  rank: number;
  processes: number;
  name: string;
  node: string;
  order: Order;
  onLoss: OnLoss;
  /** Direct mode when it joined: the map is shared read-write by the processes of this node, and they are all. */
  direct: boolean;
  /** Whether direct mode may end; libdsm tells whether it has ended. */
  directMayEnd: boolean;
  /** Bytes. */
  size: number;
  address: bigint;
  buffer: ArrayBuffer;
  attachment: Attachment;
}

/** Where the fields of struct dsm_opened (native/src/api/attach.h) are. */
const OPENED = { status: 0, session: 8, text: 16 } as const;

/**
 * openSession joins on a thread of its own, so the event loop stays free until all processes have joined. (The thread
 * pool of the runtime is too small: joins that occupy all its threads may wait for each other.)
 */
export async function openSession(library: Library, config: JoinConfig): Promise<JoinInfo> {
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
  const descriptor = library.result((out) => library.symbols.openStart(native, out));
  const opened = await readToEnd(descriptor).catch((error) => {
    throw new DsmError(systemCode(error), `cannot wait until the session is joined: ${(error as Error).message}`);
  });
  const view = new DataView(opened.buffer, opened.byteOffset, opened.byteLength);
  const status = view.getInt32(OPENED.status, true);
  if (status !== Status.OK) throw notOpened(status, zeroTerminated(opened.subarray(OPENED.text)));
  return describeSession(library, view.getBigUint64(OPENED.session, true));
}

/** The only reason for DSM_BUSY is that the process has joined already, perhaps in another thread. */
function notOpened(status: number, text: string): DsmError {
  const advice = status === Status.BUSY ? "; use that session: in a worker thread by attach(session.handle())" : "";
  return new DsmError(statusCode(status), `${text}${advice}`);
}

/** describeSession returns the properties of a session that this process has joined. DSM_LEFT: it has left. */
export function describeSession(library: Library, pointer: SessionPointer): JoinInfo {
  const { symbols } = library;
  const size = Number(symbols.size(pointer));
  const address = BigInt(symbols.address(pointer));
  const attach: Partial<NativeAttach> = {};
  library.check(symbols.attachInfo(pointer, attach));
  const { socket, token, rank, direct_may_end } = attach as NativeAttach;
  return {
    pointer,
    rank: symbols.rank(pointer),
    processes: symbols.processes(pointer),
    name: symbols.name(pointer),
    node: symbols.node(pointer),
    order: symbols.order(pointer) as Order,
    onLoss: symbols.onLoss(pointer) as OnLoss,
    direct: symbols.isDirect(pointer) === 1,
    directMayEnd: direct_may_end === 1,
    size,
    address,
    buffer: library.memory(address, size),
    attachment: { session: symbols.name(pointer), socket: zeroTerminated(socket), token, rank },
  };
}
