/**
 * Parses what servers and daemons report of their sessions. An answer of another shape gives null. Unknown fields stay
 * in an answer: `--json` shows them.
 */
import type * as v from "valibot";
import { CONTROLS } from "../base/names.ts";
import {
  type Health,
  HealthSchema,
  type SessionAddress,
  SessionAddressSchema,
  type SessionDetail,
  SessionDetailSchema,
  type SessionSummary,
  SessionSummarySchema,
} from "./daemon-api.ts";
import { isMessage } from "./schema.ts";
import { type StatusReport, StatusReportSchema } from "./status-report.ts";

/** Fields with PEM texts, which have several lines. Only a certificate parser reads them, and they are never shown. */
const PEM_FIELDS: ReadonlySet<string> = new Set(["certificate", "authority"]);

/**
 * Parses the JSON of another program, and replaces characters that could change how a terminal shows the surrounding
 * text by spaces. Throws SyntaxError.
 */
export function parseForeign(text: string): unknown {
  return JSON.parse(text, (key, value) =>
    typeof value === "string" && !PEM_FIELDS.has(key) ? value.replace(CONTROLS, " ") : value,
  );
}

export const readAddress = (value: unknown): SessionAddress | null => read(SessionAddressSchema, value);
export const readSummary = (value: unknown): SessionSummary | null => read(SessionSummarySchema, value);
export const readDetail = (value: unknown): SessionDetail | null => read(SessionDetailSchema, value);
export const readHealth = (value: unknown): Health | null => read(HealthSchema, value);
export const readStatus = (value: unknown): StatusReport | null => read(StatusReportSchema, value);

function read<Schema extends v.GenericSchema>(schema: Schema, value: unknown): v.InferOutput<Schema> | null {
  return isMessage(schema, value) ? value : null;
}
