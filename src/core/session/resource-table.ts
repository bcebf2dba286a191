/**
 * ResourceTable: the locks, or the semaphores, of a session by name. A name that a program gave stays. An object in the map
 * that is in its first state, as zero bytes mean it, needs no place here: it is remembered for what it is worth (to which
 * node it went last), and forgotten when its place is needed, the one first that has been idle for longest.
 *
 * Invariants: an idle object is in its first state; what forgetting depends on, the order of the items, is part of the
 * state, so all replicas forget the same.
 */
import { placeInName } from "../base/names.ts";
import { PlaceIndex } from "../base/place-index.ts";

/** Where an item is counted: in use, or a name; lent out, which does not count; in its first state. */
export type Place = "kept" | "lent" | "idle";

export class ResourceTable<Resource extends { name: string }> {
  readonly #max: number;
  readonly #make: (name: string) => Resource;
  readonly #placeOf: (object: Resource) => Place;
  /** Each in the order in which its items came there. */
  readonly #items: Record<Place, Map<string, Resource>> = { kept: new Map(), lent: new Map(), idle: new Map() };
  readonly #places = new PlaceIndex();

  /** `max`: of items that are kept. `placeOf`: where an object in the map belongs. */
  constructor(max: number, make: (name: string) => Resource, placeOf: (object: Resource) => Place) {
    this.#max = max;
    this.#make = make;
    this.#placeOf = placeOf;
  }

  get(name: string): Resource | undefined {
    const { kept, lent, idle } = this.#items;
    return kept.get(name) ?? lent.get(name) ?? idle.get(name);
  }

  /**
   * The resource of that name, made if needed; null: so many are in use. `always`: also beyond the limit. settle() must
   * follow.
   */
  open(name: string, always: boolean): Resource | null {
    const { kept, lent, idle } = this.#items;
    const known = kept.get(name) ?? lent.get(name);
    if (known !== undefined) return known;
    if (kept.size >= this.#max && !always) return null;
    const resource = idle.get(name) ?? this.#make(name);
    idle.delete(name);
    kept.set(name, resource);
    this.#places.add(name);
    this.#trim();
    return resource;
  }

  /** The resource may have changed so that it belongs elsewhere. */
  settle(resource: Resource): void {
    const { name } = resource;
    const place = placeInName(name) < 0 ? "kept" : this.#placeOf(resource);
    if (this.#items[place].has(name)) return;
    for (const items of Object.values(this.#items)) items.delete(name);
    this.#items[place].set(name, resource);
    this.#trim();
  }

  #trim(): void {
    const { kept, idle } = this.#items;
    if (kept.size + idle.size <= this.#max) return;
    const [oldest] = idle.keys();
    if (oldest !== undefined) this.forget(oldest);
  }

  /** Forgets the object, whatever its state is. */
  forget(name: string): void {
    for (const items of Object.values(this.#items)) items.delete(name);
    this.#places.delete(name);
  }

  /** Whether the queue is a resource of this table that is not idle. */
  has(queue: object): queue is Resource {
    if (!("name" in queue)) return false;
    const { kept, lent } = this.#items;
    const name = queue.name as string;
    return (kept.get(name) ?? lent.get(name)) === queue;
  }

  /** All but those that are idle. */
  *inUse(): Generator<Resource> {
    yield* this.#items.kept.values();
    yield* this.#items.lent.values();
  }

  /** How many objects are lent out, and the one that has been for longest. */
  get lent(): number {
    return this.#items.lent.size;
  }

  get firstLent(): Resource | undefined {
    const [first] = this.#items.lent.values();
    return first;
  }

  /** The objects that lie in that part of the map. */
  within(from: number, to: number): Resource[] {
    return this.#places.within(from, to).map((name) => this.get(name) as Resource);
  }

  save(): Resource[] {
    return [...this.inUse(), ...this.#items.idle.values()];
  }

  load(resources: readonly Resource[]): void {
    for (const resource of resources) {
      const { name } = resource;
      const place = placeInName(name) < 0 ? "kept" : this.#placeOf(resource);
      this.#items[place].set(name, resource);
      this.#places.add(name);
    }
  }
}
