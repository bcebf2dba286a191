/**
 * Tokens and certificates as the user meets them: made, found wanting, and refused in one line that says what to do.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash, X509Certificate } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { makeCertificates } from "../../src/cli/commands/cert.ts";
import { makeTokenFile, readTokenFile } from "../../src/cli/settings/security.ts";
import { needs } from "../support/needs.ts";
import { signedFetch } from "../support/signed-fetch.ts";
import { gone, isRunning, Place, until } from "./dsm.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(60_000);

let place: Place;
let token: string;
/** An authority with a host's certificate that is good for three days, and one's that was good until half a day ago. */
let certificates: string;
beforeAll(async () => {
  certificates = mkdtempSync("/tmp/dsm-certs-");
  await makeCertificates(certificates, ["10.0.0.1"], 3);
  await makeCertificates(certificates, ["10.0.0.2"], -0.5);
});
afterAll(() => rmSync(certificates, { recursive: true, force: true }));
beforeEach(() => {
  place = new Place();
  token = join(place.folder, "config/dsm/token");
});
afterEach(() => place.close());

function writeToken(text: string, mode = 0o600): void {
  mkdirSync(dirname(token), { recursive: true, mode: 0o700 });
  writeFileSync(token, text);
  chmodSync(token, mode);
}

describe("the file that DSM_TOKEN_FILE names", () => {
  afterEach(() => {
    delete process.env.DSM_TOKEN_FILE;
  });

  test("may be a link, and must be there", () => {
    writeToken("a-token-of-many-letters");
    const link = join(place.folder, "link");
    symlinkSync(token, link);
    process.env.DSM_TOKEN_FILE = link;
    expect(readTokenFile()).toEqual({ token: Buffer.from("a-token-of-many-letters"), fingerprint: null });
    chmodSync(token, 0o640);
    expect(() => readTokenFile()).toThrow("can be read by others");
    rmSync(token);
    expect(() => readTokenFile()).toThrow(`the token ${link} does not exist`);
    process.env.DSM_TOKEN_FILE = "token";
    expect(() => readTokenFile()).toThrow('DSM_TOKEN_FILE is "token"; give an absolute path');
  });
});

describe("the token's file", () => {
  test("is made once, by the first process, for its user alone", async () => {
    expect(readTokenFile(token)).toBeNull();
    expect([makeTokenFile(null, token), makeTokenFile(null, token)]).toEqual(["made", "kept"]);
    expect(readFileSync(token, "utf8")).toMatch(/^[0-9a-f]{64}\n$/);
    expect([dirname(token), token].map((path) => lstatSync(path).mode & 0o777)).toEqual([0o700, 0o600]);
    expect(readdirSync(dirname(token))).toEqual(["token"]);
    const text = readFileSync(token, "utf8").trim();
    expect(readTokenFile(token)).toEqual({ token: Buffer.from(text), fingerprint: null });
    // A daemon with an authority adds its fingerprint, and no other takes its place.
    const [fingerprint, other] = ["ab".repeat(32), "cd".repeat(32)];
    expect([makeTokenFile(fingerprint, token), makeTokenFile(fingerprint, token)]).toEqual(["extended", "kept"]);
    expect(readFileSync(token, "utf8")).toBe(`${text}:${fingerprint}\n`);
    expect(readTokenFile(token)).toEqual({ token: Buffer.from(text), fingerprint });
    expect(() => makeTokenFile(other, token)).toThrow(`the token in ${token} names the authority abababababababab…`);
    expect([makeTokenFile(null, token), lstatSync(token).mode & 0o777]).toEqual(["kept", 0o600]);
    expect(readdirSync(dirname(token))).toEqual(["token"]);
  });

  test("is not used when it is not this user's alone, or no token", () => {
    for (const [text, mode, reason] of [
      ["0123456789abcdef", 0o640, "can be read by others; chmod 600"],
      ["0123456789abcdef", 0o602, "can be read by others; chmod 600"],
      ["", 0o600, "cannot be used: it must have 16 to 256 bytes"],
      ["x".repeat(5000), 0o600, "is larger than 4 KiB"],
    ] as const) {
      writeToken(text, mode);
      expect(() => readTokenFile(token)).toThrow(reason);
    }
    const other = join(place.folder, "other");
    writeFileSync(other, "0123456789abcdef", { mode: 0o600 });
    const link = join(place.folder, "link");
    symlinkSync(other, link);
    expect(() => readTokenFile(link)).toThrow("it is a link");
    expect(() => readTokenFile(place.folder)).toThrow("is not a file");
  });
});

