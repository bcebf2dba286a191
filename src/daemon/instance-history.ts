/** InstanceHistory: what the daemon remembers of instances of sessions after their records are dropped. */

/** Limit of remembered instances. The one that changed least recently is forgotten first. */
const INSTANCES_MAX = 4096;

interface Past {
  hasEnded: boolean;
  /** The epoch of its newest server that this daemon knew or started. */
  epoch: number;
}

export class InstanceHistory {
  readonly #instances = new Map<string, Past>();

  /** Marks the session as over: it gets no successor. */
  end(instance: string): void {
    this.#remember(instance, { hasEnded: true, epoch: this.newestEpoch(instance) });
  }

  hasEnded(instance: string): boolean {
    return this.#instances.get(instance)?.hasEnded ?? false;
  }

  /** Notes that the instance has or had a server of that epoch. */
  sawEpoch(instance: string, epoch: number): void {
    const newest = Math.max(epoch, this.newestEpoch(instance));
    this.#remember(instance, { hasEnded: this.hasEnded(instance), epoch: newest });
  }

  /** The newest remembered epoch; 0: none. */
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
