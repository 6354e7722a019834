/**
 * The JSON Schema of a configuration file: the runner's own keys, and for each place of a plugin the options of every plugin that is known.
 *
 * Whatever plugin a stage names that isn't known here may have any options.
 */
import type { AnyPlugin, Kind } from "@etl-stream/core/Plugin"
import * as Schema from "effect/Schema"
import { Config, isStageOf, type StageOf } from "../Config.ts"
import * as SchemaShape from "../SchemaShape.ts"
import { definition, make as makeOptions, type Node, reference } from "./OptionJsonSchema.ts"

/** A plugin by the name that configurations use for it. */
export interface Named {
  readonly name: string
  readonly plugin: AnyPlugin
}

/** A definition's key for a name; `taken` has those of others. */
const keyOf = (name: string, taken: ReadonlySet<string>): string => {
  const plain = name.replace(/[^A-Za-z0-9.-]+/g, "_").replace(/^_/, "")
  let key = plain
  for (let count = 2; taken.has(key); count++) key = `${plain}_${count}`
  return key
}

/** Whether a stage may leave its options out. */
const takesNoOptions = ({ config }: AnyPlugin): boolean =>
  Schema.decodeUnknownResult(Schema.toCodecJson(config))({}, { onExcessProperty: "error" })._tag === "Success"

const propertiesOf = (node: Node): Readonly<Record<string, unknown>> => {
  const properties = node["properties"]
  return typeof properties === "object" && properties !== null ? { ...properties } : {}
}

/** The JSON Schema of configuration files that may name `plugins`. */
export const make = (plugins: ReadonlyArray<Named>): Node => {
  const definitions: Record<string, Node> = { reference }
  const known = new Map<Kind, Array<string>>()
  const branches = new Map<Kind, Array<Node>>()
  for (const { name, plugin } of plugins) {
    const key = keyOf(name, new Set(Object.keys(definitions)))
    const options = makeOptions(plugin.config, { prefix: `${key}.` })
    definitions[key] = { title: `Options of ${name}`, ...options.schema }
    Object.assign(definitions, options.definitions)
    known.set(plugin.kind, [...known.get(plugin.kind) ?? [], name])
    branches.set(plugin.kind, [...branches.get(plugin.kind) ?? [], {
      if: { properties: { plugin: { const: name } }, required: ["plugin"] },
      then: {
        properties: { options: definition(key) },
        ...(takesNoOptions(plugin) ? {} : { required: ["options"] })
      }
    }])
  }

  /** `node`, the frame of a stage, for plugins of a kind. */
  const stage = (node: Node, { kind, named }: StageOf): Node => {
    const own = known.get(kind) ?? []
    const others = [...known].flatMap(([other, names]) => other === kind ? [] : names)
    const { plugin, ...properties } = propertiesOf(node)
    const spelledOut: Node = {
      ...node,
      properties: {
        plugin: {
          ...(typeof plugin === "object" ? plugin : {}),
          minLength: 1,
          anyOf: [
            ...(own.length === 0 ? [] : [{ enum: own }]),
            { type: "string", not: { enum: [...own, ...others] } }
          ]
        },
        ...properties
      },
      ...(own.length === 0 ? {} : { allOf: [definition(`plugins.${kind}`)] })
    }
    return named === undefined
      ? spelledOut
      : { anyOf: [{ type: "string", description: `Name of one of \`${named}\`` }, spelledOut] }
  }
  for (const [kind, members] of branches) definitions[`plugins.${kind}`] = { allOf: members }

  const frame = makeOptions(Config, {
    change: (path, node) => {
      const of = SchemaShape.annotation(Config, path, "stage", isStageOf)
      return of === undefined || node["type"] !== "object" ? node : stage(node, of)
    }
  })
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Configuration of etl-stream",
    ...frame.schema,
    definitions: { ...definitions, ...frame.definitions }
  }
}
