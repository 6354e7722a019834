/**
 * The JSON Schema of options as they are written in a configuration, for editors.
 *
 * Its structure is what Effect makes of the encoded side of a schema. To that comes what only a configuration has: references such as `${env:PORT}` wherever a
 * value may be, durations, and, by the same `SchemaShape` that messages and the reference pages go by, each key's description, default, examples and deprecation.
 *
 * It is draft-07, which every editor's YAML support knows: yaml-language-server reads 2019-09 and 2020-12 only since its version 1.20. It is made so that it never
 * refuses what decodes. The other way round it can't know what `Schema.makeFilter` checks, such as keys that exclude each other.
 */
import * as JsonSchema from "effect/JsonSchema"
import * as Schema from "effect/Schema"
import type { Path } from "../Problem.ts"
import * as SchemaShape from "../SchemaShape.ts"

/** A JSON Schema, or a part of one. */
export type Node = JsonSchema.JsonSchema

export interface Document {
  readonly schema: Node
  /** What the schema refers to as `#/definitions/<key>`, besides `reference`: parts that contain themselves. */
  readonly definitions: Readonly<Record<string, Node>>
}

export interface Options {
  /** What the keys of definitions begin with. */
  readonly prefix?: string
  /** Replaces parts: it gets each value's node, its children being done, and what it stands for. */
  readonly change?: (path: Path, node: Node) => Node
}

/** Stands for the free names of a mapping in paths. */
export const anyName = "<name>"

/** The definition `reference`: text that is resolved before it is decoded, to whatever is wanted there. */
export const reference: Node = {
  description: "Resolved when the configuration is read: ${env:NAME}, ${env:NAME:-default}, ${file:path} or ${enc:…}",
  type: "string",
  pattern: "\\$\\{(env|file|enc):[^{}]+\\}"
}

const pointer = "#/definitions/"

/** A node that is the definition `key`. */
export const definition = (key: string): Node => ({ $ref: `${pointer}${key}` })

/** What `Duration.fromInput` takes of text. */
const durationPattern =
  "^(-?[0-9]+(\\.[0-9]+)?\\s+(nanos?|micros?|millis?|seconds?|minutes?|hours?|days?|weeks?)|-?Infinity)$"

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && !Array.isArray(value)

const isNodes = (value: unknown): value is ReadonlyArray<Node> => Array.isArray(value) && value.every(isNode)

/** Keywords that say something about a value and nothing of it. */
const annotations: ReadonlySet<string> = new Set(["title", "description", "default", "examples", "writeOnly"])

const withoutAnnotations = (node: Node): Node =>
  Object.fromEntries(Object.entries(node).filter(([key]) => !annotations.has(key)))

const isScalar = ({ enum: values, type }: Node): boolean =>
  type === "string" || type === "number" || type === "integer" || type === "boolean" ||
  (type === undefined && Array.isArray(values))

/** Whether any text will do, a reference too: none is shorter than this. */
const isAnyText = (node: Node): boolean => {
  const { minLength, type, ...rest } = node
  return type === "string" && Object.keys(rest).length === 0 &&
    (minLength === undefined || (typeof minLength === "number" && minLength <= "${env:X}".length))
}

/** `node`, which may also be a reference when it is a scalar or may be one. */
const orReference = (node: Node): Node => {
  const members = node["anyOf"]
  if (isNodes(members)) {
    return members.some(isScalar) && !members.some(isAnyText)
      ? { ...node, anyOf: [...members, definition("reference")] }
      : node
  }
  return isScalar(node) && !isAnyText(node) ? { anyOf: [node, definition("reference")] } : node
}

/** `text` with its full stop. */
const sentence = (text: string): string => /[.!?]$/.test(text) ? text : `${text}.`

