/** The orders by name and number, and how a session that differs is described. */
import { describe, expect, test } from "bun:test";
import { checkOrder, DEFAULT_ORDER, ORDERS, orderNumber, orderOfNumber } from "../../src/core/base/consistency.ts";
import { describeConfigMismatch } from "../../src/core/messages/handshake.ts";

test("numbers stay what dsm.h says", () => {
  expect(ORDERS.map(orderNumber)).toEqual([1, 2, 3]);
  expect(orderNumber("sequential")).toBe(1);
  expect(orderNumber("release")).toBe(2);
  expect(orderNumber("pipelined")).toBe(3);
  for (const order of ORDERS) expect(orderOfNumber(orderNumber(order))).toBe(order);
  for (const number of [0, -1, ORDERS.length + 1, 0xffff, 1.5, Number.NaN]) expect(orderOfNumber(number)).toBeNull();
  expect(DEFAULT_ORDER).toBe("sequential");
});

test("checkOrder accepts the existing orders and names them for any other value", () => {
  for (const order of ORDERS) expect(checkOrder(order)).toBeNull();
  for (const bad of ["", "Sequential", "release ", "weak", "constructor"]) {
    expect(checkOrder(bad)).toBe(`there is no order "${bad}"; choose sequential, release or pipelined`);
  }
});

describe("describeConfigMismatch", () => {
  const config = {
    name: "s",
    instance: "1",
    processes: 3,
    size: 8192,
    base: 0,
    order: "release",
    onLoss: "continue",
  } as const;

  test("a process without expectations, or with the session's settings, is admitted", () => {
    expect(describeConfigMismatch(config, 0, 0, "")).toBeNull();
    expect(describeConfigMismatch(config, 3, 8192, "release")).toBeNull();
    expect(describeConfigMismatch(config, 3, 8192, "release", "continue")).toBeNull();
  });

  test("each difference is named", () => {
    expect(describeConfigMismatch(config, 2, 8192, "release")).toContain("is for 3 processes, not 2");
    expect(describeConfigMismatch(config, 3, 4096, "release")).toContain("has a map of 8192 bytes, not 4096");
    expect(describeConfigMismatch(config, 3, 8192, "sequential")).toContain("has the order release, not sequential");
    expect(describeConfigMismatch(config, 3, 8192, "release", "fail")).toContain(
      "answers a loss with continue, not fail",
    );
  });
});
