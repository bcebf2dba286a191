/** Faults that tests plant into the core, for more than one simulator. */
import { spyOn } from "bun:test";
import { Proposals } from "../../src/core/replica/proposals.ts";
import { Locks } from "../../src/core/session/locks.ts";
import { Membership } from "../../src/core/session/membership.ts";
import { At } from "../../src/core/wire/at.ts";
import { Kind } from "../../src/core/wire/kinds.ts";

export interface Plant {
  mockRestore(): void;
}

/** No process counts as lost when it is decided whether processes may take locks by their cells. */
export function forgetsLosses(): Plant {
  const getter = Object.getOwnPropertyDescriptor(Membership.prototype, "lostRank") as PropertyDescriptor;
  Object.defineProperty(Membership.prototype, "lostRank", { ...getter, get: () => -1 });
  return { mockRestore: () => Object.defineProperty(Membership.prototype, "lostRank", getter) };
}

/** What was leased to a node that is gone counts as free. */
export function freesLeasesOfTheLost(): Plant {
  const { endLeasesOf } = Locks.prototype;
  return spyOn(Locks.prototype, "endLeasesOf").mockImplementation(function (this: Locks, node) {
    endLeasesOf.call(this, node, -1);
  });
}

/** An arbiter proposes each RETURN once more, a few proposals later. */
export function returnsTwice(): Plant {
  const { add } = Proposals.prototype;
  const late = new WeakMap<Proposals, { frame: Uint8Array; after: number }>();
  return spyOn(Proposals.prototype, "add").mockImplementation(function (this: Proposals, view, frame) {
    add.call(this, view, frame);
    const kept = late.get(this);
    if (view.getUint8(At.kind) === Kind.RETURN) late.set(this, { frame: frame.slice(), after: 4 });
    else if (kept !== undefined) {
      kept.after -= 1;
      if (kept.after > 0) return;
      late.delete(this);
      add.call(this, new DataView(kept.frame.buffer), kept.frame);
    }
  });
}
