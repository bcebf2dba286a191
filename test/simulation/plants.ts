/** Faults that tests plant into the core, for more than one simulator. */
import { spyOn } from "bun:test";
import { Proposals } from "../../src/core/replica/proposals.ts";
import { At } from "../../src/core/wire/at.ts";
import { Kind } from "../../src/core/wire/kinds.ts";

/** An arbiter proposes each RETURN once more, a few proposals later. */
export function returnsTwice(): { mockRestore(): void } {
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
