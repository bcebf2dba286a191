/** Renewal of certificates when the daemon fails for a while. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { Security } from "../../src/core/access/tls.ts";
import { DsmError } from "../../src/core/base/errors.ts";
import type { SignedCertificate } from "../../src/core/messages/daemon-api.ts";
import { obtainCredentials } from "../../src/transport/credentials.ts";

setDefaultTimeout(60_000);

const LIFE_MS = 400;

/** A daemon that signs, but for the calls whose numbers are in `fails`. */
function directory(fails: readonly number[], failure: () => null) {
  let calls = 0;
  const security: Security = { token: null, fingerprint: null, always: true, tls: { ca: "authority" } };
  return {
    security: async () => security,
    certify: async (): Promise<SignedCertificate | null> => {
      calls += 1;
      if (fails.includes(calls)) return failure();
      return { certificate: `certificate ${calls}`, authority: "authority", life_ms: LIFE_MS };
    },
  };
}

const unreachable = (): null => {
  throw new DsmError("DSM_UNREACHABLE", "the daemon does not answer");
};

test.each([
  ["the daemon cannot be reached", unreachable],
  ["the daemon has no authority for a while", () => null],
])("a renewal that fails is tried again while the certificate is valid: %s", async (_, failure) => {
  const credentials = await obtainCredentials(directory([2, 3, 5], failure), "arbiter");
  const renewals: (string | undefined)[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  credentials.renewed = () => {
    renewals.push(credentials.security.tls?.cert);
    if (renewals.length === 2) resolve();
  };
  await promise;
  credentials.stop();
  expect(renewals).toEqual(["certificate 4", "certificate 6"]);
});
