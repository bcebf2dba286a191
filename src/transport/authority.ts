/**
 * Certificates, and the authority that signs them, for `dsm cert` and the daemon. Keys are ECDSA on P-256; an authority
 * of an earlier dsm keeps its RSA key. The library takes about 100 ms to load, so this file is imported on demand.
 */
import "reflect-metadata";
import { createPrivateKey, createPublicKey, randomBytes, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
  X509Certificate as X509Parsed,
} from "@peculiar/x509";
import { ROLE_NAMES } from "../core/access/tls.ts";
import { CLOCK_SLACK_MS } from "../core/base/limits.ts";
import { fingerprintOf } from "./fingerprint.ts";

const EC = { name: "ECDSA", namedCurve: "P-256" } as const;
const EC_SIGNING = { name: "ECDSA", hash: "SHA-256" } as const;
const RSA_SIGNING = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" } as const;

const PURPOSES = { server: ExtendedKeyUsage.serverAuth, client: ExtendedKeyUsage.clientAuth } as const;

/** The contents of a certificate. */
export interface Leaf {
  subject: string;
  /** Addresses and names for which it is valid. */
  names: string[];
  /** Ends of a connection at which it may be used. */
  purposes: (keyof typeof PURPOSES)[];
  /** Milliseconds since 1970. */
  notAfter: number;
}

/** A private key as PEM (PKCS #8), and the public one as DER (SubjectPublicKeyInfo). */
export interface KeyPair {
  privateKey: string;
  publicKey: Uint8Array;
}

export async function makeKeyPair(): Promise<KeyPair> {
  const { privateKey, publicKey } = (await crypto.subtle.generateKey(EC, true, ["sign", "verify"])) as CryptoKeyPair;
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", privateKey));
  return {
    privateKey: createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" }).export({
      format: "pem",
      type: "pkcs8",
    }) as string,
    publicKey: new Uint8Array(await crypto.subtle.exportKey("spki", publicKey)),
  };
}

/** Reads the private key for signing, with its public key. Throws as createPrivateKey() does. */
async function importKey(pem: string): Promise<{ signing: CryptoKey; publicKey: Uint8Array }> {
  const key = createPrivateKey(pem);
  const algorithm = key.asymmetricKeyType === "rsa" ? RSA_SIGNING : EC;
  const der = key.export({ format: "der", type: "pkcs8" });
  const signing = await crypto.subtle.importKey("pkcs8", der, algorithm, false, ["sign"]);
  return { signing, publicKey: publicKeyOf(pem) };
}

function publicKeyOf(pem: string): Uint8Array {
  return new Uint8Array(createPublicKey(createPrivateKey(pem)).export({ format: "der", type: "spki" }));
}

/** newSerial returns a positive, random serial number. */
const newSerial = (): string => `01${randomBytes(15).toString("hex")}`;
const signingOf = (key: CryptoKey) => (key.algorithm.name === EC.name ? EC_SIGNING : RSA_SIGNING);
const pem = (certificate: X509Parsed): string => `${certificate.toString("pem")}\n`;

export class Authority {
  /** Its own certificate as PEM. */
  readonly certificate: string;
  readonly fingerprint: string;
  /** End of its certificate, in milliseconds since 1970. No certificate that it signs is valid for longer. */
  readonly notAfter: number;
  readonly #parsed: X509Parsed;
  readonly #key: CryptoKey;

  private constructor(certificate: string, key: CryptoKey, publicKey: Uint8Array) {
    this.certificate = certificate;
    this.fingerprint = fingerprintOf(publicKey);
    this.#parsed = new X509Parsed(certificate);
    this.notAfter = this.#parsed.notAfter.getTime();
    this.#key = key;
  }

  /** Makes an authority: a self-signed certificate for a key that may sign certificates. */
  static async create(privateKey: string, subject: string, life_ms: number): Promise<Authority> {
    const { signing, publicKey } = await importKey(privateKey);
    const key = new PublicKey(publicKey as Uint8Array<ArrayBuffer>);
    const now = Date.now();
    const certificate = await X509CertificateGenerator.create({
      serialNumber: newSerial(),
      subject: [{ CN: [subject] }],
      issuer: [{ CN: [subject] }],
      notBefore: new Date(now - CLOCK_SLACK_MS),
      notAfter: new Date(now + life_ms),
      publicKey: key,
      signingKey: signing,
      signingAlgorithm: signingOf(signing),
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(key),
      ],
    });
    return new Authority(pem(certificate), signing, publicKey);
  }

  /** Reads an authority. Throws if certificate and key are invalid or do not belong together. */
  static async read(certificate: string, privateKey: string): Promise<Authority> {
    if (!new X509Certificate(certificate).checkPrivateKey(createPrivateKey(privateKey))) {
      throw new Error("they do not belong together");
    }
    const { signing, publicKey } = await importKey(privateKey);
    return new Authority(certificate, signing, publicKey);
  }

  /** Signs a certificate, as PEM, for the public key. Throws if the key is invalid. */
  async sign(publicKey: Uint8Array, { subject, names, purposes, notAfter }: Leaf): Promise<string> {
    const key = new PublicKey(publicKey as Uint8Array<ArrayBuffer>);
    const certificate = await X509CertificateGenerator.create({
      serialNumber: newSerial(),
      subject: [{ CN: [subject.slice(0, 64)] }],
      issuer: this.#parsed.subjectName,
      notBefore: new Date(Math.min(Date.now() - CLOCK_SLACK_MS, notAfter - CLOCK_SLACK_MS)),
      notAfter: new Date(Math.min(notAfter, this.notAfter)),
      publicKey: key,
      signingKey: this.#key,
      signingAlgorithm: signingOf(this.#key),
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension(purposes.map((purpose) => PURPOSES[purpose])),
        new SubjectAlternativeNameExtension(
          [...new Set(names)].map((value) => ({ type: isIP(value) === 0 ? "dns" : "ip", value })),
        ),
        await SubjectKeyIdentifierExtension.create(key),
        await AuthorityKeyIdentifierExtension.create(this.#parsed.publicKey),
      ],
    });
    return pem(certificate);
  }
}

/**
 * Validity of an authority. At half of it a daemon renews its certificate, for the same key and so the same
 * fingerprint.
 */
export const AUTHORITY_LIFE_MS = 3650 * 86_400_000;

/** makeDaemonAuthority makes an authority for `privateKey`. Default: a new key, which only this process has. */
export async function makeDaemonAuthority(privateKey?: string): Promise<Authority> {
  const name = `dsm authority ${randomBytes(4).toString("hex")}`;
  return Authority.create(privateKey ?? (await makeKeyPair()).privateKey, name, AUTHORITY_LIFE_MS);
}

/**
 * certifyDaemon makes the certificate of the daemon. It is valid as long as the authority, whose key is in the same
 * process.
 */
export async function certifyDaemon(authority: Authority, names: string[]): Promise<{ cert: string; key: string }> {
  const { privateKey, publicKey } = await makeKeyPair();
  const leaf: Leaf = {
    ...{ subject: "dsm daemon", names: [ROLE_NAMES.daemon, ...names], notAfter: authority.notAfter },
    purposes: ["server", "client"],
  };
  return { cert: await authority.sign(publicKey, leaf), key: privateKey };
}
