/**
 * The browser's side of the proofs of requests to a daemon with a token: core/access/auth.ts uses node:crypto, this
 * file WebCrypto. The page keeps the token in memory as a key that cannot be extracted; it is never stored, sent, or
 * part of an address.
 */

const text = new TextEncoder();

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function hash(body: Uint8Array<ArrayBuffer>): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", body)));
}

/** readChallenge returns the nonce of a WWW-Authenticate header, or null. */
function readChallenge(header: string | null): string | null {
  return /^DSM-HMAC-SHA256 nonce="([0-9a-f]{80})"$/.exec(header ?? "")?.[1] ?? null;
}

export interface ProvenAnswer {
  status: number;
  body: Uint8Array<ArrayBuffer>;
}

export class WrongToken extends Error {}

export class Prover {
  readonly #key: CryptoKey;

  private constructor(key: CryptoKey) {
    this.#key = key;
  }

  static async create(token: string): Promise<Prover> {
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    return new Prover(await crypto.subtle.importKey("raw", text.encode(token), algorithm, false, ["sign"]));
  }

  async #sign(lines: string[]): Promise<string> {
    return hex(new Uint8Array(await crypto.subtle.sign("HMAC", this.#key, text.encode(lines.join("\n")))));
  }

  /** GET with a challenge and a proof; checks the proof of the answer. Throws WrongToken. */
  async get(path: string): Promise<ProvenAnswer> {
    const challenge = await fetch("/v1/health");
    const nonce = readChallenge(challenge.headers.get("www-authenticate"));
    await challenge.body?.cancel();
    if (nonce === null) throw new Error("the daemon no longer demands a token");
    const cnonce = hex(crypto.getRandomValues(new Uint8Array(32)));
    const nothing = await hash(new Uint8Array(0));
    const proof = await this.#sign(["dsm http request", "GET", `${location.host}${path}`, nonce, cnonce, nothing]);
    const authorization = `DSM-HMAC-SHA256 nonce="${nonce}", cnonce="${cnonce}", body="${nothing}", proof="${proof}"`;
    const response = await fetch(path, { headers: { authorization } });
    if (response.status === 401) throw new WrongToken();
    const body = new Uint8Array(await response.arrayBuffer());
    const expected = await this.#sign(["dsm http answer", nonce, cnonce, String(response.status), await hash(body)]);
    if (response.headers.get("dsm-proof") !== expected) throw new WrongToken();
    return { status: response.status, body };
  }
}
