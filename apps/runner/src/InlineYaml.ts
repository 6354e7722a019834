/**
 * Values as they are written in YAML, in one line: for messages and tables.
 */
import type * as Schema from "effect/Schema"
import * as Yaml from "yaml"

const text = (value: string, within: boolean): string => {
  const written = Yaml.stringify(value, { lineWidth: 0 }).trimEnd()
  return written.includes("\n") || (within && /[,[\]{}]/.test(value)) ? JSON.stringify(value) : written
}

/** `value` in flow style. `within`: whether it stands in a mapping or list itself. */
export const print = (value: Schema.Json, within = false): string => {
  if (typeof value === "string") return text(value, within)
  if (Array.isArray(value)) return `[${value.map((item: Schema.Json) => print(item, true)).join(", ")}]`
  return typeof value === "object" && value !== null
    ? `{${Object.entries(value).map(([key, inner]) => `${text(key, true)}: ${print(inner, true)}`).join(", ")}}`
    : String(value)
}
