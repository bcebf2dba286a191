/**
 * The parts that dist/dsm and libdsm are made of, as CycloneDX 1.6 JSON: the npm packages in the bundle with the hashes
 * of package-lock.json, XED with that of native/xed/Cargo.lock, and Bun.
 */

import { join } from "node:path";
import { Contrib, Enums, Models, Serialize, Spec, Validation } from "@cyclonedx/cyclonedx-library";
import parseExpression from "spdx-expression-parse";
import { PAGE_PACKAGES, packageFolder } from "./licenses.ts";
import { BuildError, root } from "./steps.ts";

interface LockedPackage {
  version: string;
  license?: string;
  integrity?: string;
  dependencies?: Record<string, string>;
}

/** In the bundle though no `dependencies` lead to them: the compiled part of koffi, and the runtime. */
const COMPILED = ["@koromix/koffi-linux-x64", "@oven/bun-linux-x64"];
const licenses = new Contrib.License.Factories.LicenseFactory(parseExpression);

/** The text of the document, valid by CycloneDX's schema; made, as it says, at `seconds` since 1970. */
export async function billOfMaterials(seconds: number): Promise<string> {
  const lock = await Bun.file(join(root, "package-lock.json")).json();
  const own = lock.packages[""] as LockedPackage & { name: string };
  const dsm = component(own.name, own, `pkg:npm/${own.name}@${own.version}`, Enums.ComponentType.Application);
  const parts = new Map<string, Models.Component>();
  const addPackage = (name: string, from = ""): Models.Component => {
    // Two packages may use different versions of a third.
    const folder = packageFolder(from, name, (inner) => inner in lock.packages);
    const known = parts.get(folder);
    if (known !== undefined) return known;
    const locked = lock.packages[folder] as LockedPackage | undefined;
    if (locked?.integrity === undefined) throw new BuildError(`package-lock.json has no hash of ${name}`);
    const made = component(name, locked, `pkg:npm/${name.replace("@", "%40")}@${locked.version}`);
    made.hashes.set(Enums.HashAlgorithm["SHA-512"], Buffer.from(locked.integrity.slice(7), "base64").toString("hex"));
    parts.set(folder, made);
    for (const inner of Object.keys(locked.dependencies ?? {})) made.dependencies.add(addPackage(inner, folder).bomRef);
    return made;
  };
  for (const name of [...Object.keys(own.dependencies ?? {}), ...PAGE_PACKAGES, ...COMPILED]) {
    dsm.dependencies.add(addPackage(name).bomRef);
  }
  const xed = await pinnedXed();
  dsm.dependencies.add(xed.bomRef);

  const bom = new Models.Bom();
  bom.metadata.component = dsm;
  bom.metadata.timestamp = new Date(seconds * 1000);
  for (const part of [...parts.values(), xed]) bom.components.add(part);
  const serializer = new Serialize.JsonSerializer(new Serialize.JSON.Normalize.Factory(Spec.Spec1dot6));
  return checked(`${serializer.serialize(bom, { sortLists: true, space: 2 })}\n`);
}

/** The crate whose sources libxed.a is built from. */
async function pinnedXed(): Promise<Models.Component> {
  const { package: crates } = Bun.TOML.parse(await Bun.file(join(root, "native/xed/Cargo.lock")).text()) as {
    package: { name: string; version: string; checksum?: string }[];
  };
  const crate = crates.find(({ name }) => name === "xed-sys");
  if (crate?.checksum === undefined) throw new BuildError("native/xed/Cargo.lock has no hash of xed-sys");
  const purl = `pkg:cargo/xed-sys@${encodeURIComponent(crate.version)}`;
  const made = component("xed-sys", { ...crate, license: "Apache-2.0" }, purl);
  made.description = "Intel XED, the instruction decoder, whose sources this crate carries";
  made.hashes.set(Enums.HashAlgorithm["SHA-256"], crate.checksum);
  return made;
}

function component(
  name: string,
  { version, license }: LockedPackage,
  purl: string,
  type = Enums.ComponentType.Library,
): Models.Component {
  const [last, group] = name.split("/").toReversed() as [string, string?];
  const made = new Models.Component(type, last, { version, purl, bomRef: purl });
  if (group !== undefined) made.group = group;
  if (license !== undefined) made.licenses.add(licenses.makeFromString(license));
  return made;
}

/** Throws unless the text is what the schema wants. */
export async function checked(text: string): Promise<string> {
  const problem = await new Validation.JsonStrictValidator(Spec.Version.v1dot6).validate(text);
  if (problem !== null) throw new BuildError(`the SBOM is not valid CycloneDX: ${JSON.stringify(problem)}`);
  return text;
}
