/**
 * Whether an export of a module is a plugin that the runner can use: what a copy of core from elsewhere, plain JavaScript, or a mistake may have made of it.
 */
import { type AnyPlugin, isPlugin, type Kind, type Stability } from "@etl-stream/core/Plugin"
import * as Schema from "effect/Schema"

/** Every kind, as a person would call one. */
export const kinds: Readonly<Record<Kind, string>> = {
  source: "source",
  transform: "transform",
  sink: "sink",
  state: "state store",
  notifier: "notifier",
  monitor: "monitor",
  deadLetters: "dead-letter store"
}

/** `kind` as a person would call it; what isn't known is called by itself. */
export const kindText = (kind: string): string => Object.entries(kinds).find(([known]) => known === kind)?.[1] ?? kind

const stabilities: Readonly<Record<Stability, true>> = { experimental: true, beta: true, stable: true }

const field = (value: object, key: string): unknown => Reflect.get(value, key)

const isText = (value: unknown): boolean => typeof value === "string" && value.trim() !== ""
const isFunction = (value: unknown): boolean => typeof value === "function"

/** What a field must be, and whether it may be absent. */
const rules: ReadonlyArray<
  readonly [key: string, must: string, optional: boolean, holds: (value: unknown) => boolean]
> = [
  ["name", "text", false, isText],
  ["version", "text", false, isText],
  ["summary", "text", false, isText],
  ["config", "a Schema of effect", false, Schema.isSchema],
  ["make", "a function", false, isFunction],
  [
    "stability",
    "`experimental`, `beta` or `stable`",
    true,
    (value) => typeof value === "string" && Object.hasOwn(stabilities, value)
  ],
  ["description", "text", true, isText],
  ["examples", "a list", true, Array.isArray],
  ["check", "a function", true, isFunction],
  ["claims", "a function", true, isFunction],
  ["tables", "a function", true, isFunction],
  ["deadLetters", "a function", true, isFunction]
]

/** The version of the contracts that a branded value says it was written for; undefined when it says none. */
export const apiVersionOf = (plugin: object): number | undefined => {
  const version = field(plugin, "apiVersion")
  return typeof version === "number" && Number.isInteger(version) ? version : undefined
}

/** What is wrong with a branded value of our version of the contracts, as the end of a sentence; undefined when nothing is. */
export const defect = (plugin: AnyPlugin): string | undefined => {
  if (apiVersionOf(plugin) === undefined) return "its `apiVersion` is no integer"
  const kind = field(plugin, "kind")
  if (typeof kind !== "string" || !Object.hasOwn(kinds, kind)) {
    return `its \`kind\` is none of ${Object.keys(kinds).map((known) => `\`${known}\``).join(", ")}`
  }
  for (const [key, must, optional, holds] of rules) {
    const value = field(plugin, key)
    if (optional && value === undefined) continue
    if (!holds(value)) return value === undefined ? `it has no \`${key}\`` : `its \`${key}\` is not ${must}`
  }
  return undefined
}

/** Whether a value looks like a plugin that was put together by hand, without the brand. */
export const isUnbranded = (value: unknown): boolean =>
  typeof value === "object" && value !== null && !isPlugin(value) && isFunction(field(value, "make")) &&
  ("config" in value || "kind" in value)
