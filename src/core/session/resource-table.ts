/**
 * ResourceTable: the locks, or the semaphores, of a session by name. A name that a program gave stays. An object in the map
 * that is in its first state, as zero bytes mean it, needs no place here: it is remembered for what it is worth (to which
 * node it went last), and forgotten when its place is needed, the one first that has been idle for longest.
 *
 * Invariants: an idle object is in its first state; what forgetting depends on, the order of the items, is part of the
 * state, so all replicas forget the same.
 */
import { placeInName } from "../base/names.ts";

export class ResourceTable<Resource extends { name: string }> {
  readonly #max: number;
  readonly #make: (name: string) => Resource;
  readonly #isIdle: (resource: Resource) => boolean;
  /** In use, or with a name that a program gave. */
  readonly #kept = new Map<string, Resource>();
  /** Objects in the map, in the order in which they became idle. */
  readonly #idle = new Map<string, Resource>();

  /** `isIdle`: whether an object is in its first state. */
  constructor(max: number, make: (name: string) => Resource, isIdle: (resource: Resource) => boolean) {
    this.#max = max;
    this.#make = make;
    this.#isIdle = isIdle;
  }

  get(name: string): Resource | undefined {
    return this.#kept.get(name) ?? this.#idle.get(name);
  }

  /**
   * The resource of that name, made if needed; null: so many are in use. `always`: also beyond the limit. settle() must
   * follow.
   */
  open(name: string, always: boolean): Resource | null {
    const known = this.#kept.get(name);
    if (known !== undefined) return known;
    let resource = this.#idle.get(name);
    if (resource === undefined) {
      if (this.#kept.size >= this.#max && !always) return null;
      if (this.#kept.size + this.#idle.size >= this.#max) this.#forgetOne();
      resource = this.#make(name);
    }
    this.#idle.delete(name);
    this.#kept.set(name, resource);
    return resource;
  }

  #forgetOne(): void {
    const [oldest] = this.#idle.keys();
    if (oldest !== undefined) this.#idle.delete(oldest);
  }

  /** The resource may have become idle. */
  settle(resource: Resource): void {
    const { name } = resource;
    if (placeInName(name) < 0 || !this.#isIdle(resource) || !this.#kept.delete(name)) return;
    this.#idle.set(name, resource);
    // Those that were taken beyond the limit are forgotten first.
    if (this.#kept.size + this.#idle.size > this.#max) this.#forgetOne();
  }

  /** Whether the queue is a resource of this table. */
  has(queue: object): queue is Resource {
    return "name" in queue && this.#kept.get(queue.name as string) === queue;
  }

  /** Moves a resource that is in use behind all others. */
  touch(resource: Resource): void {
    if (this.#kept.delete(resource.name)) this.#kept.set(resource.name, resource);
  }

  /** Forgets an object, whatever its state is. */
  forget(name: string): void {
    this.#kept.delete(name);
    this.#idle.delete(name);
  }

  /** Those in use, and those that have names of programs. */
  kept(): IterableIterator<Resource> {
    return this.#kept.values();
  }

  /** Those that lie in that part of the map. */
  within(from: number, to: number): Resource[] {
    return this.save().filter(({ name }) => isWithin(placeInName(name), from, to));
  }

  save(): Resource[] {
    return [...this.#kept.values(), ...this.#idle.values()];
  }

  load(resources: readonly Resource[]): void {
    for (const resource of resources) {
      const isIdle = placeInName(resource.name) >= 0 && this.#isIdle(resource);
      (isIdle ? this.#idle : this.#kept).set(resource.name, resource);
    }
  }
}

/** Whether the place lies from `from` to before `to`. */
export const isWithin = (place: number, from: number, to: number): boolean => place >= from && place < to;
