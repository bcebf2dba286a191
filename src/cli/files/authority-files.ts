/**
 * The authority of this user's daemons: authority-key.pem and authority.pem in ~/.config/dsm, beside the token. The hash
 * of the key is the fingerprint in tokens, and the key outlives every daemon. The certificate, which is public, is made
 * from the key, again when it is missing or half of its lifetime is over.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { chmodSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DsmError } from "../../core/base/errors.ts";
import { AUTHORITY_LIFE_MS, Authority, makeDaemonAuthority, makeKeyPair } from "../../transport/authority.ts";
import { invalid } from "../settings/options.ts";
import { configFolder, MissingFile, readSecret, writeSecret } from "../settings/security.ts";

const KEY_MAX = 64 << 10;

export const authorityPath = (): string => join(configFolder(), "authority.pem");
const keyPath = (): string => join(configFolder(), "authority-key.pem");

/** Throws DSM_INVALID when it cannot be used, DSM_SYSTEM when it cannot be made. */
export async function daemonAuthority(): Promise<Authority> {
  const key = await readOrMakeKey();
  const there = await readCertificate(key);
  if (there !== null && there.notAfter - Date.now() > AUTHORITY_LIFE_MS / 2) return there;
  const authority = await makeDaemonAuthority(key);
  write(authorityPath(), authority.certificate, "replace");
  chmodSync(authorityPath(), 0o644);
  return authority;
}

async function readOrMakeKey(): Promise<string> {
  for (;;) {
    try {
      const key = readSecret(keyPath(), "key", KEY_MAX);
      createPrivateKey(key);
      return key;
    } catch (error) {
      if (error instanceof MissingFile) {
        // If two daemons start at once, one makes the key, and both read it.
        write(keyPath(), (await makeKeyPair()).privateKey, "new");
        continue;
      }
      if (error instanceof DsmError) throw error;
      throw invalid(`${keyPath()} is no private key: ${(error as Error).message}; remove it for a new one`);
    }
  }
}

/** Null: no certificate belongs to this key. */
async function readCertificate(key: string): Promise<Authority | null> {
  try {
    const text = readFileSync(authorityPath(), "utf8");
    if (!new X509Certificate(text).ca) return null;
    return await Authority.read(text, key);
  } catch {
    return null;
  }
}

function write(path: string, text: string, how: "new" | "replace"): void {
  try {
    writeSecret(path, text, how);
  } catch (error) {
    const { code } = error as { code?: string };
    throw new DsmError(
      "DSM_SYSTEM",
      `the daemon's authority ${path} cannot be written: ${code}; set XDG_CONFIG_HOME, give --tls-cert, or turn TLS off with --tls-off`,
    );
  }
}
