/** Descriptors sent over a Unix socket (SCM_RIGHTS): the receiver gets the very file, whatever namespaces it is in. */
import { dlopen, ptr } from "bun:ffi";

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** Null where Bun runs without its JIT (BUN_JSC_useJIT=0), which bun:ffi needs. */
function loadSendmsg() {
  try {
    return dlopen("libc.so.6", { sendmsg: { args: ["i32", "ptr", "i32"], returns: "i64" } }).symbols.sendmsg;
  } catch {
    return null;
  }
}

const sendmsg = loadSendmsg();

/**
 * Sends `bytes` over the socket, and the descriptor with the first of them. False: nothing was sent. Nothing else may be
 * waiting to be sent there. A few hundred bytes go whole or not at all: a Unix socket takes pieces of up to 32 KiB.
 */
export function sendDescriptor(socket: object, bytes: Uint8Array, descriptor: number): boolean {
  if (sendmsg === null) return false;
  // struct iovec, struct cmsghdr with one int, struct msghdr.
  const piece = new BigUint64Array([BigInt(ptr(bytes)), BigInt(bytes.length)]);
  const control = new DataView(new ArrayBuffer(24));
  control.setBigUint64(0, 20n, true);
  control.setInt32(8, SOL_SOCKET, true);
  control.setInt32(12, SCM_RIGHTS, true);
  control.setInt32(16, descriptor, true);
  const controlBytes = new Uint8Array(control.buffer);
  const message = new BigUint64Array(7);
  message[2] = BigInt(ptr(piece));
  message[3] = 1n;
  message[4] = BigInt(ptr(controlBytes));
  message[5] = BigInt(controlBytes.length);
  // Not in Bun's types, but a socket has it.
  const to = (socket as { fd?: number }).fd ?? -1;
  return Number(sendmsg(to, ptr(message), MSG_DONTWAIT | MSG_NOSIGNAL)) === bytes.length;
}
