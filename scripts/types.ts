/**
 * The types of "dsm" as one module, since "dsm" is all that a program can import: dist/client/index.d.ts for the npm
 * package, and dist/client/types.txt, which `dsm init` puts into projects as dsm.d.ts and which works wherever a
 * tsconfig.json includes it.
 *
 * The compiler has written one declaration file for each source. Here the declarations that the client's index exports,
 * and those that they name, come together, and only the first are exported.
 */
import { join, posix } from "node:path";
import { BuildError, files, replaceFile, root, runStep } from "./steps.ts";

const FOLDER = "dist/client/types";
const ENTRY = "client/index";

export async function typesStep() {
  return runStep({
    name: "types",
    inputs: [...(await files(`${FOLDER}/**/*.d.ts`)), "scripts/types.ts"],
    outputs: ["dist/client/index.d.ts", "dist/client/types.txt"],
    run: async () => {
      const { about, declarations, exported } = await gather(new Sources(join(root, FOLDER)));
      const list = `export { ${exported.join(", ")} };\n`;
      const module = [LIBRARY, about, ...declarations.map((text) => text.replace(VALUE, "declare $&")), list].join(
        "\n",
      );
      await replaceFile(join(root, "dist/client/index.d.ts"), module);
      // An ambient module is all declarations.
      const body = [about, ...declarations, list]
        .join("\n")
        .trimEnd()
        .replace(/^(?=.)/gm, "  ");
      const head = '// The types of "dsm", for editors and tsc. Made by dsm\'s build; "dsm init" writes it anew.\n';
      await replaceFile(
        join(root, "dist/client/types.txt"),
        `${LIBRARY}\n${head}\ndeclare module "dsm" {\n${body}\n}\n`,
      );
    },
  });
}

/** What `using` needs; a program that is compiled for an older JavaScript may not have it in its `lib`. */
const LIBRARY = '/// <reference lib="esnext.disposable" />\n';

/** What a module of declarations must call `declare`. */
const VALUE = /^(?=(?:abstract )?class |const |function |enum )/m;

interface Gathered {
  /** The comment on the package. */
  about: string;
  /** Each with its comment, without `export` and `declare`. */
  declarations: string[];
  /** What stands in `export {}`: names, before those of types alone `type`. */
  exported: string[];
}

async function gather(sources: Sources): Promise<Gathered> {
  const entry = await sources.read(ENTRY);
  const exported = entry.exports.map(({ name, isType }) => (isType ? `type ${name}` : name));
  const declarations: string[] = [];
  const homes = new Map<string, string>();
  const queue = entry.exports.map(({ name, from }) => ({ name, module: from }));
  for (const { name, module } of queue) {
    const home = homes.get(name);
    if (home === module) continue;
    if (home !== undefined) {
      throw new BuildError(`types: ${home}.ts and ${module}.ts both declare ${name}; give one of them another name`);
    }
    homes.set(name, module);
    const { declared, imports } = await sources.read(module);
    const texts = declared.get(name);
    if (texts === undefined) throw new BuildError(`types: ${module}.d.ts does not declare ${name}`);
    declarations.push(...texts);
    for (const [word] of texts
      .map(withoutComments)
      .join("\n")
      .matchAll(/[\w$]+/g)) {
      const from = declared.has(word) ? module : imports.get(word);
      if (from !== undefined) queue.push({ name: word, module: from });
    }
  }
  return { about: entry.about, declarations, exported };
}

const withoutComments = (text: string): string =>
  text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/"(?:[^"\\\n]|\\.)*"/g, "");

/** One file of declarations. */
interface Source {
  about: string;
  /** By name; overloads, and a type and a value of one name, are several. */
  declared: Map<string, string[]>;
  /** The module that each imported name comes from. */
  imports: Map<string, string>;
  exports: { name: string; isType: boolean; from: string }[];
}

class Sources {
  readonly #folder: string;
  readonly #known = new Map<string, Source>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  async read(module: string): Promise<Source> {
    const known = this.#known.get(module);
    if (known !== undefined) return known;
    const source = parse(await Bun.file(join(this.#folder, `${module}.d.ts`)).text(), module);
    this.#known.set(module, source);
    return source;
  }
}

/** A statement and the comment before it. */
const STATEMENT = /^(\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n)?(\w.*\n(?:[ })].*\n)*)/gm;

/** Reads what the compiler writes: a statement begins at the start of a line, and its comment stands before it. */
function parse(text: string, module: string): Source {
  const source: Source = { about: "", declared: new Map(), imports: new Map(), exports: [] };
  for (const [, comment = "", statement = ""] of text.matchAll(STATEMENT)) {
    const list = /^(import|export)( type)? \{([^}]*)\}(?: from "([^"]+)")?;$/m.exec(statement);
    const name = /^(?:export )?(?:declare )?(?:abstract )?(?:class|interface|type|const|function|enum) ([\w$]+)/.exec(
      statement,
    )?.[1];
    if (list !== null) {
      const [, word, allTypes, names = "", path = ""] = list;
      const from = path === "" ? module : posix.join(posix.dirname(module), path.replace(/\.[jt]s$/, ""));
      if (word === "export") source.about += comment;
      for (const item of names.split(",").filter((item) => item.trim() !== "")) {
        const [, type, name] = /^\s*(type )?([\w$]+)\s*$/.exec(item) ?? [];
        if (name === undefined || (path !== "" && !path.startsWith("."))) throw unknown(module, statement);
        if (word === "import") source.imports.set(name, from);
        else source.exports.push({ name, isType: allTypes !== undefined || type !== undefined, from });
      }
    } else if (name !== undefined) {
      const bare = statement.replace(/^(export )?(declare )?/, "");
      source.declared.set(name, [...(source.declared.get(name) ?? []), comment + bare]);
    } else throw unknown(module, statement);
  }
  return source;
}

const unknown = (module: string, statement: string): BuildError =>
  new BuildError(`types: ${module}.d.ts has a statement that scripts/types.ts does not know: ${statement.trim()}`);
