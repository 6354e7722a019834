/**
 * What a schema expects at a path of its input: its keys, kinds and descriptions, for messages and for values that come as text.
 *
 * Shapes are the encoded side of a schema's syntax tree; where a union allows several, all are given.
 */
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import type { Path } from "./Problem.ts"

/** One of the things that a value may be. Never a union. */
export type Shape = SchemaAST.AST

const text = (value: unknown): string | undefined =>
  typeof value === "string" && value.trim() !== "" ? value.trim() : undefined

const alternatives = (ast: SchemaAST.AST): ReadonlyArray<Shape> => {
  if (SchemaAST.isUnion(ast)) return ast.types.flatMap(alternatives)
  if (SchemaAST.isSuspend(ast)) return alternatives(ast.thunk())
  return [ast]
}

const inside = (shape: Shape, part: string | number): ReadonlyArray<SchemaAST.AST> => {
  if (SchemaAST.isObjects(shape)) {
    const property = shape.propertySignatures.find(({ name }) => String(name) === String(part))
    return property === undefined ? shape.indexSignatures.map(({ type }) => type) : [property.type]
  }
  if (SchemaAST.isArrays(shape)) {
    const element = shape.elements[Number(part)] ?? shape.rest[0]
    return element === undefined ? [] : [element]
  }
  return []
}

/** What `schema` takes as input at `path`; nothing when it knows no such path. */
export const at = (schema: Schema.Constraint, path: Path): ReadonlyArray<Shape> =>
  path.reduce(
    (shapes, part) => shapes.flatMap((shape) => inside(shape, part)).flatMap(alternatives),
    alternatives(SchemaAST.toEncoded(schema.ast))
  )

/** The keys of a mapping. */
export const keys = (shapes: ReadonlyArray<Shape>): ReadonlyArray<string> => [
  ...new Set(
    shapes.flatMap((shape) =>
      SchemaAST.isObjects(shape) ? shape.propertySignatures.map(({ name }) => String(name)) : []
    )
  )
]

/** The fixed values among `shapes`, as they are written in YAML. */
export const literals = (shapes: ReadonlyArray<Shape>): ReadonlyArray<string> => [
  ...new Set(shapes.flatMap((shape) => SchemaAST.isLiteral(shape) ? [String(shape.literal)] : []))
]

const isDuration = (shape: Shape): boolean =>
  SchemaAST.isString(shape) && /\bDuration$/.test(text(shape.annotations?.["expected"]) ?? "")

/** Whether `shapes` are all durations written as text. */
export const areDurations = (shapes: ReadonlyArray<Shape>): boolean => shapes.length > 0 && shapes.every(isDuration)

const kind = (shape: Shape): string => {
  if (isDuration(shape)) return "a duration"
  const own = layersOf(shape).map((annotations) => text(annotations?.["kind"])).find((own) => own !== undefined)
  if (own !== undefined) return own
  switch (shape._tag) {
    case "String":
    case "TemplateLiteral":
      return "text"
    case "Number":
      return "a number"
    case "Boolean":
      return "true or false"
    case "Null":
      return "nothing (null)"
    case "Objects":
      return "a mapping"
    case "Arrays":
      return "a list"
    case "Literal":
      return typeof shape.literal === "string" ? `"${shape.literal}"` : String(shape.literal)
    default:
      return "a value"
  }
}

/** The kinds of `shapes`, in words: `"a" or "b"`, `a number`. */
export const describe = (shapes: ReadonlyArray<Shape>): ReadonlyArray<string> => [...new Set(shapes.map(kind))]

/** Whether `value` is of the kind that `shape` takes, if not of its value. */
export const isOfKind = (shape: Shape, value: unknown): boolean => {
  switch (shape._tag) {
    case "String":
    case "TemplateLiteral":
      return typeof value === "string"
    case "Number":
      return typeof value === "number"
    case "Boolean":
      return typeof value === "boolean"
    case "Null":
      return value === null
    case "Objects":
      return typeof value === "object" && value !== null && !Array.isArray(value)
    case "Arrays":
      return Array.isArray(value)
    case "Literal":
      return typeof shape.literal === typeof value
    default:
      return true
  }
}

/** Everything that is annotated of `ast`, what comes first counting most: as a key, then its checks from the last, which have a schema's annotations if there are any. */
const layersOf = (ast: SchemaAST.AST): ReadonlyArray<Readonly<Record<string, unknown>> | undefined> => [
  ast.context?.annotations,
  ...(ast.checks ?? []).map(({ annotations }) => annotations).reverse(),
  ast.annotations
]

/** What `find` finds first in the annotations at `path` below one of `roots`. */
const annotated = <A>(
  roots: ReadonlyArray<SchemaAST.AST>,
  path: Path,
  key: string,
  find: (value: unknown) => A | undefined
): A | undefined => {
  for (const root of roots) {
    const reached = path.reduce(
      (shapes: ReadonlyArray<SchemaAST.AST>, part) =>
        shapes.flatMap(alternatives).flatMap((shape) => inside(shape, part)),
      [root]
    )
    for (const annotations of reached.flatMap(layersOf)) {
      const found = find(annotations?.[key])
      if (found !== undefined) return found
    }
  }
  return undefined
}

