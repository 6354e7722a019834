/**
 * References in a configuration: `${env:NAME}`, `${env:NAME:-default}`, `${file:path}` and `${enc:…}`.
 *
 * They are resolved in the string values of the parsed document, never in its text or its keys, and only once: whatever a variable or file holds, it
 * can't change the document's structure, and a `${` in it stays as it is. `$${` writes a literal `${`. What was resolved is remembered by path
 * (`Reference`), so that a number or boolean may come from a variable and messages can keep the value to themselves.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as EncryptedSecret from "./EncryptedSecret.ts"
import type { Finding, Path } from "./Problem.ts"

/** A string value that held references. */
export interface Reference {
  readonly path: Path
  /** As written in the file. */
  readonly written: string
  /** What it became; undefined when it was not or could not be resolved. */
  readonly resolved: string | undefined
}

export interface Interpolated {
  /** The document with every reference resolved; those that couldn't be stand as written. */
  readonly value: unknown
  readonly references: ReadonlyArray<Reference>
  readonly findings: ReadonlyArray<Finding>
  /** What was decrypted: secrets, whatever option they are for. */
  readonly secrets: ReadonlyArray<string>
}

export interface Options {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** The text of a file, relative paths being relative to the configuration's folder; fails with what is wrong with it. */
  readonly readFile: (path: string) => Effect.Effect<string, string>
  /** Leaves every reference unresolved; only their form is checked. */
  readonly offline: boolean
  /** The place that an encrypted secret at a path is bound to; default: the path. */
  readonly placeOf?: (path: Path) => Path
}

/** `$${` (a literal `${`), a well-formed or malformed `${…}`, or an opening that is never closed. */
const token = /\$\$\{|\$\{([^{}]*)\}|\$\{/g

const variableName = /^[A-Za-z_][A-Za-z0-9_]*$/

type Parsed =
  | { readonly _tag: "Env"; readonly name: string; readonly fallback: string | undefined }
  | { readonly _tag: "File"; readonly path: string }
  | { readonly _tag: "Encrypted"; readonly body: string }
  | { readonly _tag: "Malformed"; readonly remedy: string }

const parseReference = (body: string | undefined): Parsed => {
  const colon = body?.indexOf(":") ?? -1
  if (body === undefined) return { _tag: "Malformed", remedy: "Close it with `}`, or write `$${` for a literal `${`." }
  const rest = body.slice(colon + 1)
  switch (colon < 0 ? undefined : body.slice(0, colon)) {
    case "env": {
      const at = rest.indexOf(":-")
      const name = at < 0 ? rest : rest.slice(0, at)
      return variableName.test(name)
        ? { _tag: "Env", name, fallback: at < 0 ? undefined : rest.slice(at + 2) }
        : {
          _tag: "Malformed",
          remedy: "Write `${env:NAME}` or `${env:NAME:-default}`; a name has letters, digits and `_`."
        }
    }
    case "file":
      return rest.trim() === ""
        ? { _tag: "Malformed", remedy: "Write `${file:path}`." }
        : { _tag: "File", path: rest.trim() }
    case "enc":
      return EncryptedSecret.isEncrypted(rest)
        ? { _tag: "Encrypted", body: rest }
        : { _tag: "Malformed", remedy: "Write what `etl-stream encrypt` prints." }
    default:
      return {
        _tag: "Malformed",
        remedy: colon < 0 && variableName.test(body)
          ? `Write \`\${env:${body}}\` for an environment variable, or \`$\${\` for a literal \`\${\`.`
          : "Use `${env:NAME}`, `${env:NAME:-default}` or `${file:path}`, or write `$${` for a literal `${`."
      }
  }
}

/** One string value: its text after resolution, or what is wrong with its references. */
const resolveText = Effect.fnUntraced(function*(path: Path, text: string, options: Options) {
  const findings: Array<Finding> = []
  const found = (message: string, remedy: string): undefined => {
    findings.push({ path, at: "value", message, remedy })
  }
  const secrets: Array<string> = []
  let resolved = ""
  let complete = true
  let references = 0
  let last = 0
  for (const match of text.matchAll(token)) {
    resolved += text.slice(last, match.index)
    last = match.index + match[0].length
    if (match[0] === "$${") {
      resolved += "${"
      continue
    }
    references++
    const reference = parseReference(match[1])
    let value: string | undefined
    switch (reference._tag) {
      case "Malformed":
        found("This is not a reference that etl-stream knows.", reference.remedy)
        break
      case "Env": {
        if (options.offline) break
        const variable = options.environment[reference.name]
        value = variable === undefined || (variable === "" && reference.fallback !== undefined)
          ? reference.fallback
          : variable
        if (value === undefined) {
          found(
            `The environment variable ${reference.name} is not set.`,
            `Set it, give a default with \`\${env:${reference.name}:-default}\`, or check without it: \`validate --offline\`.`
          )
        }
        break
      }
      case "File": {
        if (options.offline) break
        const content = yield* Effect.result(options.readFile(reference.path))
        if (content._tag === "Success") value = content.success.replace(/\r?\n$/, "")
        else {found(
            `The file ${reference.path} ${content.failure}.`,
            "Create it, or correct the path (relative to the configuration file's folder)."
          )}
        break
      }
      case "Encrypted": {
        if (options.offline) break
        const secret = Result.flatMap(
          EncryptedSecret.keysFrom(options.environment),
          (keys) => EncryptedSecret.decrypt(reference.body, options.placeOf?.(path) ?? path, keys)
        )
        if (Result.isSuccess(secret)) {
          value = Redacted.value(secret.success)
          secrets.push(value)
        } else found(secret.failure.message, secret.failure.remedy)
      }
    }
    if (value === undefined) complete = false
    else resolved += value
  }
  resolved += text.slice(last)
  return { resolved: complete ? resolved : undefined, references, findings, secrets }
})

/** Resolves the references in all string values of `document`, a plain value without cycles. */
export const resolve = Effect.fn("Interpolation.resolve")(function*(document: unknown, options: Options) {
  const references: Array<Reference> = []
  const findings: Array<Finding> = []
  const secrets: Array<string> = []
  const visit = (value: unknown, path: Path): Effect.Effect<unknown> =>
    Effect.gen(function*() {
      if (typeof value === "string") {
        if (!value.includes("${")) return value
        const text = yield* resolveText(path, value, options)
        findings.push(...text.findings)
        secrets.push(...text.secrets)
        if (text.references > 0) references.push({ path, written: value, resolved: text.resolved })
        return text.resolved ?? value
      }
      if (Array.isArray(value)) return yield* Effect.forEach(value, (item, index) => visit(item, [...path, index]))
      if (typeof value === "object" && value !== null) {
        const entries = yield* Effect.forEach(
          Object.entries(value),
          ([key, item]) => Effect.map(visit(item, [...path, key]), (visited) => [key, visited] as const)
        )
        return Object.fromEntries(entries)
      }
      return value
    })
  return { value: yield* visit(document, []), references, findings, secrets } satisfies Interpolated as Interpolated
})

/** Text without what references were resolved to: `${env:NAME}` as written stands in its place. */
export const conceal = (text: string, references: ReadonlyArray<Reference>): string =>
  references.reduce(
    (concealed, { resolved, written }) =>
      resolved === undefined || resolved.length < 3 ? concealed : concealed.replaceAll(resolved, written),
    text
  )
