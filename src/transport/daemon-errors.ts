/** Errors between a client and the session daemon, each in one line with advice. */
import { TOKEN_ADVICE } from "../core/access/auth.ts";
import type { Tls } from "../core/access/tls.ts";
import { DsmError } from "../core/base/errors.ts";
import { PROTOCOL_VERSION } from "../core/base/limits.ts";
import { isLoopback } from "../core/base/names.ts";
import type { Health } from "../core/messages/daemon-api.ts";
import { shortFingerprint } from "./fingerprint.ts";

/** Codes of OpenSSL for rejected certificates and failed handshakes. */
const TLS_ERROR = /^(EPROTO|CERT_|ERR_TLS|UNABLE_TO|SELF_SIGNED|DEPTH_ZERO|INVALID_|PATH_LENGTH|HOSTNAME_|ERROR_IN_)/;
const NOT_REACHED = /^(E(HOST|NET|CONN|TIMED|ADDR|ACCES|PERM)|FailedToOpenSocket|ConnectionTimeout)/;

/** "refused": nothing listens there. "reset": the listener closed the connection before it answered. */
export type ConnectionFailure = "refused" | "reset" | DsmError;

export class DaemonErrors {
  readonly #address: string;
  readonly #host: string;
  /** Whether the user gave certificate files. */
  readonly #ownTls: boolean;

  constructor(address: string, host: string, ownTls: boolean) {
    this.#address = address;
    this.#host = host;
    this.#ownTls = ownTls;
  }

  /** `error` is what fetch() threw; `tls` is what the connection used. */
  classify(error: Error, tls: Tls | null): ConnectionFailure {
    const { code, name, message } = error as { code?: string | number; name?: string; message?: string };
    // An AbortSignal's error has the number of a DOMException as its code.
    if (name === "TimeoutError" || name === "AbortError") return this.silent();
    if (typeof code !== "string") return this.unreachable(message ?? String(error));
    if (code === "ECONNREFUSED" || code === "ConnectionRefused") return "refused";
    if (tls && TLS_ERROR.test(code)) {
      const otherName = code === "ERR_TLS_CERT_ALTNAME_INVALID";
      return this.noTls(
        otherName ? `its certificate is not for ${tls.serverName ?? this.#host}` : (message?.split(".")[0] ?? code),
      );
    }
    if (code === "ECONNRESET" || code === "ConnectionClosed") return "reset";
    if (code === "ENOTFOUND" || code === "DNSException" || code === "EAI_AGAIN") {
      return this.unreachable("there is no such host");
    }
    // All other errors of reading an answer mean that it is not HTTP.
    return NOT_REACHED.test(code) ? this.unreachable(message ?? code) : this.notDaemon();
  }

  /** What to do when the token here is older than the daemon's authority. */
  get #copyAgain(): string {
    return `copy the daemon's token here again: scp ${this.#host}:.config/dsm/token ~/.config/dsm/token`;
  }

  tokenNeeded(): DsmError {
    return new DsmError("DSM_REFUSED", `the session daemon at ${this.#address} needs a token; ${TOKEN_ADVICE}`);
  }

  tokenWithoutAuthority(): DsmError {
    return new DsmError(
      "DSM_REFUSED",
      `the token names no authority by which the session daemon at ${this.#address} could be known; ${this.#copyAgain} ` +
        "(or set DSM_TOKEN=TOKEN:FINGERPRINT, DSM_TLS_CA, or DSM_TLS_OFF=1 for a daemon without TLS)",
    );
  }

  otherAuthority(fingerprint: string): DsmError {
    return new DsmError(
      "DSM_REFUSED",
      `what listens at ${this.#address} does not have the authority that the token names (${shortFingerprint(fingerprint)}): it may be ` +
        `another machine that takes its place; if the daemon was set up anew, ${this.#copyAgain}`,
    );
  }

  plainOnly(): DsmError {
    return new DsmError(
      "DSM_REFUSED",
      `what listens at ${this.#address} does not speak TLS, and the token names an authority: start the daemon without ` +
        "--tls-off, or set DSM_TLS_OFF=1 here too, which lets an attacker on the network read and change all traffic",
    );
  }

  unproven(): DsmError {
    return new DsmError(
      "DSM_REFUSED",
      `what listens at ${this.#address} does not prove that it knows the token; check the address, and that both have the same`,
    );
  }

  /** `advice` may add to what the user can do. */
  notDaemon(advice = ""): DsmError {
    return new DsmError(
      "DSM_PROTOCOL",
      `something other than a dsm daemon is listening on ${this.#address}; ` +
        `set DSM_DAEMON or --daemon to the daemon's address${advice}`,
    );
  }

  noTls(reason: string): DsmError {
    const advice = this.#ownTls
      ? "check DSM_TLS_CA, and what the daemon was started with"
      : "check the clocks of both machines, and whether another one takes the daemon's place";
    return new DsmError("DSM_REFUSED", `no TLS with the session daemon at ${this.#address}: ${reason}; ${advice}`);
  }

  silent(): DsmError {
    return this.unreachable("it takes connections but does not answer");
  }

  unreachable(reason: string): DsmError {
    const cure = isLoopback(this.#host)
      ? 'start one with "dsm daemon"'
      : "check the address, and that the daemon there was started with --host";
    return new DsmError(
      "DSM_UNREACHABLE",
      `the session daemon at ${this.#address} cannot be reached: ${reason}; ${cure}`,
    );
  }

  otherVersion({ version, protocol }: Health): DsmError {
    return new DsmError(
      "DSM_VERSION",
      `the session daemon at ${this.#address} (dsm ${version}) speaks protocol version ${protocol}, ` +
        `this is version ${PROTOCOL_VERSION}; install the same dsm on both`,
    );
  }
}
