/** The DsmError with which a promise must reject. */
import { expect } from "bun:test";
import { DsmError } from "../../src/core/base/errors.ts";

export async function errorOf(promise: Promise<unknown>): Promise<DsmError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(DsmError);
  return error as DsmError;
}
