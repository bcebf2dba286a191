/**
 * The reference of a C header, as Markdown, from the comments in it: each stands above what it describes, or behind it
 * on its last line; one above several declarations, with no empty line between, describes all those that have none of
 * their own.
 */

/** A declaration that can be looked up, with what the header says of it. */
export interface Entry {
  kind: "function" | "type" | "macro";
  name: string;
  /** As in the header, with the comments of fields and values. */
  declaration: string;
  /** "" if nothing does. */
  text: string;
}

export interface Header {
  /** What the header says of itself, before everything else. */
  text: string;
  entries: Entry[];
}

const COMMENT = /^\/\*([\s\S]*?)\*\//;
/** What is no declaration: guards, includes, pragmas, the braces of extern "C". */
const DIRECTIVE = /^#(?:\\\n|[^\n])*/;
const MACRO = /^#define\s+(\w+)(\([^)]*\))?\s+\S/;
const PLUMBING = /^(?:extern "C" \{|\})/;

/** Throws an Error for what is not as described above. */
export function readHeader(source: string): Header {
  const header: Header = { text: "", entries: [] };
  let rest = source;
  let above = "";
  const skip = (length: number): void => {
    const [blank] = /^[^\S\n]*\n?[^\S\n]*/.exec(rest.slice(length)) as unknown as [string];
    rest = rest.slice(length + blank.length);
  };
  /** The comment on the line on which something has just ended, or "". */
  const behind = (): string => {
    const comment = /^[^\S\n]*\/\*([\s\S]*?)\*\//.exec(rest);
    if (comment === null) return "";
    rest = rest.slice(comment[0].length);
    return plain(comment[1] as string);
  };
  while (rest !== "") {
    const comment = COMMENT.exec(rest);
    const directive = DIRECTIVE.exec(rest);
    if (rest.startsWith("\n")) {
      above = "";
      rest = rest.slice(1);
    } else if (comment !== null) {
      above = plain(comment[1] as string);
      if (header.text === "" && header.entries.length === 0) header.text = above;
      skip(comment[0].length);
    } else if (directive !== null) {
      const [text] = directive as unknown as [string];
      const bare = text.replace(/\s*\/\*.*$/, "");
      rest = rest.slice(bare.length);
      const name = MACRO.exec(bare)?.[1];
      const own = behind();
      if (name !== undefined) header.entries.push({ kind: "macro", name, declaration: bare, text: own || above });
      skip(0);
    } else if (PLUMBING.test(rest)) {
      skip((PLUMBING.exec(rest) as RegExpExecArray)[0].length);
    } else {
      const declaration = upToSemicolon(rest);
      rest = rest.slice(declaration.length);
      const own = behind();
      const entry = describe(declaration);
      if (entry !== null) header.entries.push({ ...entry, declaration, text: own || above });
      skip(0);
    }
  }
  return header;
}

/** The words of a comment: without the stars at the start of its lines. */
function plain(comment: string): string {
  return comment.replace(/\n[^\S\n]*\*[^\S\n]?/g, "\n").trim();
}

/** A declaration with its semicolon; those within braces and comments do not end it. */
function upToSemicolon(text: string): string {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    if (text.startsWith("/*", at)) at = text.indexOf("*/", at) + 1;
    else if (text[at] === "{") depth++;
    else if (text[at] === "}") depth--;
    else if (text[at] === ";" && depth === 0) return text.slice(0, at + 1);
  }
  throw new Error(`a declaration has no end: ${text.slice(0, 80)}`);
}

/** Null for a mere announcement of what is declared elsewhere (`struct iovec;`). */
function describe(declaration: string): Pick<Entry, "kind" | "name"> | null {
  if (/^struct \w+;$/.test(declaration)) return null;
  const type = /^typedef\b[\s\S]*?(\w+);$/.exec(declaration) ?? /^((?:enum|struct) \w+)\s*\{/.exec(declaration);
  if (type !== null) return { kind: "type", name: type[1] as string };
  const call = /(\w+)\s*\(/.exec(declaration.replace(/__attribute__\(\(.*$/, ""));
  if (call === null) throw new Error(`this declares nothing known: ${declaration}`);
  return { kind: "function", name: call[1] as string };
}

/** Entries that nothing is said of. Values and small macros speak for themselves. */
export function undocumented({ entries }: Header): string[] {
  return entries.filter(({ kind, text }) => kind !== "macro" && text === "").map(({ name }) => name);
}

/** The headers as a page, each a section with its types, macros and functions in the order of the header. */
export function writeReference(headers: Record<string, Header>): string {
  const parts: string[] = ["---\ntitle: C interface\n---\n"];
  for (const [name, { text, entries }] of Object.entries(headers)) {
    parts.push(`# ${heading(name)}\n`, markdown(text));
    for (const { name, declaration, text } of entries) {
      parts.push(`## ${heading(name)}\n`, `\`\`\`c\n${declaration}\n\`\`\`\n`, markdown(text));
    }
  }
  return `${parts.join("\n")}\n`;
}

/** A name as a heading, in which an underscore has no meaning of its own. */
const heading = (name: string): string => name.replaceAll("_", "\\_");

/** Words of C, and what is marked so in the header, are set as code; everything else means what it says. */
function markdown(text: string): string {
  return `${text.replace(
    /(`[^`\n]+`)|(\w*_\w+(?:\(\))?|\b\w+\(\)|\*\w+)|([\\`*_<>[\]#|])/g,
    (_, marked: string | undefined, code: string | undefined, special: string) =>
      marked ?? (code === undefined ? `\\${special}` : `\`${code}\``),
  )}\n`;
}
