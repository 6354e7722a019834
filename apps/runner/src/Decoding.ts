/**
 * Decodes a part of a configuration with a schema, and says what is wrong with it in the words of its file.
 *
 * Every problem is found at once. Unknown keys and misspelt values come with the known ones, missing keys with what they mean. Values that were
 * references are taken as the number or boolean that the schema wants; those that are not resolved are passed over. Neither a value nor what a
 * reference was resolved to ever gets into a finding.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import { conceal, type Reference } from "./Interpolation.ts"
import { type Finding, isWithin, type Path } from "./Problem.ts"
import { inline } from "./schema/OptionTable.ts"
import * as SchemaShape from "./SchemaShape.ts"
import { closest, enumerate } from "./Suggestion.ts"

/** A leaf of a schema's refusal: where (from the decoded part's root) and what. */
interface Refusal {
  readonly path: Path
  readonly kind: "missing" | "unknown" | "value"
  /** The schema's own words, when there are any beyond the expected kind. */
  readonly message: string | undefined
}

const part = (key: PropertyKey): string | number => typeof key === "number" ? key : String(key)

/** Refusals of all members of a union: those of the member that comes closest, or of the whole when none is close. */
const refusalsOfUnion = (issue: SchemaIssue.AnyOf, path: Path): ReadonlyArray<Refusal> => {
  const members = issue.issues.map((member) => refusals(member, path)).filter((found) =>
    found.some((refusal) => refusal.path.length > path.length)
  )
  const best = members.reduce<ReadonlyArray<Refusal> | undefined>(
    (best, found) => best === undefined || found.length < best.length ? found : best,
    undefined
  )
  return best ?? [{ path, kind: "value", message: undefined }]
}

const ownMessage = (message: string | undefined): string | undefined =>
  message === undefined || message === "" ? undefined : message

const refusals = (issue: SchemaIssue.Issue, path: Path, words?: string): ReadonlyArray<Refusal> => {
  switch (issue._tag) {
    case "Pointer":
      return refusals(issue.issue, [...path, ...issue.path.map(part)], words)
    case "Encoding":
      return refusals(issue.issue, path, words)
    case "Composite":
      return issue.issues.flatMap((inner) => refusals(inner, path, words))
    case "Filter": {
      const expected = issue.filter.annotations?.["expected"]
      return refusals(
        issue.issue,
        path,
        words ?? SchemaIssue.defaultCheckHook(issue) ??
          (typeof expected === "string" ? `Expected ${expected}` : undefined)
      )
    }
    case "AnyOf":
      return refusalsOfUnion(issue, path)
    case "MissingKey":
      return [{ path, kind: "missing", message: undefined }]
    case "UnexpectedKey":
      return [{ path, kind: "unknown", message: undefined }]
    case "InvalidType":
      return [{ path, kind: "value", message: ownMessage(words) }]
    case "InvalidValue":
    case "Forbidden":
    case "OneOf":
      return [{ path, kind: "value", message: ownMessage(words ?? SchemaIssue.defaultLeafHook(issue)) }]
  }
}

const sentence = (text: string): string => {
  const trimmed = text.trim()
  return `${trimmed.charAt(0).toUpperCase()}${trimmed.slice(1)}${/[.!?]$/.test(trimmed) ? "" : "."}`
}

const kindOf = (value: unknown): string => {
  if (value === null || value === undefined) return "nothing"
  if (Array.isArray(value)) return "a list"
  switch (typeof value) {
    case "string":
      return "text"
    case "number":
    case "bigint":
      return "a number"
    case "boolean":
      return String(value)
    default:
      return "a mapping"
  }
}

const lookup = (value: unknown, path: Path): unknown =>
  path.reduce<unknown>(
    (inner, key) => typeof inner === "object" && inner !== null ? Reflect.get(inner, key) : undefined,
    value
  )

