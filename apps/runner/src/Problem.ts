/**
 * One problem of a configuration file: what is wrong, where, and what to do about it.
 *
 * A `Finding` is a problem as its finder knows it, by path into the document; `Problem` adds the place in the file's text, or the database's row. Neither
 * ever holds the value that is wrong: it may be a secret.
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
  /** Place in the file's text, both from 1; columns are UTF-16 code units. */
  line: Schema.optionalKey(Schema.Int),
  column: Schema.optionalKey(Schema.Int),
  /** The row of a configuration database, for example `sources/shop`. */
  row: Schema.optionalKey(Schema.String),
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

const token = /\.?([A-Za-z_][\w-]*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]/y

/** The path that `formatPath` writes as `text`; undefined when it writes none so. */
export const parsePath = (text: string): Path | undefined => {
  const path: Array<string | number> = []
  token.lastIndex = 0
  for (let at = 0; at < text.length; at = token.lastIndex) {
    token.lastIndex = at
    const match = token.exec(text)
    if (match === null) return undefined
    const [, plain, index, quoted] = match
    if (plain !== undefined) path.push(plain)
    else if (index !== undefined) path.push(Number(index))
    else {
      try {
        path.push(String(JSON.parse(quoted ?? "")))
      } catch {
        return undefined
      }
    }
  }
  return path.length > 0 && formatPath(path) === text ? path : undefined
}

/** Whether `path` is `ancestor` or lies below it. */
export const isWithin = (path: Path, ancestor: Path): boolean =>
  ancestor.length <= path.length && ancestor.every((part, index) => String(part) === String(path[index]))

/** Several lines for people: place and path, what is wrong, what to do. `file`: the configuration's name. */
export const render = (file: string, problem: Problem): string =>
  [
    `${problem.row ?? [file, problem.line, problem.column].filter((part) => part !== undefined).join(":")}${
      problem.path === "" ? "" : `  ${problem.path}`
    }`,
    `  ${problem.message}`,
    ...(problem.remedy === "" ? [] : [`  -> ${problem.remedy}`])
  ].join("\n")
