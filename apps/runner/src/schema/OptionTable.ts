/**
 * The options of a schema as rows, and as the table that the configuration page, the reference pages and `etl-stream plugin docs` have.
 */
import type * as Schema from "effect/Schema"
import type { Path } from "../Problem.ts"
import * as SchemaShape from "../SchemaShape.ts"
import { anyName } from "./OptionJsonSchema.ts"

/** A key as it can be written. */
export interface Option {
  /** From where the table begins: `slot.name`; `<name>` stands for free names, `[]` for an item of a list. */
  readonly key: string
  /** What it takes, in words. */
  readonly value: string
  /** The value, as it would be written, that it has when it is absent. */
  readonly default?: Schema.Json
  /** Within what it is in. */
  readonly required: boolean
  readonly secret: boolean
  /** What to do instead, when it is deprecated. */
  readonly deprecated?: string
  readonly examples: ReadonlyArray<Schema.Json>
  /** What it means, in Markdown. */
  readonly description: string
}

/** A schema that contains itself is shown as deep as this. */
const deepest = 6

const write = (path: Path): string =>
  path.map((part, index) => typeof part === "number" ? "[]" : `${index === 0 ? "" : "."}${part}`).join("")

/** Paths of the keys that may be written below `path`, or else below its free names or the items of its list. */
const below = (schema: Schema.Constraint, path: Path): ReadonlyArray<Path> =>
  [path, [...path, anyName], [...path, 0]].map((at) =>
    SchemaShape.keys(SchemaShape.at(schema, at)).map((key): Path => [...at, key])
  ).find((paths) => paths.length > 0) ?? []

/** The keys that may be written below `path`, sections before what is in them. What is below a path in `elsewhere` (as `key` has it) is left out. */
export const options = (
  schema: Schema.Constraint,
  path: Path = [],
  elsewhere: ReadonlySet<string> = new Set()
): ReadonlyArray<Option> => {
  const rows = (at: Path, depth: number): ReadonlyArray<Option> =>
    below(schema, at).flatMap((inner) => {
      const key = write(inner.slice(path.length))
      const nested = depth >= deepest || elsewhere.has(key) ? [] : rows(inner, depth + 1)
      const kinds = SchemaShape.describe(SchemaShape.at(schema, inner)).map((kind) =>
        kind === "a mapping" && nested.length > 0 ? "a section" : kind
      )
      const byDefault = SchemaShape.defaultOf(schema, inner)
      const deprecated = SchemaShape.deprecation(schema, inner)
      return [{
        key,
        value: kinds.join(" or "),
        ...(byDefault === undefined ? {} : { default: byDefault }),
        required: SchemaShape.isRequired(schema, inner),
        secret: SchemaShape.isSecret(schema, inner),
        ...(deprecated === undefined ? {} : { deprecated }),
        examples: SchemaShape.examples(schema, inner),
        description: SchemaShape.description(schema, inner) ?? ""
      }, ...nested]
    })
  return rows(path, 0)
}

/** A value as it is written in YAML, in one line. */
export const inline = (value: Schema.Json): string => {
  if (typeof value === "string") return /^[\w./+-][\w ./:%+-]*$/.test(value) ? value : JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(inline).join(", ")}]`
  return typeof value === "object" && value !== null
    ? `{${Object.entries(value).map(([key, inner]) => `${key}: ${inline(inner)}`).join(", ")}}`
    : String(value)
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ")

const sentence = (text: string): string => text === "" || /[.!?)]$/.test(text) ? text : `${text}.`

const byDefault = (option: Option): string => {
  if (option.required) return "required"
  if (option.default === undefined) return ""
  // A section's keys have their own.
  return typeof option.default === "object" && option.default !== null && Object.keys(option.default).length === 0 &&
      !Array.isArray(option.default)
    ? ""
    : `\`${inline(option.default)}\``
}

const meaning = ({ deprecated, description, examples, secret }: Option): string =>
  [
    ...(deprecated === undefined ? [] : [`**Deprecated.** ${sentence(deprecated)}`]),
    ...(secret ? ["*Secret.*"] : []),
    // What follows a description makes sentences of it.
    ...(examples.length === 0 ?
      [description] :
      [sentence(description), `For example ${examples.map((example) => `\`${inline(example)}\``).join(", ")}.`])
  ].filter((part) => part !== "").join(" ")

/** `options` as a table in Markdown. */
export const markdown = (options: ReadonlyArray<Option>): string =>
  options.length === 0 ? "None." : [
    "| key | value | default | meaning |",
    "| --- | --- | --- | --- |",
    ...options.map((option) =>
      `| \`${option.key}\` | ${cell(option.value)} | ${cell(byDefault(option))} | ${cell(meaning(option))} |`
    )
  ].join("\n")
