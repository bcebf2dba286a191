/**
 * Address slots: the place of each session's map in the address space. Two sessions of one slot cannot run
 * concurrently.
 */
import { nextSlot } from "../core/base/addresses.ts";
import { DsmError } from "../core/base/errors.ts";
import { ADDRESS_SLOTS } from "../core/base/limits.ts";

export class AddressSlots {
  /** The instance that has its map in a slot. */
  readonly #instances = new Map<number, string>();
  #last = -1;

  /** Chooses a free slot: the least recently used one. Throws DSM_LIMIT. */
  choose(): number {
    const slot = nextSlot(this.#last, (slot) => !this.#instances.has(slot));
    if (slot < 0) {
      throw new DsmError(
        "DSM_LIMIT",
        `all ${ADDRESS_SLOTS} address slots are taken by running sessions; end some first`,
      );
    }
    this.#last = slot;
    return slot;
  }

  /**
   * Records the slot of an instance. A server started by hand may use a taken slot: then the first instance keeps
   * it.
   */
  hold(slot: number, instance: string): void {
    if (!this.#instances.has(slot)) this.#instances.set(slot, instance);
  }

  release(slot: number, instance: string): void {
    if (this.#instances.get(slot) === instance) this.#instances.delete(slot);
  }
}
