/** What a test needs to stand in for parts of a cluster. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { signedFetch } from "./signed-fetch.ts";

/** Registers a server of the test's own with a daemon that demands a token. */
export async function registerAt(daemon: string, token: Uint8Array, session: string, entry: object): Promise<void> {
  const response = await signedFetch(token, "PUT", `http://${daemon}/v1/sessions/${session}`, entry);
  if (!response.ok) throw new Error(await response.text());
}

/** Bun's options for a server with the certificate of a folder. */
export function tls(folder: string): { cert: string; key: string } {
  const read = (name: string): string => readFileSync(join(folder, name), "utf8");
  return { cert: read("127.0.0.1.pem"), key: read("127.0.0.1-key.pem") };
}