describe("an address that others can reach", () => {
  test("is refused to a server without a token", async () => {
    const words = ["server", "--session", "s", "--processes", "1", "--host", "0.0.0.0"];
    const { code, stderr } = await place.dsm(words, { DSM_AUTOSTART: "0" });
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^dsm: 0\.0\.0\.0 can be reached from other machines, and there is no token [^\n]*set DSM_TOKEN[^\n]*\n$/,
    );
    expect(existsSync(token)).toBe(false);
  });

  test("is refused for a daemon whose token others can read, or that cannot make one", async () => {
    writeToken("0123456789abcdef", 0o644);
    const open = await place.dsm(["daemon", "--host", "0.0.0.0", "--port", "0"]);
    expect([open.code, open.stderr]).toEqual([
      1,
      `dsm: the token ${token} can be read by others; chmod 600 ${token}\n`,
    ]);
    const nowhere = { XDG_CONFIG_HOME: "/proc/none" };
    const wide = ["daemon", "--host", "0.0.0.0", "--port", "0"];
    const unsigned = await place.dsm(wide, nowhere);
    expect(unsigned.code).toBe(1);
    expect(unsigned.stderr).toMatch(
      /^dsm: the daemon's authority \/proc\/none\/dsm\/authority-key\.pem cannot be written: \w+; [^\n]*--tls-off\n$/,
    );
    const none = await place.dsm([...wide, "--tls-off"], nowhere);
    expect(none.code).toBe(1);
    expect(none.stderr).toMatch(/^dsm: the token \/proc\/none\/dsm\/token cannot be made: \w+; set DSM_TOKEN[^\n]*\n$/);
  });

  test("is listened on with a token and an authority, which are made, and kept", async () => {
    const files = ["authority-key.pem", "authority.pem", "token"];
    const texts = (): string[] => files.map((name) => readFileSync(join(dirname(token), name), "utf8"));
    let before: string[] = [];
    for (const start of ["first", "second"]) {
      const daemon = place.spawn(["daemon", "--host", "0.0.0.0", "--port", "0"]);
      if (start === "first") {
        const said = await until(daemon.stderr, "\n");
        expect(said).toBe(`dsm: made a token, ${token}; copy it to the same place on the other machines\n`);
      }
      const listening = await until(daemon.stdout, "\n");
      expect(readdirSync(dirname(token)).sort()).toEqual(files);
      expect(files.map((name) => lstatSync(join(dirname(token), name)).mode & 0o777)).toEqual([0o600, 0o644, 0o600]);
      if (start === "second") expect(texts()).toEqual(before);
      before = texts();
      const { publicKey } = new X509Certificate(before[1] as string);
      const hash = createHash("sha256")
        .update(publicKey.export({ format: "der", type: "spki" }))
        .digest("hex");
      expect(before[2]).toMatch(new RegExp(`^[0-9a-f]{64}:${hash}\n$`));
      // 0.0.0.0 leads to this machine, and is no loopback address.
      for (const host of ["0.0.0.0", "127.0.0.1"]) {
        const DSM_DAEMON = `${host}:${/(\d+)\n/.exec(listening)?.[1]}`;
        expect(await place.dsm(["sessions"], { DSM_DAEMON })).toMatchObject({ code: 0, stderr: "" });
        const without = await place.dsm(["sessions"], { DSM_DAEMON, XDG_CONFIG_HOME: "/proc/none" });
        expect([without.code, without.stderr]).toEqual([1, expect.stringMatching(/^dsm: [^\n]*token[^\n]*\n$/)]);
      }
      daemon.kill();
      await daemon.exited;
    }
  });

  test("is listened on without TLS if the user demands it, with a warning", async () => {
    const daemon = place.spawn(["daemon", "--host", "0.0.0.0", "--port", "0", "--tls-off"]);
    const said = await until(daemon.stderr, "\n", "TLS");
    expect(said).toContain(
      "dsm: without TLS an attacker on the network can read and change the memory of all sessions",
    );
    expect(readdirSync(dirname(token))).toEqual(["token"]);
    const DSM_DAEMON = `0.0.0.0:${/(\d+)\n/.exec(await until(daemon.stdout, "\n"))?.[1]}`;
    expect(await place.dsm(["sessions"], { DSM_DAEMON, DSM_TLS_OFF: "1" })).toMatchObject({ code: 0, stderr: "" });
    // A plain token alone is not taken for the wish to go without.
    const plain = await place.dsm(["sessions"], { DSM_DAEMON });
    expect([plain.code, plain.stderr]).toEqual([
      1,
      expect.stringMatching(/^dsm: the token names no authority [^\n]*scp 0\.0\.0\.0:[^\n]*DSM_TLS_OFF=1[^\n]*\n$/),
    ]);
    const mixed = { DSM_TLS_OFF: "1", DSM_TLS_CA: "/ca.pem" };
    expect((await place.dsm(["sessions"], mixed)).stderr).toMatch(
      /^dsm: TLS is turned off, but TLS files are set; [^\n]+\n$/,
    );
    expect((await place.dsm(["sessions"], { DSM_TLS_OFF: "yes" })).stderr).toBe(
      'dsm: DSM_TLS_OFF is "yes"; it must be 0 or 1\n',
    );
    daemon.kill();
    await daemon.exited;
  });

  test("a plain token gets the authority's fingerprint, and one that names another authority is refused", async () => {
    const plain = "a-token-of-the-tests";
    writeToken(`${plain}\n`);
    const wide = ["daemon", "--host", "0.0.0.0", "--port", "0"];
    const daemon = place.spawn(wide);
    expect(await until(daemon.stderr, "\n")).toBe(
      `dsm: the token now names this daemon's authority; copy ${token} to the other machines again\n`,
    );
    await until(daemon.stdout, "\n");
    daemon.kill();
    await daemon.exited;
    const [, fingerprint] = readFileSync(token, "utf8").trim().split(":");
    const kept = place.spawn(wide, { DSM_TOKEN: plain });
    expect(await until(kept.stderr, "\n")).toBe(
      `dsm: DSM_TOKEN names no authority; on the other machines add this to the token: :${fingerprint}\n`,
    );
    await until(kept.stdout, "\n");
    kept.kill();
    await kept.exited;
    const foreign = `${plain}:${"ab".repeat(32)}`;
    for (const settings of [{ DSM_TOKEN: foreign }, {}] as Record<string, string>[]) {
      writeToken(`${foreign}\n`);
      const { code, stderr } = await place.dsm(wide, settings);
      expect([code, stderr]).toEqual([
        1,
        expect.stringMatching(/^dsm: [^\n]* names the authority abababababababab…, and this machine's is [^\n]+\n$/),
      ]);
    }
  });
});

