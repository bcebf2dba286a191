/** What the server answers to a STATUS frame. */
import type { Order } from "../base/consistency.ts";
import type { OnLoss } from "../base/loss-policy.ts";
import type { ServerStatus } from "./daemon-api.ts";

/** The answer to a STATUS frame: what the directory shows, and more for those who ask the server itself. */
export interface StatusReport extends ServerStatus {
  name: string;
  phase: string;
  order: Order;
  onLoss: OnLoss;
  elastic: boolean;
  direct: boolean;
  size: number;
  base: string;
  processes: number;
  nodes: string[];
}
