/** Entries of a connection reach their receiver once each, in sequence; when it acknowledges. */
import { expect, test } from "bun:test";
import { type DeliveryEvents, EntryDelivery, type EntryReceiver } from "../../src/arbiter/entry-delivery.ts";
import { ACK_BYTES } from "../../src/core/base/limits.ts";
import { ProtocolError } from "../../src/core/wire/frame.ts";

class Receiver implements EntryReceiver, DeliveryEvents {
  readonly events: string[] = [];
  confirmed = 0;
  retainedBytes = 0;
  /** The first byte of what it cannot take. */
  refused = 0;

  receiveEntries(bytes: Uint8Array): void {
    this.#take("entries", bytes);
  }

  receivePart(part: Uint8Array): void {
    this.#take("part", part);
  }

  #take(what: string, bytes: Uint8Array): void {
    if (bytes[0] === this.refused) throw new ProtocolError("an entry of the order is missing");
    this.events.push(`${what} ${bytes.join()}`);
    this.confirmed = bytes[0] as number;
  }

  afterEvent(): void {
    this.events.push("after");
  }

  onDamage({ message }: ProtocolError): void {
    this.events.push(message);
  }
}

function setUp(): { delivery: EntryDelivery; receiver: Receiver; collected: () => number } {
  let collected = 0;
  const delivery = new EntryDelivery(() => {
    collected += 1;
  });
  return { delivery, receiver: new Receiver(), collected: () => collected };
}

test("what came before there was a receiver comes first, as it was then", () => {
  const { delivery, receiver } = setUp();
  const chunk = Uint8Array.of(1, 1);
  delivery.entries(chunk);
  // A part is copied: its memory is the caller's again.
  const part = Uint8Array.of(2, 2);
  expect(delivery.part(part)).toBe(false);
  chunk.fill(9);
  part.fill(9);
  expect(delivery.isFollowed).toBe(false);
  delivery.follow(receiver, receiver);
  expect(delivery.isFollowed).toBe(true);
  delivery.entries(Uint8Array.of(3));
  expect(delivery.part(Uint8Array.of(4))).toBe(true);
  expect(receiver.events).toEqual(["entries 1,1", "after", "entries 2,2", "after", "entries 3", "after", "part 4"]);
});

test("after an entry that the receiver cannot take it gets none, and is told once", () => {
  for (const refuse of [
    (delivery: EntryDelivery) => delivery.entries(Uint8Array.of(7)),
    (delivery: EntryDelivery) => delivery.part(Uint8Array.of(7)),
  ]) {
    const { delivery, receiver } = setUp();
    receiver.refused = 7;
    delivery.follow(receiver, receiver);
    delivery.entries(Uint8Array.of(1));
    refuse(delivery);
    delivery.entries(Uint8Array.of(2));
    expect(delivery.part(Uint8Array.of(3))).toBe(false);
    expect(receiver.events).toEqual(["entries 1", "after", "an entry of the order is missing"]);
  }
});

test("also not of those that came early", () => {
  const { delivery, receiver } = setUp();
  receiver.refused = 1;
  for (const first of [1, 2]) delivery.entries(Uint8Array.of(first));
  delivery.follow(receiver, receiver);
  expect(receiver.events).toEqual(["an entry of the order is missing"]);
});

test("once stopped nothing is delivered, before and after there is a receiver", () => {
  const { delivery, receiver } = setUp();
  delivery.entries(Uint8Array.of(1));
  delivery.stop();
  delivery.follow(receiver, receiver);
  delivery.entries(Uint8Array.of(2));
  expect(delivery.part(Uint8Array.of(3))).toBe(false);
  expect(receiver.events).toEqual([]);
});

test("an error that is not the peer's is a bug, and comes through", () => {
  const { delivery, receiver } = setUp();
  const broken: EntryReceiver = {
    confirmed: 0,
    retainedBytes: 0,
    receivePart() {},
    receiveEntries() {
      throw new RangeError("a bug");
    },
  };
  delivery.follow(broken, receiver);
  expect(() => delivery.entries(Uint8Array.of(1))).toThrow("a bug");
});

test("it is time to acknowledge after so many bytes; garbage is collected far less often", () => {
  const { delivery, receiver, collected } = setUp();
  expect(delivery.needsAcknowledgement).toBe(false);
  expect(delivery.acknowledge()).toBe(0);
  delivery.follow(receiver, receiver);
  receiver.retainedBytes = ACK_BYTES - 1;
  expect(delivery.needsAcknowledgement).toBe(false);
  receiver.retainedBytes = ACK_BYTES;
  receiver.confirmed = 12;
  expect(delivery.needsAcknowledgement).toBe(true);
  expect(delivery.acknowledge()).toBe(12);
  expect(delivery.needsAcknowledgement).toBe(false);
  expect(collected()).toBe(0);
  let acknowledged = 1;
  for (; collected() === 0 && acknowledged < 1_000_000; acknowledged += 1) {
    receiver.retainedBytes += ACK_BYTES;
    delivery.acknowledge();
  }
  expect(acknowledged * ACK_BYTES).toBe(32 << 20);
});
