/** `dsm cert`: a private authority and the certificates of a small cluster. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join, resolve } from "node:path";
import { DsmError } from "../../core/base/errors.ts";
import { AUTHORITY_LIFE_MS, Authority, makeKeyPair } from "../../transport/authority.ts";
import { command } from "../command.ts";
import { jsonOption, MANY, readWhole, UsageError, wrongValue } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";

const DAY_MS = 86_400_000;
const DAYS_MAX = 3650;
const HOSTS_MAX = 256;
/** Names by which servers and clients on the same host reach a daemon. */
const LOOPBACK = ["localhost", "127.0.0.1", "::1"];

export default command({
  meta: { name: "cert", description: "Make certificates for a cluster: one private authority, one for each host" },
  args: {
    out: { type: "string", description: "Folder to put them in", valueHint: "DIR", default: "dsm-certs" },
    days: { type: "string", description: "Days the certificates are good for", valueHint: "DAYS", default: "365" },
    ...jsonOption,
    hosts: {
      type: "positional",
      required: false,
      description: "Addresses or names by which the hosts are reached",
      valueHint: `HOST${MANY}`,
    },
  },
  manual: {
    details: [
      "Makes ca.pem and ca-key.pem in the folder if they do not exist, and HOST.pem and HOST-key.pem for each host. Give each host its own two files and ca.pem, and name them in DSM_TLS_CERT, DSM_TLS_KEY and DSM_TLS_CA; keep ca-key.pem to yourself.",
    ],
    examples: [
      { does: "Certificates for two machines, good for a year", line: "dsm cert 10.0.0.1 10.0.0.2" },
      { does: "For one more, signed by the same authority, for 30 days", line: "dsm cert --days 30 node3.example.org" },
    ],
  },
  async run({ args }) {
    const hosts = [...new Set(args._)];
    if (hosts.length === 0) throw new UsageError("the hosts are missing; give the address of each machine");
    if (hosts.length > HOSTS_MAX) throw wrongValue(`${hosts.length} hosts are more than the limit of ${HOSTS_MAX}`);
    for (const host of hosts) {
      if (
        isIP(host) === 0 &&
        !/^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i.test(host)
      ) {
        throw wrongValue(`"${host}" is not an address or a host name`);
      }
    }
    const days = readWhole("days", args.days);
    if (days < 1 || days > DAYS_MAX) throw wrongValue(`days is ${days}; it must be from 1 to ${DAYS_MAX}`);
    const folder = resolve(args.out);
    const made = await makeCertificates(folder, hosts, days);
    if (args.json) await printJson({ folder, made });
    else await print(advice(folder, hosts, made));
    return 0;
  },
});

/**
 * makeCertificates makes certificates of `hosts` in `folder`, signed by the authority there, which it makes if there is
 * none. It never changes existing files. Returns the names of the new files.
 */
export async function makeCertificates(folder: string, hosts: string[], days: number): Promise<string[]> {
  const names = hosts.map((host) => host.replaceAll(":", "_"));
  for (const name of names) {
    for (const file of [`${name}.pem`, `${name}-key.pem`]) {
      if (existsSync(join(folder, file))) {
        throw new DsmError("DSM_INVALID", `${join(folder, file)} already exists; remove it, or give another --out`);
      }
    }
  }
  const made: string[] = [];
  const put = (name: string, text: string, mode: number): void => {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      writeFileSync(join(folder, name), text, { flag: "wx", mode });
    } catch (error) {
      throw new DsmError("DSM_SYSTEM", `${join(folder, name)} cannot be written: ${(error as { code?: string }).code}`);
    }
    made.push(name);
  };
  let authority = await readAuthority(folder);
  if (authority === null) {
    const { privateKey } = await makeKeyPair();
    authority = await Authority.create(
      privateKey,
      `dsm authority ${randomBytes(4).toString("hex")}`,
      AUTHORITY_LIFE_MS,
    );
    put("ca-key.pem", privateKey, 0o600);
    put("ca.pem", authority.certificate, 0o644);
  }
  for (const [index, host] of hosts.entries()) {
    const { privateKey, publicKey } = await makeKeyPair();
    const certificate = await authority.sign(publicKey, {
      subject: host,
      names: [host, ...LOOPBACK],
      // Each host is server and client: the host of the daemon connects to servers, too.
      purposes: ["server", "client"],
      notAfter: Date.now() + days * DAY_MS,
    });
    put(`${names[index]}-key.pem`, privateKey, 0o600);
    put(`${names[index]}.pem`, certificate, 0o644);
  }
  return made;
}

async function readAuthority(folder: string): Promise<Authority | null> {
  const path = join(folder, "ca.pem");
  const keyPath = join(folder, "ca-key.pem");
  if (!existsSync(path) && !existsSync(keyPath)) return null;
  try {
    return await Authority.read(readFileSync(path, "utf8"), readFileSync(keyPath, "utf8"));
  } catch (error) {
    throw new DsmError(
      "DSM_INVALID",
      `the authority in ${folder} (ca.pem, ca-key.pem) cannot be used: ${(error as Error).message}; give another --out`,
    );
  }
}

function advice(folder: string, hosts: string[], made: string[]): string {
  const [host] = hosts as [string];
  const name = host.replaceAll(":", "_");
  return `${made.map((file) => join(folder, file)).join("\n")}

Copy ca.pem and each host's two files to that host, and keep ca-key.pem away from all of them. Then, on ${host}:
  export DSM_TLS_CA=DIR/ca.pem DSM_TLS_CERT=DIR/${name}.pem DSM_TLS_KEY=DIR/${name}-key.pem
  dsm daemon --host ${host}
and the same three variables with their own files for the programs on all others.`;
}
