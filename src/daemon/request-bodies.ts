/** Parses requests to the daemon: bodies, names in paths, numbers in queries. Throws DSM_INVALID or HttpError. */
import type * as v from "valibot";
import { DsmError } from "../core/base/errors.ts";
import { checkName, isLoopback } from "../core/base/names.ts";
import { exactSize } from "../core/base/size.ts";
import {
  type CertificateRequest,
  CertificateRequestSchema,
  type FindRequest,
  FindRequestSchema,
  type Registration,
  RegistrationSchema,
  type SuccessionRequest,
  SuccessionRequestSchema,
} from "../core/messages/daemon-api.ts";
import { check, sentence } from "../core/messages/schema.ts";
import { HttpError } from "./http.ts";

/** Limit of the bytes of a body. */
export const BODY_MAX = 64 << 10;

export const readFind = (request: Request): Promise<FindRequest> => readBody(FindRequestSchema, request);
export const readCertificateRequest = (request: Request): Promise<CertificateRequest> =>
  readBody(CertificateRequestSchema, request);

export async function readSuccession(name: string, request: Request): Promise<SuccessionRequest> {
  return { name, ...(await readBody(SuccessionRequestSchema, request)) };
}

/** `peer`: the address from which the server registers. */
export async function readRegistration(name: string, request: Request, peer: string): Promise<Registration> {
  const registration = await readBody(RegistrationSchema, request);
  const { host } = registration;
  if (isLoopback(host) && !isLoopback(peer)) {
    throw new DsmError(
      "DSM_INVALID",
      `the server listens on ${host} but the daemon is on another host; start it with --host and its own address`,
    );
  }
  return { name, ...registration };
}

async function readBody<Schema extends v.GenericSchema>(
  schema: Schema,
  request: Request,
): Promise<v.InferOutput<Schema>> {
  const type = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") {
    throw new HttpError(415, "DSM_INVALID", "the body must be JSON with content-type application/json");
  }
  let body: unknown;
  const bytes = await readBytes(request);
  try {
    body = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new DsmError("DSM_INVALID", "the body is not JSON");
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new DsmError("DSM_INVALID", "the body is not a JSON object");
  }
  const result = check(schema, body);
  if (result.fault !== null) throw new DsmError("DSM_INVALID", sentence(result.fault));
  return result.value;
}

export async function readBytes(request: Request): Promise<Uint8Array> {
  const tooLarge = new HttpError(413, "DSM_INVALID", `the body is larger than the limit of ${exactSize(BODY_MAX)}`);
  if (Number(request.headers.get("content-length")) > BODY_MAX) throw tooLarge;
  const bytes = await request.bytes();
  if (bytes.length > BODY_MAX) throw tooLarge;
  return bytes;
}

/**
 * readName decodes the name of a session in a path. Bun's decoding replaces invalid bytes, which would change the
 * name.
 */
export function readName(encoded: string): string {
  let name: string;
  try {
    name = decodeURIComponent(encoded);
  } catch {
    throw new DsmError("DSM_INVALID", "the session name in the path is not valid URL encoding");
  }
  const fault = checkName("session", name);
  if (fault !== null) throw new DsmError("DSM_INVALID", fault);
  return name;
}

export interface QueryNumber {
  field: string;
  /** Value if the query has none. */
  otherwise: number;
  least?: number;
  most?: number;
}

export function readQuery(query: URLSearchParams, { field, otherwise, least = 0, most }: QueryNumber): number {
  const text = query.get(field);
  const number = text === null ? otherwise : /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(number)) throw new DsmError("DSM_INVALID", `${field} is not a whole number`);
  if (!Number.isSafeInteger(number)) throw new DsmError("DSM_INVALID", `${field} is too large`);
  if (number < least || (most !== undefined && number > most)) {
    throw new DsmError("DSM_INVALID", `${field} is ${number}; it must be a whole number from ${least} to ${most}`);
  }
  return number;
}
