/**
 * How strictly a session orders its stores. Numbers travel in frames and equal `enum dsm_order` in dsm.h; 0 is "any".
 */
export const ORDERS = ["sequential", "release", "pipelined"] as const;
/** Which stores of a session other processes see, and when. */
export type Order = (typeof ORDERS)[number];

export const DEFAULT_ORDER: Order = "sequential";

/** Whether processes of such a session queue stores in a ring of their node (core/wire/ring-layout.ts). */
export const usesRing = (order: Order): boolean => order !== "sequential";

export const orderNumber = (order: Order): number => ORDERS.indexOf(order) + 1;

/** The order with that number, or null for 0 and unknown numbers. */
export const orderOfNumber = (number: number): Order | null => ORDERS[number - 1] ?? null;

/** The reason why `order` is not an order, in one line, or null. */
export function checkOrder(order: string): string | null {
  if ((ORDERS as readonly string[]).includes(order)) return null;
  return `there is no order "${order}"; choose ${ORDERS.slice(0, -1).join(", ")} or ${ORDERS.at(-1)}`;
}