const bothSides = (schema: Schema.Constraint): ReadonlyArray<SchemaAST.AST> => [
  schema.ast,
  SchemaAST.toEncoded(schema.ast)
]

/** Values are annotated as they are written on this side alone. */
const encoded = (schema: Schema.Constraint): ReadonlyArray<SchemaAST.AST> => [SchemaAST.toEncoded(schema.ast)]

/** What the key at `path` means, by its schema's description, on whichever side of its transformations the description is. */
export const description = (schema: Schema.Constraint, path: Path): string | undefined =>
  annotated(bothSides(schema), path, "description", text)

/** What to use instead of the key at `path`, when it is deprecated. */
export const deprecation = (schema: Schema.Constraint, path: Path): string | undefined =>
  annotated(bothSides(schema), path, "deprecated", text)

/** The annotation `key` at `path`, if `guard` knows it. */
export const annotation = <A>(
  schema: Schema.Constraint,
  path: Path,
  key: string,
  guard: (value: unknown) => value is A
): A | undefined => annotated(bothSides(schema), path, key, (value) => guard(value) ? value : undefined)

const isJson = Schema.is(Schema.Json)

const json = (value: unknown): Schema.Json | undefined => isJson(value) ? value : undefined

/** The value, as it would be written, that stands for an absent key at `path`. */
export const defaultOf = (schema: Schema.Constraint, path: Path): Schema.Json | undefined =>
  annotated(encoded(schema), path, "default", json)

/** Values as one would write them at `path`. */
export const examples = (schema: Schema.Constraint, path: Path): ReadonlyArray<Schema.Json> => {
  const found = annotated(encoded(schema), path, "examples", json)
  return Array.isArray(found) ? found : []
}

/** Whether the key at `path` has to be written, in whichever of the mappings that may be there. */
export const isRequired = (schema: Schema.Constraint, path: Path): boolean => {
  const key = String(path[path.length - 1])
  const mappings = at(schema, path.slice(0, -1)).filter((shape) => SchemaAST.isObjects(shape))
  return mappings.length > 0 && mappings.every(({ propertySignatures }) =>
    propertySignatures.some(({ name, type }) => String(name) === key && !SchemaAST.isOptional(type))
  )
}

/** Whether what `schema` makes of the value at `path` may be `Redacted`: the value is a secret. */
export const isSecret = (schema: Schema.Constraint, path: Path): boolean =>
  path.reduce(
    (shapes, part) => shapes.flatMap((shape) => inside(shape, part)).flatMap(alternatives),
    alternatives(SchemaAST.toType(schema.ast))
  ).some((shape) => {
    const representation = SchemaAST.isDeclaration(shape) ? shape.annotations?.["representation"] : undefined
    return typeof representation === "object" && representation !== null && "id" in representation &&
      representation.id === "effect/schema/Redacted"
  })

/** What the names in a mapping of free names at `path` must be like, when there is a rule. */
export const nameRule = (schema: Schema.Constraint, path: Path): string | undefined => {
  const shapes = path.reduce(
    (shapes: ReadonlyArray<SchemaAST.AST>, part) =>
      shapes.flatMap((shape) => inside(shape, part)).flatMap(alternatives),
    alternatives(schema.ast)
  )
  const rules = shapes.flatMap((shape) => SchemaAST.isObjects(shape) ? shape.indexSignatures : []).flatMap((
    { parameter }
  ) => parameter.checks ?? [])
  return rules.map((rule) => text(rule.annotations?.["expected"])).find((rule) => rule !== undefined)
}

const numeral = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/

/**
 * Text that stands for a value of `shapes`: unchanged where text is welcome, otherwise the number or boolean that it spells, if one
 * is expected. Text that fits nothing stays, for the schema to refuse.
 */
export const coerce = (value: string, shapes: ReadonlyArray<Shape>): string | number | boolean => {
  const trimmed = value.trim()
  for (const shape of shapes) {
    switch (shape._tag) {
      case "String":
      case "TemplateLiteral":
      case "Unknown":
      case "Any":
        return value
      case "Literal":
        if (shape.literal === value) return value
    }
  }
  for (const shape of shapes) {
    const number = SchemaAST.isNumber(shape) || (SchemaAST.isLiteral(shape) && typeof shape.literal === "number")
    if (number && numeral.test(trimmed)) return Number(trimmed)
    const boolean = SchemaAST.isBoolean(shape) || (SchemaAST.isLiteral(shape) && typeof shape.literal === "boolean")
    if (boolean && (trimmed === "true" || trimmed === "false")) return trimmed === "true"
  }
  return value
}
