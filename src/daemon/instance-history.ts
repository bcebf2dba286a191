/** What the daemon remembers of instances of sessions when their records are gone. */

/** So many are remembered; the one that has changed least recently is forgotten first. */
const INSTANCES_MAX = 4096;

interface Past {
  hasEnded: boolean;
  /** The newest of its servers that this daemon has known or started. */
  epoch: number;
}

export class InstanceHistory {
  readonly #instances = new Map<string, Past>();

  /** The session is over: no server takes over from its last one. */
  end(instance: string): void {
    this.#remember(instance, { hasEnded: true, epoch: this.newestEpoch(instance) });
  }

  hasEnded(instance: string): boolean {
    return this.#instances.get(instance)?.hasEnded ?? false;
  }

  /** The instance has, or had, a server of that epoch. */
  sawEpoch(instance: string, epoch: number): void {
    const newest = Math.max(epoch, this.newestEpoch(instance));
    this.#remember(instance, { hasEnded: this.hasEnded(instance), epoch: newest });
  }

  /** 0: none is remembered. */
  newestEpoch(instance: string): number {
    return this.#instances.get(instance)?.epoch ?? 0;
  }

  #remember(instance: string, past: Past): void {
    this.#instances.delete(instance);
    this.#instances.set(instance, past);
    for (const oldest of this.#instances.keys()) {
      if (this.#instances.size <= INSTANCES_MAX) break;
      this.#instances.delete(oldest);
    }
  }
}
