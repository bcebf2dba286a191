/** The orders by name and number. */
import { expect, test } from "bun:test";
import { checkOrder, DEFAULT_ORDER, ORDERS, orderNumber, orderOfNumber } from "../../src/core/base/consistency.ts";

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
