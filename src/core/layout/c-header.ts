/** The C structs of definitions, as a header: C programs and TypeScript see the same layout. */
import { DsmError } from "../base/errors.ts";
import { layoutBlock, type Member, type ScalarKind, type StructType } from "./struct.ts";

const C_TYPES: Record<ScalarKind, string> = {
  i8: "int8_t",
  i16: "int16_t",
  i32: "int32_t",
  i64: "int64_t",
  u8: "uint8_t",
  u16: "uint16_t",
  u32: "uint32_t",
  u64: "uint64_t",
  f32: "float",
  f64: "double",
  bool: "bool",
};

/** Reserved words of C (to C23) and C++ (to C++23). */
const KEYWORDS = new Set(
  `alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class co_await
  co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do
  double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
  new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
  return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try
  typedef typeid typename typeof typeof_unqual union unsigned using virtual void volatile wchar_t while xor xor_eq`.split(
    /\s+/,
  ),
);

/**
 * Makes a header with the C struct of each definition, assertions of their layouts, and a function to get each from a
 * session. `guard`: name of the include guard. `source`: where the definitions are from, for the reader. Compiles as
 * C11 with GNU atomics and as C++11.
 *
 * Throws DSM_INVALID for a name that is not valid in C and C++.
 */
export function cHeader(structs: ReadonlyMap<string, StructType>, guard: string, source: string): string {
  const names = new Map<StructType, string>();
  for (const [name, type] of structs) {
    checkIdentifier("the struct", name);
    checkMembers(type, name);
    if (!names.has(type)) names.set(type, name);
  }
  // A struct follows the structs inside it.
  const order = new Set<StructType>();
  const add = (type: StructType): void => {
    for (const { field } of type.members) {
      if (field.kind === "struct") add(field);
      else if (field.kind === "structs") add(field.element);
    }
    if (names.has(type)) order.add(type);
  };
  for (const type of structs.values()) add(type);
  const parts = [...order].map((type) => oneStruct(type, names.get(type) as string, names));
  return `/* Made from ${source.replaceAll("*/", "* /")} by \`dsm header\`. Do not edit it: make it anew. */
#ifndef ${guard}
#define ${guard}

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <dsm/dsm.h>

#ifdef __cplusplus
extern "C" {
#endif

${parts.join("\n")}
#ifdef __cplusplus
}
#endif

#endif
`;
}

type Names = ReadonlyMap<StructType, string>;

function oneStruct(type: StructType, name: string, names: Names): string {
  return `typedef struct ${name} {
${body(type, names, "  ", "", "")}} ${name};

${asserts(type, names, name, "").join("\n")}
static_assert(sizeof(${name}) == ${type.size}, "size of ${name}");

${locks(type, name)}/* What tells this layout from others: a session notes it at the struct's first use. */
#define ${name}_LAYOUT UINT64_C(0x${type.layout.toString(16).padStart(16, "0")})

/* The struct of that name (1 to 56 bytes) in the session, made at first use and zeroed then. DSM_OK and *block, or what
 * dsm_named() gives, or DSM_MISMATCH: a process of the session has defined it with other fields. */
static inline int ${name}_named(dsm_session *session, const char *name, ${name} **block) {
  char layout[DSM_NAME_MAX + 1];
  void *found;
  int length = snprintf(layout, sizeof(layout), "${layoutBlock("%s")}", name);
  if (length < 0 || (size_t)length >= sizeof(layout)) return DSM_INVALID;
  int status = dsm_named(session, layout, sizeof(uint64_t), &found);
  if (status != DSM_OK) return status;
  uint64_t before = 0;
  if (!__atomic_compare_exchange_n((uint64_t *)found, &before, ${name}_LAYOUT, false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_SEQ_CST) &&
      before != ${name}_LAYOUT) {
    return DSM_MISMATCH;
  }
  status = dsm_named(session, name, sizeof(${name}), &found);
  if (status == DSM_OK) *block = (${name} *)found;
  return status;
}
`;
}

