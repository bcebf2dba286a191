/**
 * ResourceTable: the locks, or the semaphores, of a session by name. A name that a program gave stays. An object in the map
 * that is idle, in its first state as zero bytes mean it, needs no place here: it is remembered for what it is worth (to
 * which node it went last) until the table is full, and then all that are idle are forgotten. Objects that are lent to a node
 * do not count.
 *
 * Invariant: what is forgotten follows from the state alone, so all replicas forget the same.
 */
import { isObjectName } from "../base/names.ts";
import { PlaceIndex } from "../base/place-index.ts";

export class ResourceTable<Resource extends { name: string }> {
  readonly #max: number;
  readonly #make: (name: string) => Resource;
  readonly #isIdle: (object: Resource) => boolean;
  readonly #items = new Map<string, Resource>();
  /** Objects that are lent, in the order in which they were. */
  readonly #lent = new Map<string, Resource>();
  readonly #places = new PlaceIndex();

  /** `isIdle`: whether an object is in its first state. */
  constructor(max: number, make: (name: string) => Resource, isIdle: (object: Resource) => boolean) {
    this.#max = max;
    this.#make = make;
    this.#isIdle = isIdle;
  }

  get(name: string): Resource | undefined {
    return this.#items.get(name) ?? this.#lent.get(name);
  }

  /** The resource of that name, made if needed; null: so many are in use. `always`: also beyond the limit. */
  open(name: string, always: boolean): Resource | null {
    const known = this.get(name);
    if (known !== undefined) return known;
    if (this.#items.size >= this.#max) this.#forgetIdle();
    if (this.#items.size >= this.#max && !always) return null;
    const resource = this.#make(name);
    this.#items.set(name, resource);
    this.#places.add(name);
    return resource;
  }

  #forgetIdle(): void {
    for (const [name, resource] of this.#items) if (isObjectName(name) && this.#isIdle(resource)) this.forget(name);
  }

  /** Forgets the object, whatever its state is. */
  forget(name: string): void {
    this.#items.delete(name);
    this.#lent.delete(name);
    this.#places.delete(name);
  }

  /** Whether the queue is a resource of this table. */
  has(queue: object): queue is Resource {
    return "name" in queue && this.get(queue.name as string) === queue;
  }

  /** The object is lent, or it is not any more. Other resources count in any case. */
  setLent(resource: Resource, isLent: boolean): void {
    const { name } = resource;
    if (!isObjectName(name)) return;
    (isLent ? this.#items : this.#lent).delete(name);
    (isLent ? this.#lent : this.#items).set(name, resource);
  }

  /** How many objects are lent. */
  get lent(): number {
    return this.#lent.size;
  }

  /** Objects that are lent, those first that have been for longest. */
  allLent(): IterableIterator<Resource> {
    return this.#lent.values();
  }

  /** All but objects that are idle. */
  *inUse(): Generator<Resource> {
    for (const resource of this.#items.values())
      if (!this.#isIdle(resource) || !isObjectName(resource.name)) yield resource;
    yield* this.#lent.values();
  }

  /** The objects that lie in that part of the map. */
  within(from: number, to: number): Resource[] {
    return this.#places.within(from, to).map((name) => this.get(name) as Resource);
  }

  save(): Resource[] {
    return [...this.#items.values(), ...this.#lent.values()];
  }

  /** `isLent`: which objects are. */
  load(resources: readonly Resource[], isLent: (resource: Resource) => boolean): void {
    for (const resource of resources) {
      const { name } = resource;
      const items = isObjectName(name) && isLent(resource) ? this.#lent : this.#items;
      items.set(name, resource);
      this.#places.add(name);
    }
  }
}
