/**
 * Secrets that a document spells out: where its plugins say that a value is one, and the value is no reference.
 *
 * A configuration database is read, dumped and backed up by more people than a file on one machine, so none is stored as it is.
 */
import type { Kind } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as EncryptedSecret from "../EncryptedSecret.ts"
import * as PluginLoader from "../PluginLoader.ts"
import type { Finding, Path } from "../Problem.ts"
import * as SchemaShape from "../SchemaShape.ts"
import type { Content } from "./Rows.ts"

/** A secret in plain text, and its path in the row's value. */
export interface PlainSecret {
  readonly path: Path
  readonly secret: Redacted.Redacted
}

/** A URL without a password is no secret, though its option may hold one. */
const isHarmless = (text: string): boolean => {
  if (text === "") return true
  if (!text.includes("://") || !URL.canParse(text)) return false
  const { password, searchParams } = new URL(text)
  return password === "" && !searchParams.has("password")
}

/** Texts in `value` with their paths. */
const texts = (value: unknown, path: Path): ReadonlyArray<readonly [Path, string]> => {
  if (typeof value === "string") return [[path, value]]
  if (Array.isArray(value)) return value.flatMap((item, index) => texts(item, [...path, index]))
  return typeof value === "object" && value !== null
    ? Object.entries(value).flatMap(([key, item]) => texts(item, [...path, key]))
    : []
}

/** Whether `text` holds a reference; `$${` is none. */
const hasReference = (text: string): boolean => text.replaceAll("$${", "").includes("${")

const field = (value: unknown, key: string): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined

/** The stages in a row's value, each with its path. */
const stagesOf = (
  { name, table, value }: Content
): ReadonlyArray<{ readonly kind: Kind; readonly path: Path; readonly stage: unknown }> => {
  switch (table) {
    case "sources":
      return [{ kind: "source", path: [], stage: value }]
    case "sinks":
      return [{ kind: "sink", path: [], stage: value }]
    case "monitors":
      return [{ kind: "monitor", path: [], stage: value }]
    case "notifiers":
      return [{ kind: "notifier", path: [], stage: value }]
    case "settings":
      return name === "state" ? [{ kind: "state", path: [], stage: value }] : []
    case "pipelines": {
      const transforms = field(value, "transforms")
      return [
        { kind: "deadLetters", path: ["deadLetters"], stage: field(value, "deadLetters") },
        ...(Array.isArray(transforms)
          ? transforms.map((stage: unknown, index) => ({
            kind: "transform" as const,
            path: ["transforms", index],
            stage
          }))
          : [])
      ]
    }
  }
}

/** The secrets that `row` spells out. Its plugins are loaded; that they can be has been found out before. */
export const of = Effect.fnUntraced(function*(row: Content, directory: string) {
  const found: Array<PlainSecret> = []
  for (const { kind, path, stage } of stagesOf(row)) {
    const plugin = field(stage, "plugin")
    if (typeof plugin !== "string" || hasReference(plugin)) continue
    const loaded = yield* PluginLoader.find(plugin, directory).pipe(
      Effect.flatMap((loaded) => PluginLoader.expectKind(loaded, kind)),
      Effect.catch(() => Effect.succeed(undefined))
    )
    if (loaded === undefined) continue
    for (const [at, text] of texts(field(stage, "options"), [])) {
      if (hasReference(text) || isHarmless(text) || !SchemaShape.isSecret(loaded.config, at)) continue
      found.push({
        path: [...path, "options", ...at],
        // As it would be resolved: what is decrypted is not resolved once more.
        secret: Redacted.make(text.replaceAll("$${", "${"))
      })
    }
  }
  return found
})

/** `value` with `leaf` at `path`. */
export const replace = (value: unknown, path: Path, leaf: string): unknown => {
  const [key, ...rest] = path
  if (key === undefined) return leaf
  if (Array.isArray(value)) return value.map((item, index) => index === key ? replace(item, rest, leaf) : item)
  return typeof value === "object" && value !== null
    ? Object.fromEntries(
      Object.entries(value).map(([name, item]) => [name, name === key ? replace(item, rest, leaf) : item])
    )
    : value
}

/** What stands at `path` of `value`. */
export const lookup = (value: unknown, path: Path): unknown =>
  path.reduce<unknown>(
    (inner, key) =>
      typeof inner === "object" && inner !== null && Object.hasOwn(inner, key) ? Reflect.get(inner, key) : undefined,
    value
  )

/** The path of a row's value in the document. */
export const documentPath = ({ name, table }: Content): Path => table === "settings" ? [name] : [table, name]

/** Why plain secrets are not stored. */
export const refusal = (path: Path): Finding => ({
  path,
  at: "value",
  message: "This is a secret in plain text, which the configuration database is not to hold.",
  remedy: "Write `${env:NAME}` or `${file:path}`, or have it encrypted: `apply --encrypt`."
})

const wholeReference = /^\$\{enc:([^{}]*)\}$/

/** The ciphertext `before` when it hides `secret` at `place`: encrypting it again would look like a change. */
export const unchanged = (
  before: unknown,
  secret: Redacted.Redacted,
  place: Path,
  keys: EncryptedSecret.Keys
): string | undefined => {
  const body = typeof before === "string" ? wholeReference.exec(before)?.[1] : undefined
  if (typeof before !== "string" || body === undefined || EncryptedSecret.keyIdOf(body) !== keys.current.id) {
    return undefined
  }
  const opened = EncryptedSecret.decrypt(body, place, keys)
  return opened._tag === "Success" && Redacted.value(opened.success) === Redacted.value(secret) ? before : undefined
}
