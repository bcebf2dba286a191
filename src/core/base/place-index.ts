/** PlaceIndex: which objects lie in a part of the map, by the places in their names. */
import { OBJECT_ALIGN } from "./limits.ts";
import { placeInName } from "./names.ts";

export class PlaceIndex {
  readonly #byPlace = new Map<number, string>();

  /** Adds the name if it is that of an object. */
  add(name: string): void {
    const place = placeInName(name);
    if (place >= 0) this.#byPlace.set(place, name);
  }

  delete(name: string): void {
    this.#byPlace.delete(placeInName(name));
  }

  /** Names of those that lie from `from` to before `to`, by place. Costs the smaller of what lies there and what there is. */
  within(from: number, to: number): string[] {
    const names: string[] = [];
    const first = Math.ceil(from / OBJECT_ALIGN) * OBJECT_ALIGN;
    if ((to - first) / OBJECT_ALIGN <= this.#byPlace.size) {
      for (let place = first; place < to; place += OBJECT_ALIGN) {
        const name = this.#byPlace.get(place);
        if (name !== undefined) names.push(name);
      }
      return names;
    }
    const places = [...this.#byPlace.keys()].filter((place) => place >= from && place < to);
    return places.sort((a, b) => a - b).map((place) => this.#byPlace.get(place) as string);
  }
}
