/**
 * One problem of a configuration file: what is wrong, where, and what to do about it.
 *
 * A `Finding` is a problem as its finder knows it, by path into the document; `Problem` adds the place in the file's text. Neither ever holds
 * the value that is wrong: it may be a secret.
 */
import * as Schema from "effect/Schema"

/** Keys and list indexes from the document's root. */
export type Path = ReadonlyArray<string | number>

export interface Finding {
  readonly path: Path
  /** Whether the key itself is wrong (unknown), or its value. */
  readonly at: "key" | "value"
  readonly message: string
  readonly remedy: string
}

export const Problem = Schema.Struct({
  /** For example `pipelines.shop.transforms[0].plugin`; empty for the whole document. */
  path: Schema.String,
  /** From 1. */
  line: Schema.Int,
  /** From 1, in UTF-16 code units. */
  column: Schema.Int,
  message: Schema.String,
  remedy: Schema.String
})
export type Problem = typeof Problem.Type

const plainKey = /^[A-Za-z_][\w-]*$/

/** `path` as people write it: `pipelines.shop.transforms[0]`; keys with other characters are quoted. */
export const formatPath = (path: Path): string =>
  path.map((part, index) =>
    typeof part === "string" && plainKey.test(part)
      ? index === 0 ? part : `.${part}`
      : `[${typeof part === "string" ? JSON.stringify(part) : part}]`
  ).join("")

/** Whether `path` is `ancestor` or lies below it. */
export const isWithin = (path: Path, ancestor: Path): boolean =>
  ancestor.length <= path.length && ancestor.every((part, index) => String(part) === String(path[index]))

/** Several lines for people: place and path, what is wrong, what to do. */
export const render = (file: string, problem: Problem): string =>
  [
    `${file}:${problem.line}:${problem.column}${problem.path === "" ? "" : `  ${problem.path}`}`,
    `  ${problem.message}`,
    `  -> ${problem.remedy}`
  ].join("\n")
