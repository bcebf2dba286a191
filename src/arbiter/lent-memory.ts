/** Memory that the arbiter shares with a process of its node: an anonymous file, whose descriptor the arbiter sends. */
import { closeSync } from "node:fs";
import type { LentMemory } from "../core/replica/replica-output.ts";
import { detachBuffer } from "../core/wire/frame-reader.ts";
import { STAGING_SIZE } from "../core/wire/runs.ts";
import { sendDescriptor } from "../transport/descriptors.ts";
import { mapDescriptor, sealedFile } from "../transport/shared-memory.ts";

/** Makes new memory and sends its descriptor with the answer over the socket. Null: nothing was sent. */
export function lendMemory(socket: object, answer: Uint8Array, mapSize: number): LentMemory | null {
  const descriptor = sealedFile("dsm-holes", mapSize + STAGING_SIZE);
  if (descriptor === null) return null;
  let lent: LentMemory | null = null;
  try {
    lent = {
      shadow: mapDescriptor(descriptor, 0, mapSize),
      staging: mapDescriptor(descriptor, mapSize, STAGING_SIZE),
    };
    if (sendDescriptor(socket, answer, descriptor)) return lent;
  } catch {
    // The file cannot be mapped.
  } finally {
    closeSync(descriptor);
  }
  if (lent !== null) for (const memory of [lent.shadow, lent.staging]) detachBuffer(memory);
  return null;
}