test("a daemon that starts by itself demands DSM_TOKEN of its user, too", async () => {
  const text = "a-token-of-the-tests";
  const script = join(place.folder, "script.ts");
  writeFileSync(script, 'import { join } from "dsm";\nawait (await join()).leave();\n');
  const ran = await place.dsm(["run", "-n", "1", "--", script], { DSM_TOKEN: text });
  expect([ran.code, ran.stderr]).toEqual([0, expect.stringContaining("started a session daemon")]);
  const url = `http://${place.daemonAddress}/v1/health`;
  expect((await fetch(url)).status).toBe(401);
  const { pid } = (await (await signedFetch(Buffer.from(text), "GET", url)).json()) as { pid: number };
  process.kill(pid, "SIGTERM");
  await gone(() => isRunning(pid));
});

describe("dsm cert", () => {
  needs("openssl").test("makes an authority and certificates that OpenSSL takes", async () => {
    const out = join(place.folder, "certs");
    const { code, stdout } = await place.dsm(["cert", "--out", out, "--days", "7", "node.example", "fd00::7"]);
    expect(code).toBe(0);
    expect(stdout).toContain(`export DSM_TLS_CA=DIR/ca.pem DSM_TLS_CERT=DIR/node.example.pem`);
    const names = readdirSync(out).sort();
    expect(names).toEqual(
      ["ca", "fd00__7", "node.example"].flatMap((name) => [`${name}-key.pem`, `${name}.pem`]).sort(),
    );
    for (const name of names) {
      expect([name, lstatSync(join(out, name)).mode & 0o777]).toEqual([name, name.includes("-key") ? 0o600 : 0o644]);
    }
    const hosts = names.filter((name) => !name.includes("key") && name !== "ca.pem").map((name) => join(out, name));
    for (const purpose of ["sslserver", "sslclient"]) {
      const words = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", join(out, "ca.pem"), ...hosts];
      const verified = Bun.spawnSync(["openssl", ...words]);
      expect(verified.stderr.toString()).toBe("");
      expect(verified.stdout.toString()).toBe(hosts.map((path) => `${path}: OK\n`).join(""));
    }
    const certificate = new X509Certificate(readFileSync(join(out, "fd00__7.pem")));
    expect(certificate.subjectAltName).toContain("IP Address:FD00:0:0:0:0:0:0:7");
    expect(certificate.checkIP("127.0.0.1")).toBe("127.0.0.1");
    expect(new X509Certificate(readFileSync(join(out, "node.example.pem"))).checkHost("node.example")).toBe(
      "node.example",
    );
    const left = Date.parse(certificate.validTo) - Date.now();
    expect(Math.round(left / 86_400_000)).toBe(7);
  });

  test("adds hosts to an authority, and changes nothing that is there", async () => {
    const out = join(place.folder, "certs");
    cpSync(certificates, out, { recursive: true });
    const before = readdirSync(out).map((name) => [name, readFileSync(join(out, name), "utf8")]);
    expect(await makeCertificates(out, ["10.0.0.3"], 7)).toEqual(["10.0.0.3-key.pem", "10.0.0.3.pem"]);
    const authority = new X509Certificate(readFileSync(join(out, "ca.pem")));
    expect(new X509Certificate(readFileSync(join(out, "10.0.0.3.pem"))).verify(authority.publicKey)).toBe(true);
    await expect(makeCertificates(out, ["10.0.0.4", "10.0.0.2"], 7)).rejects.toThrow("10.0.0.2.pem already exists");
    for (const [name, text] of before as [string, string][]) expect(readFileSync(join(out, name), "utf8")).toBe(text);
    expect(existsSync(join(out, "10.0.0.4.pem"))).toBe(false);
  });

  test("refuses hosts and days that are none", async () => {
    for (const [args, code, reason] of [
      [[], 2, /the hosts are missing/],
      [["a b"], 2, /"a b" is not an address or a host name/],
      [["../x"], 2, /is not an address or a host name/],
      [["--days", "0", "x"], 2, /days is 0; it must be from 1 to 3650/],
    ] as const) {
      const { stderr, ...ended } = await place.dsm(["cert", "--out", join(place.folder, "none"), ...args]);
      expect([args, ended.code]).toEqual([args, code]);
      expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
      expect(stderr).toMatch(reason);
    }
    expect(existsSync(join(place.folder, "none"))).toBe(false);
  });
});

