/**
 * The file of a snapshot:
 *
 *   8 bytes    "dsmsnap" and a zero byte
 *   4 bytes    version, little-endian like all numbers here
 *   4 bytes    bytes of the image
 *   32 bytes   SHA-256 of the image
 *   image      JSON, a SavedSession
 *   pieces     each: 4 bytes its length, 32 bytes its SHA-256, a frame of kind MAP (32, or 11 in files of protocol
 *              version 1); the last one says that it is
 *   32 bytes   SHA-256 of everything before it
 *
 * It leaves out pages of zeros.
 */

import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { DsmError } from "../../core/base/errors.ts";
import { WELCOME_MAX } from "../../core/base/limits.ts";
import { exactSize } from "../../core/base/size.ts";
import { MapBytes } from "../../core/memory/map-bytes.ts";
import { MapOp } from "../../core/memory/map-snapshot.ts";
import { parseSavedSession, type SavedSession } from "../../core/messages/saved-session.ts";
import { At, HEADER_SIZE, MapAt } from "../../core/wire/at.ts";
import { checkMap } from "../../core/wire/check-operation.ts";
import { Kind } from "../../core/wire/kinds.ts";
import { PUBLISH_PART_MAX } from "../../core/wire/runs.ts";
import { OutputFile } from "./output-file.ts";

const MAGIC = Buffer.from("dsmsnap\0");
const VERSION = 1;
const HASH_SIZE = 32;
const PIECE_MAX = HEADER_SIZE + PUBLISH_PART_MAX;
/** Protocol version 1 had another number for the kind MAP. The rest of its frame was the same. */
const PIECE_KINDS: readonly (number | undefined)[] = [Kind.MAP, 11];

const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

const SNAPSHOT = {
  what: "a snapshot of dsm",
  isOne: (head: Buffer): boolean => head.subarray(0, MAGIC.length).equals(MAGIC),
  mode: 0o600,
};

export class SnapshotWriter {
  readonly #file: OutputFile;
  readonly #whole = createHash("sha256");
  #size = 0;

  /** Throws DsmError if the file cannot be written. `image` is its JSON. */
  constructor(path: string, image: Uint8Array) {
    this.#file = new OutputFile(path, SNAPSHOT);
    try {
      for (const bytes of [MAGIC, word(VERSION), word(image.length), sha256(image), image]) this.#write(bytes);
    } catch (error) {
      this.#file.abandon();
      throw error;
    }
  }

  /** Bytes of the file so far. */
  get size(): number {
    return this.#size;
  }

  piece(frame: Uint8Array): void {
    for (const bytes of [word(frame.length), sha256(frame), frame]) this.#write(bytes);
  }

  /** Ends the file, after the last piece. */
  finish(): void {
    this.#write(this.#whole.copy().digest());
    this.#file.finish();
  }

  /** Removes the file, unless it is finished. */
  abandon(): void {
    this.#file.abandon();
  }

  #write(bytes: Uint8Array): void {
    this.#whole.update(bytes);
    this.#file.write(bytes);
    this.#size += bytes.length;
  }
}

class Reader {
  readonly #path: string;
  readonly #fd: number;
  readonly #whole = createHash("sha256");
  left: number;

  constructor(path: string) {
    this.#path = path;
    try {
      // Reading a pipe without a writer would block: a pipe is no snapshot.
      this.#fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      throw new DsmError("DSM_SYSTEM", `${path} cannot be read: ${(error as Error).message}`);
    }
    const stat = fstatSync(this.#fd);
    this.left = stat.size;
    if (stat.isFile() && stat.size >= MAGIC.length && this.take(MAGIC.length).equals(MAGIC)) return;
    this.close();
    throw new DsmError("DSM_INVALID", `${path} is not a snapshot of dsm`);
  }

  /** Reads the next bytes, which must exist. */
  take(size: number, counts = true): Buffer {
    const bytes = Buffer.alloc(Math.min(size, this.left));
    for (let at = 0; at < bytes.length; ) {
      const got = readSync(this.#fd, bytes, at, bytes.length - at, null);
      if (got === 0) break;
      at += got;
    }
    if (this.left < size) throw this.damaged("it ends too early");
    this.left -= size;
    if (counts) this.#whole.update(bytes);
    return bytes;
  }

  number(): number {
    return this.take(4).readUInt32LE();
  }

  /** Bytes behind their hash. */
  hashed(size: number, most: number, what: string): Buffer {
    if (size > most) throw this.damaged(`${what} has ${size} bytes`);
    const hash = this.take(HASH_SIZE);
    const bytes = this.take(size);
    if (!sha256(bytes).equals(hash)) throw this.damaged(`${what} is not what was written`);
    return bytes;
  }

  end(): void {
    const hash = this.#whole.copy().digest();
    if (!this.take(HASH_SIZE, false).equals(hash)) throw this.damaged("its checksum does not fit");
    if (this.left > 0) throw this.damaged("there is something behind its end");
  }

  damaged(why: string): DsmError {
    return new DsmError("DSM_INVALID", `the snapshot ${this.#path} is damaged: ${why}`);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

function readHead(path: string, reader: Reader): SavedSession {
  const version = reader.number();
  if (version !== VERSION) {
    throw new DsmError(
      "DSM_VERSION",
      `the snapshot ${path} is of version ${version}; this dsm reads version ${VERSION}`,
    );
  }
  const size = reader.number();
  const json = reader.hashed(size, WELCOME_MAX, "its image");
  try {
    return parseSavedSession(JSON.parse(json.toString()));
  } catch (error) {
    throw reader.damaged((error as Error).message);
  }
}

/** Reads what the file says of its session, without the map. Throws DsmError. */
export function readSnapshotImage(path: string): SavedSession {
  const reader = new Reader(path);
  try {
    return readHead(path, reader);
  } finally {
    reader.close();
  }
}

/**
 * Reads all of the file. Throws DsmError: DSM_INVALID when it is damaged or no snapshot, DSM_NO_MEMORY. `progress` is called for
 * every piece: bytes read so far, bytes of the file.
 */
export function readSnapshot(
  path: string,
  progress: (done: number, total: number) => void = () => {},
): { image: SavedSession; map: Uint8Array } {
  const reader = new Reader(path);
  try {
    const total = reader.left;
    const image = readHead(path, reader);
    const memory = new MapBytes(allocate(image.config.size));
    for (let last = false; !last; ) {
      const piece = reader.hashed(reader.number(), PIECE_MAX, "a piece of its map");
      const view = new DataView(piece.buffer, piece.byteOffset, piece.length);
      const isFrame = piece.length >= HEADER_SIZE && view.getUint32(At.size, true) === piece.length;
      if (!isFrame || !PIECE_KINDS.includes(piece[At.kind])) throw reader.damaged("a piece of its map is none");
      const wrong = checkMap(view, 0, image.config.size);
      if (wrong !== null) throw reader.damaged(wrong);
      memory.publish(view, HEADER_SIZE, piece.length);
      last = piece[MapAt.hasMore] === MapOp.LAST;
      progress(total - reader.left, total);
    }
    reader.end();
    return { image, map: memory.bytes };
  } finally {
    reader.close();
  }
}

function allocate(size: number): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch {
    throw new DsmError("DSM_NO_MEMORY", `no memory for a map of ${exactSize(size)}`);
  }
}