/** The fields, one line each. `path` leads to them from the printed struct: "", "at." or "items[INDEX].". */
function body(type: StructType, names: Names, indent: string, path: string, lines: string): string {
  for (const { name, field } of type.members) {
    if (field.kind === "mutex") {
      lines += `${indent}/* ${name}: the session's lock "NAME.${path}${name}"; NAME is the name of this struct, or what leads to it */\n`;
    } else if (field.kind === "utf8") {
      lines += `${indent}char ${name}[${field.size}]; /* UTF-8, with a zero byte at its end */\n`;
    } else if (field.kind === "object" || field.kind === "objects") {
      const [object, count] =
        field.kind === "object" ? [field.object, ""] : [field.element.object, `[${field.length}]`];
      // dsm_barrier is the name of a function, too.
      lines += `${indent}${object === "dsm_barrier" ? "struct " : ""}${object} ${name}${count};\n`;
    } else if (field.kind === "array" || field.kind === "grid") {
      lines += `${indent}${C_TYPES[field.element.kind]} ${name}${field.shape.map((length) => `[${length}]`).join("")};\n`;
    } else if (field.kind === "struct" || field.kind === "structs") {
      const [inner, count, index] =
        field.kind === "struct" ? [field, "", ""] : [field.element, `[${field.length}]`, "[INDEX]"];
      const known = names.get(inner);
      lines +=
        known === undefined
          ? `${indent}struct {\n${body(inner, names, `${indent}  `, `${path}${name}${index}.`, "")}${indent}} ${name}${count};\n`
          : `${indent}${known} ${name}${count};\n`;
    } else {
      lines += `${indent}${C_TYPES[field.kind]} ${name};\n`;
    }
  }
  return lines;
}

/** Assertions that every field is where the definition says, including the fields of nested unnamed structs. */
function asserts(type: StructType, names: Names, root: string, path: string, base = 0): string[] {
  return type.members.flatMap(({ name, offset, field }) => {
    if (field.kind === "mutex") return [];
    const here = `${path}${name}`;
    const one = `static_assert(offsetof(${root}, ${here}) == ${base + offset}, "${here} of ${root}");`;
    const inner = field.kind === "struct" ? field : field.kind === "structs" ? field.element : undefined;
    if (inner === undefined || names.has(inner)) return [one];
    const below = `${here}${field.kind === "structs" ? "[0]" : ""}.`;
    return [one, ...asserts(inner, names, root, below, base + offset)];
  });
}

/** Macros for the names of locks outside arrays. */
function locks(type: StructType, root: string): string {
  const lines = lockPaths(type, "").map((lock) => {
    const macro = `${root}_${lock.replaceAll(".", "_")}`;
    return `/* Name of its lock, for dsm_lock() and its like. \`name\`: that of the struct, a string literal. */
#define ${macro}(name) name ".${lock}"
`;
  });
  return lines.length === 0 ? "" : `${lines.join("")}\n`;
}

function lockPaths(type: StructType, path: string): string[] {
  return type.members.flatMap(({ name, field }) =>
    field.kind === "mutex" ? [`${path}${name}`] : field.kind === "struct" ? lockPaths(field, `${path}${name}.`) : [],
  );
}

function checkMembers({ members }: StructType, path: string): void {
  for (const { name, field } of members as readonly Member[]) {
    checkIdentifier(`field ${path}.`, name);
    if (field.kind === "struct") checkMembers(field, `${path}.${name}`);
    if (field.kind === "structs") checkMembers(field.element, `${path}.${name}`);
  }
}

function checkIdentifier(what: string, name: string): void {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || KEYWORDS.has(name)) {
    const shown = what.endsWith(".") ? `${what}${name}` : `${what} ${name}`;
    throw new DsmError("DSM_INVALID", `${shown} cannot have that name in C and C++; choose another`);
  }
}