const describeRefusal = (
  schema: Schema.Constraint,
  value: unknown,
  { kind, message, path }: Refusal
): Omit<Finding, "path"> => {
  const key = String(path[path.length - 1] ?? "")
  const shapes = SchemaShape.at(schema, path)
  const expected = SchemaShape.describe(shapes)
  const meaning = SchemaShape.description(schema, path)
  const [first] = SchemaShape.examples(schema, path)
  const example = first === undefined ? "" : ` For example: \`${inline(first)}\`.`
  switch (kind) {
    case "unknown": {
      const known = SchemaShape.keys(SchemaShape.at(schema, path.slice(0, -1)))
      const meant = closest(key, known)
      const rule = SchemaShape.nameRule(schema, path.slice(0, -1))
      return {
        at: "key",
        message: rule !== undefined ? `The name \`${key}\` is not allowed here.` : `Unknown key \`${key}\`.`,
        remedy: meant !== undefined
          ? `Did you mean \`${meant}\`?`
          : rule !== undefined
          ? `Rename it: expected ${rule}.`
          : known.length === 0
          ? "Remove it: no keys are allowed here."
          : `Remove it, or use ${known.length === 1 ? "" : "one of "}${
            enumerate(known.map((name) => `\`${name}\``), "or")
          }.`
      }
    }
    case "missing":
      return {
        at: "value",
        message: `The key \`${key}\` is missing.`,
        remedy: `Add \`${key}\`${expected.length === 0 ? "" : `: ${enumerate(expected, "or")}`}.${
          meaning === undefined ? "" : ` ${sentence(meaning)}`
        }${example}`
      }
    case "value": {
      const actual = lookup(value, path)
      const literals = SchemaShape.literals(shapes)
      const meant = typeof actual === "string" ? closest(actual, literals) : undefined
      const fits = shapes.some((shape) => SchemaShape.isOfKind(shape, actual))
      const kinds = expected.length === 0 ? "another value" : enumerate(expected, "or")
      const own = message !== undefined && fits && message !== "Expected a valid value" &&
        message !== "Expected a valid Duration string"
      const written = own ? message : `Expected ${kinds}${fits ? "" : `, got ${kindOf(actual)}`}`
      return {
        at: "value",
        message: sentence(written),
        remedy: meant !== undefined
          ? `Did you mean \`${meant}\`?`
          : SchemaShape.areDurations(shapes) && !own
          ? "Write a number and a unit, such as `5 seconds`, `500 millis` or `2 minutes`."
          : meaning !== undefined
          ? `Correct \`${key}\`. ${sentence(meaning)}${example}`
          : key === ""
          ? "Correct these options."
          : `Correct ${typeof path[path.length - 1] === "number" ? "this item of the list" : `\`${key}\``}.`
      }
    }
  }
}

export type Decoded<A> =
  | { readonly _tag: "Valid"; readonly value: A }
  /** With no findings when all that is wrong hangs on references that are not resolved. */
  | { readonly _tag: "Invalid"; readonly findings: ReadonlyArray<Finding> }

const replace = (value: unknown, path: Path, leaf: unknown): unknown => {
  const [key, ...rest] = path
  if (key === undefined) return leaf
  if (Array.isArray(value)) return value.map((item, index) => index === Number(key) ? replace(item, rest, leaf) : item)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, name === String(key) ? replace(item, rest, leaf) : item])
  )
}

/** `value` without the key at `path`; items of lists stay, so that indexes do. */
const remove = (value: unknown, path: Path): unknown => {
  const [key, ...rest] = path
  if (key === undefined) return undefined
  if (Array.isArray(value)) return value.map((item, index) => index === Number(key) ? remove(item, rest) : item)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).filter(([name]) => rest.length > 0 || name !== String(key)).map(([name, item]) => [
      name,
      name === String(key) ? remove(item, rest) : item
    ])
  )
}

/** Layers of a schema that are looked through for problems. */
const mostRounds = 8

/**
 * Decodes `value`, which stands at `root` of the document. Secrets may be written as `Schema.Redacted` or `Schema.RedactedFromValue`: a plain string is
 * the input of both.
 */
export const decode = Effect.fnUntraced(function*<A>(
  schema: Schema.ConstraintCodec<A, unknown>,
  value: unknown,
  root: Path,
  allReferences: ReadonlyArray<Reference>
): Effect.fn.Return<Decoded<A>> {
  const codec = Schema.toCodecJson(schema)
  const references = allReferences.filter((reference) => isWithin(reference.path, root))
  const input = references.reduce(
    (input, { path, resolved }) =>
      resolved === undefined ? input : replace(
        input,
        path.slice(root.length),
        SchemaShape.coerce(resolved, SchemaShape.at(codec, path.slice(root.length)))
      ),
    value
  )
  const findings: Array<Finding> = []
  const pruned: Array<Path> = []
  let remaining = input
  // A schema stops at the first of its layers that refuses something, so what was refused is taken out and the rest is looked at again.
  for (let round = 0; round < mostRounds; round++) {
    const result = yield* Effect.result(
      Schema.decodeUnknownEffect(codec)(remaining, { errors: "all", onExcessProperty: "error" })
    )
    if (result._tag === "Success") {
      if (round === 0) return { _tag: "Valid", value: result.success }
      break
    }
    // What contains something that was taken out may be refused for that alone.
    const fresh = refusals(result.failure.issue, []).filter(({ kind, path }) =>
      !pruned.some((known) => isWithin(path, known) || (kind === "value" && isWithin(known, path)))
    )
    for (const refusal of fresh) {
      const path = [...root, ...refusal.path]
      const related = references.filter((reference) => isWithin(reference.path, path) || isWithin(path, reference.path))
      pruned.push(refusal.path)
      // What an unresolved reference stands for is unknown, so nothing can be said of it, nor of what contains it as a whole.
      if (refusal.kind === "value" && related.some(({ resolved }) => resolved === undefined)) continue
      const { at, message, remedy } = describeRefusal(codec, input, refusal)
      const finding: Finding = {
        path,
        at,
        message: conceal(message, references),
        remedy: related.reduce(
          (remedy, { path: { length }, written }) =>
            refusal.kind === "value" && length === path.length
              ? `${remedy} The value comes from \`${written}\`.`
              : remedy,
          conceal(remedy, references)
        )
      }
      if (
        !findings.some((known) => known.message === message && isWithin(known.path, path) && isWithin(path, known.path))
      ) findings.push(finding)
    }
    const removable = fresh.filter(({ kind, path }) => kind !== "missing" && path.length > 0)
    if (removable.length === 0) break
    remaining = removable.reduce((rest, { path }) => remove(rest, path), remaining)
  }
  return { _tag: "Invalid", findings }
})
