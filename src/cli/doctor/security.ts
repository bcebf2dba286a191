/** Checks of the token and the TLS files: whether they exist, fit together, and stay valid. */
import { isLoopback } from "../../core/base/names.ts";
import { shortFingerprint } from "../../transport/fingerprint.ts";
import {
  readCertificate,
  readSecurity,
  readTls,
  readTlsFiles,
  readTokenFile,
  tokenPath,
} from "../settings/security.ts";
import { type Finding, failureOf } from "./finding.ts";

/** Checks that the shared token exists where it is needed, and that only this user can read it. */
export function checkToken(host: string): Finding {
  const check = "token";
  const path = tokenPath();
  try {
    if (process.env.DSM_TOKEN) {
      readSecurity(host, null);
      return { check, state: "ok", found: "in DSM_TOKEN; demanded everywhere" };
    }
    if (readTokenFile(path) !== null) return { check, state: "ok", found: `${path}, readable by you alone` };
  } catch (error) {
    return failureOf(
      check,
      error,
      "make it your own with mode 600; if others may have read it, remove it for a new one",
    );
  }
  if (isLoopback(host)) return { check, state: "ok", found: "none; not needed on loopback" };
  const advice = `copy ${path} from the daemon's machine, or set DSM_TOKEN`;
  return { check, state: "failure", found: `none, but the daemon is at ${host}`, advice };
}

/** A certificate that expires sooner deserves a warning. */
const EXPIRY_WARNING_MS = 30 * 86_400_000;

/** Checks that the TLS files can be read and fit together, and for how long they are valid. */
export function checkTls(host: string): Finding[] {
  const check = "TLS";
  const advice = 'make new ones with "dsm cert", and set DSM_TLS_CA, DSM_TLS_CERT and DSM_TLS_KEY';
  try {
    const files = readTlsFiles();
    if (readTls(files, false) === null) return [checkPinned(check, host)];
    return [files.ca, files.cert].flatMap((path): Finding[] => {
      if (path === undefined) return [];
      const { validFrom, validTo } = readCertificate(path).certificate;
      const left = Date.parse(validTo) - Date.now();
      if (left <= 0) return [{ check, state: "failure", found: `${path} expired on ${validTo}`, advice }];
      if (Date.parse(validFrom) > Date.now()) {
        const found = `${path} is not good before ${validFrom}`;
        return [{ check, state: "failure", found, advice: "set this machine's clock right" }];
      }
      const found = `${path} is good until ${validTo}`;
      return [left < EXPIRY_WARNING_MS ? { check, state: "warning", found, advice } : { check, state: "ok", found }];
    });
  } catch (error) {
    return [failureOf(check, error, advice)];
  }
}

/** Checks TLS where the user has no files for it: the token names the authority. */
function checkPinned(check: string, host: string): Finding {
  const { fingerprint, tlsOff } = readSecurity(host);
  if (isLoopback(host)) return { check, state: "ok", found: "not needed on loopback" };
  if (tlsOff === true) {
    const found = "turned off: others on the way can read and change what is sent";
    return { check, state: "warning", found, advice: "start the daemon without --tls-off, and unset DSM_TLS_OFF" };
  }
  if (fingerprint)
    return { check, state: "ok", found: `by the authority ${shortFingerprint(fingerprint)} of the token` };
  const advice = `copy the daemon's token here again: scp ${host}:.config/dsm/token ~/.config/dsm/token`;
  return { check, state: "failure", found: "the token names no authority of the daemon's", advice };
}
