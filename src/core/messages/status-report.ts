/** The server's answer to a STATUS frame. */
import type * as v from "valibot";
import { checkOrder, type Order } from "../base/consistency.ts";
import { LINKS_MAX } from "../base/limits.ts";
import { checkOnLoss, type OnLoss } from "../base/loss-policy.ts";
import { StatusPhase, statusEntries } from "./daemon-api.ts";
import { count, flag, list, record, text, textBy } from "./schema.ts";

/** The facts that the daemon shows of a session, and more for clients that ask the server itself. */
export const StatusReportSchema = record({
  ...statusEntries,
  name: text(),
  phase: StatusPhase,
  order: textBy<Order>(checkOrder),
  onLoss: textBy<OnLoss>(checkOnLoss),
  elastic: flag,
  /** Bytes of the map. */
  size: count,
  /** Address of the map, in hex. */
  base: text(),
  processes: count,
  nodes: list(LINKS_MAX, text()),
});
export type StatusReport = v.InferOutput<typeof StatusReportSchema>;
