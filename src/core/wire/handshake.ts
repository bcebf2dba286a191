/** The first frame of a connection: shows that both ends speak this protocol, in the same version. */

import { Status } from "../base/errors.ts";
import { PROTOCOL_VERSION } from "../base/limits.ts";
import { HandshakeAt } from "./at.ts";
import { encode, type Frame, ProtocolError } from "./frame.ts";
import type { Kind } from "./kinds.ts";

/** "dsmwire" and a zero byte, read as two little-endian words. */
export const MAGIC_LOW = 0x776d7364;
export const MAGIC_HIGH = 0x00657269;

/** A HELLO, ATTACH, STATUS or CHALLENGE: the first frame of a connection. */
export function encodeHandshake(kind: Kind, body: Uint8Array, fields: Partial<Frame> = {}): Uint8Array {
  const bytes = encode({ ...fields, kind, body, aux: PROTOCOL_VERSION });
  const view = new DataView(bytes.buffer);
  view.setUint32(HandshakeAt.magic, MAGIC_LOW, true);
  view.setUint32(HandshakeAt.magic + 4, MAGIC_HIGH, true);
  return bytes;
}

/** Throws ProtocolError unless the frame at `at` is a handshake of this protocol and version. */
export function checkHandshake(view: DataView, at: number): void {
  if (
    view.getUint32(at + HandshakeAt.magic, true) !== MAGIC_LOW ||
    view.getUint32(at + HandshakeAt.magic + 4, true) !== MAGIC_HIGH
  ) {
    throw new ProtocolError("the peer does not speak dsm");
  }
  const version = view.getUint32(at + HandshakeAt.version, true);
  if (version !== PROTOCOL_VERSION) {
    throw new ProtocolError(
      `the peer speaks protocol version ${version}, this is version ${PROTOCOL_VERSION}; install the same dsm on both`,
      Status.VERSION,
    );
  }
}