/** What is known about the value at `path`. */
const annotationsAt = (schema: Schema.Constraint, path: Path): Node => {
  const description = SchemaShape.description(schema, path)
  const deprecation = SchemaShape.deprecation(schema, path)
  const byDefault = SchemaShape.defaultOf(schema, path)
  const examples = SchemaShape.examples(schema, path)
  const told = [
    ...(deprecation === undefined ? [] : [`Deprecated. ${sentence(deprecation)}`]),
    ...(description === undefined ? [] : [description])
  ]
  return {
    ...(told.length === 0 ? {} : { description: told.join(" ") }),
    ...(byDefault === undefined ? {} : { default: byDefault }),
    ...(examples.length === 0 ? {} : { examples }),
    // The first is later JSON Schema's, the second that of VS Code.
    ...(deprecation === undefined ? {} : { deprecated: true, deprecationMessage: sentence(deprecation) }),
    ...(SchemaShape.isSecret(schema, path) ? { writeOnly: true } : {})
  }
}

/** Nothing beside a `$ref` counts in draft-07. */
const annotate = (node: Node, about: Node): Node =>
  Object.keys(about).length === 0 ? node : "$ref" in node ? { ...about, allOf: [node] } : { ...about, ...node }

/** The JSON Schema of what `schema` takes as input, in a document that defines `reference`. */
export const make = (
  schema: Schema.Constraint,
  { change = (_, node) => node, prefix = "" }: Options = {}
): Document => {
  const document = JsonSchema.toDocumentDraft07(
    Schema.toJsonSchemaDocument(schema, {
      onExcessProperty: "error",
      includeAnnotationKey: (key) => key === "jsonSchema",
      // Where something is used says more about it than a name of its own.
      referencePolicy: () => undefined
    })
  )
  const definitions: Record<string, Node> = {}

  /** The value at `path`, with all that is known about it. */
  const value = (node: Node, path: Path): Node =>
    annotate(change(path, orReference(constraints(node, path))), annotationsAt(schema, path))

  const values = (nodes: unknown, path: (key: string) => Path): unknown =>
    isNode(nodes)
      ? Object.fromEntries(
        Object.entries(nodes).map(([key, node]) => [key, isNode(node) ? value(node, path(key)) : node])
      )
      : nodes

  const keyword = (key: string, content: unknown, path: Path): unknown => {
    switch (key) {
      case "properties":
        return values(content, (name) => [...path, name])
      case "patternProperties":
        return values(content, () => [...path, anyName])
      case "additionalProperties":
        return isNode(content) ? value(content, [...path, anyName]) : content
      case "items":
        return isNodes(content)
          ? content.map((node, index) => value(node, [...path, index]))
          : isNode(content)
          ? value(content, [...path, 0])
          : content
      case "anyOf":
      case "allOf":
      case "oneOf":
        return isNodes(content) ? content.map((node) => constraints(node, path)) : content
      default:
        return content
    }
  }

  /** What a value at `path`, or one of the things that it may be, has to be like. */
  const constraints = (node: Node, path: Path): Node => {
    const target = node["$ref"]
    if (typeof target === "string" && target.startsWith(pointer)) {
      const key = target.slice(pointer.length)
      const named = `${prefix}${key}`
      const defined = document.definitions[decodeURIComponent(key)]
      if (!Object.hasOwn(definitions, named) && defined !== undefined) {
        definitions[named] = {}
        definitions[named] = constraints(defined, path)
      }
      return definition(named)
    }
    const { jsonSchema, ...own } = withoutAnnotations(node)
    const isDuration = own["type"] === "string" && SchemaShape.areDurations(SchemaShape.at(schema, path))
    const { allOf, ...made } = Object.fromEntries(
      Object.entries({
        ...(isDuration ? { pattern: durationPattern } : {}),
        ...own,
        ...(isNode(jsonSchema) ? jsonSchema : {})
      }).map(([key, content]) => [key, keyword(key, content, path)])
    )
    // Of a node that only annotated nothing is left.
    const further = isNodes(allOf) ? allOf.filter((member) => Object.keys(member).length > 0) : []
    return further.length === 0 ? made : { ...made, allOf: further }
  }

  return { schema: change([], constraints(document.schema, [])), definitions }
}
