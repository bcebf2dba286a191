/**
 * PageShadows: pages of which a process has a private copy, because its holes cover them in part. In the copy the
 * hole's bytes belong to the process and all others follow the log. The arbiter makes the copy between two entries, so
 * it is the page at one point of the log.
 */
import { PAGE_SIZE } from "../base/limits.ts";
import type { MapBytes } from "../memory/map-bytes.ts";
import { ProtocolError, padded } from "../wire/frame.ts";
import type { NodeProcess } from "./processes.ts";

interface Shadow {
  process: NodeProcess;
  page: number;
  memory: MapBytes;
  /** The holes' bytes in this page, which belong to the process: [from, to) of the map, ascending. */
  holes: { from: number; to: number }[];
}

export class PageShadows {
  readonly #memory: MapBytes;
  readonly #onActive: (isActive: boolean) => void;
  readonly #shadows = new Set<Shadow>();
  readonly #byProcess = new Map<NodeProcess, Map<number, Shadow>>();

  /** `onActive`: called before the first shadow is made, and after the last one is gone. */
  constructor(memory: MapBytes, onActive: (isActive: boolean) => void) {
    this.#memory = memory;
    this.#onActive = onActive;
  }

  /**
   * Covers the bytes from `from` to `to` of the page by a hole of the process. Throws ProtocolError when holes overlap.
   */
  cover(process: NodeProcess, memory: MapBytes, page: number, from: number, to: number): void {
    let shadow = this.#find(process, page);
    if (shadow === undefined) {
      if (this.#shadows.size === 0) this.#onActive(true);
      shadow = { process, page, memory, holes: [] };
      memory.store(page, this.#memory.view, page, PAGE_SIZE);
      this.#shadows.add(shadow);
      const pages = this.#byProcess.get(process);
      if (pages === undefined) this.#byProcess.set(process, new Map([[page, shadow]]));
      else pages.set(page, shadow);
    }
    if (shadow.holes.some((hole) => hole.from < to && from < hole.to)) {
      throw new ProtocolError("shadow: the holes of a page overlap");
    }
    shadow.holes.push({ from, to });
    shadow.holes.sort((a, b) => a.from - b.from);
  }

  /** Uncovers the hole's bytes: they follow the log again. */
  uncover(process: NodeProcess, page: number, from: number, to: number): void {
    const shadow = this.#find(process, page);
    if (shadow === undefined) return;
    shadow.holes = shadow.holes.filter((hole) => hole.from !== from || hole.to !== to);
    if (shadow.holes.length === 0) this.#drop(shadow);
    else this.#copyOutside(shadow, from, to);
  }

  /** Whether a hole of the process covers a page in part. */
  has(process: NodeProcess): boolean {
    return this.#byProcess.has(process);
  }

  /** Drops all shadows of a process that is gone. */
  dropAll(process: NodeProcess): void {
    for (const shadow of [...(this.#byProcess.get(process)?.values() ?? [])]) this.#drop(shadow);
  }

  /** Repeats a write to the map in the shadows. */
  onWrite(offset: number, length: number): void {
    // Round to 8-byte words, so that a store that spans a hole's edge is never copied in part.
    const first = offset - (offset % 8);
    const last = padded(offset + length);
    for (const shadow of this.#shadows) {
      this.#copyOutside(shadow, Math.max(first, shadow.page), Math.min(last, shadow.page + PAGE_SIZE));
    }
  }

  #find(process: NodeProcess, page: number): Shadow | undefined {
    return this.#byProcess.get(process)?.get(page);
  }

  #drop(shadow: Shadow): void {
    this.#shadows.delete(shadow);
    const pages = this.#byProcess.get(shadow.process);
    pages?.delete(shadow.page);
    if (pages?.size === 0) this.#byProcess.delete(shadow.process);
    if (this.#shadows.size === 0) this.#onActive(false);
  }

  /** Copies the part of [first, last) that lies outside the page's holes. */
  #copyOutside(shadow: Shadow, first: number, last: number): void {
    let at = first;
    for (const { from, to } of shadow.holes) {
      if (at < Math.min(from, last)) shadow.memory.store(at, this.#memory.view, at, Math.min(from, last) - at);
      at = Math.max(at, to);
    }
    if (at < last) shadow.memory.store(at, this.#memory.view, at, last - at);
  }
}