test("dsm doctor looks at the token and the certificates", async () => {
  const out = certificates;
  const files = (host: string) => ({
    ...{ DSM_TLS_CERT: join(out, `${host}.pem`), DSM_TLS_KEY: join(out, `${host}-key.pem`) },
    DSM_TLS_CA: join(out, "ca.pem"),
  });
  writeToken("0123456789abcdef", 0o644);
  const soon = await place.dsm(["doctor", "--json"], files("10.0.0.1"));
  const { findings } = JSON.parse(soon.stdout) as { findings: { check: string; state: string; found: string }[] };
  expect(findings).toContainEqual(expect.objectContaining({ check: "token", state: "failure" }));
  expect(findings).toContainEqual(expect.objectContaining({ check: "trapped store", state: "ok" }));
  const tls = findings.filter(({ check }) => check === "TLS");
  expect(tls.map(({ state }) => state)).toEqual(["ok", "warning"]);
  expect(tls[1]?.found).toContain("10.0.0.1.pem is good until");

  chmodSync(token, 0o600);
  const expired = await place.dsm(["doctor", "--json"], files("10.0.0.2"));
  const now = JSON.parse(expired.stdout) as typeof soon & { findings: typeof findings };
  expect(now.findings).toContainEqual(expect.objectContaining({ check: "token", state: "ok" }));
  expect(now.findings.filter(({ check }) => check === "TLS").map(({ state }) => state)).toEqual(["ok", "failure"]);
  expect(expired.code).toBe(1);
});
