import { assert, describe, it } from "@effect/vitest"
import { formatPath } from "@etl-stream/runner/Problem"
import * as ConfigurationJsonSchema from "@etl-stream/runner/schema/ConfigurationJsonSchema"
import * as Effect from "effect/Effect"
import { byDecoder, bySchema, isMapping, plugins, type Written, written } from "./JsonSchemaFixture.ts"

type Path = ReadonlyArray<string | number>

/** A configuration with one thing changed. */
interface Mutation {
  readonly what: string
  readonly at: Path
  readonly value: unknown
}

const replaced = (value: unknown, [key, ...rest]: Path, change: (inner: unknown) => unknown): unknown => {
  if (key === undefined) return change(value)
  if (Array.isArray(value)) {
    return value.map((item: unknown, index) => index === key ? replaced(item, rest, change) : item)
  }
  return isMapping(value)
    ? Object.fromEntries(
      Object.entries(value).map(([name, inner]) => [name, name === key ? replaced(inner, rest, change) : inner])
    )
    : value
}

const nodes = (value: unknown, path: Path = []): ReadonlyArray<readonly [Path, unknown]> => [
  [path, value],
  ...(Array.isArray(value)
    ? value.flatMap((item: unknown, index) => nodes(item, [...path, index]))
    : isMapping(value)
    ? Object.entries(value).flatMap(([key, inner]) => nodes(inner, [...path, key]))
    : [])
]

/** What may stand in the place of a value: each kind, and what is nearly right. */
const others: ReadonlyArray<unknown> = [
  null,
  true,
  -1,
  1.5,
  7,
  "",
  "seven",
  "5 seconds",
  "5 parsecs",
  "16MiB",
  [],
  ["x"],
  {},
  { nonsense: 1 }
]

/** Every value replaced by others, every key removed, and an unknown one added to every mapping. */
const mutations = (value: unknown, isOwn: Written["isOwn"]): ReadonlyArray<Mutation> =>
  nodes(value).filter(([path]) => isOwn(path)).flatMap((
    [path, node]
  ): ReadonlyArray<Mutation> => [
    // What a reference stands for in the place of a mapping or list is text in any case, which `validate --offline` doesn't say.
    ...[...others, ...(typeof node === "object" ? [] : ["${env:ANYTHING}"])].map((other) => ({
      what: `${JSON.stringify(other)} in its place`,
      at: path,
      value: replaced(value, path, () => other)
    })),
    ...(isMapping(node)
      ? [
        {
          what: "an unknown key in it",
          at: path,
          value: replaced(value, path, () => ({ ...node, nonsense: 1 }))
        },
        ...Object.keys(node).map((key) => ({
          what: `without ${key}`,
          at: path,
          value: replaced(value, path, () => Object.fromEntries(Object.entries(node).filter(([name]) => name !== key)))
        }))
      ]
      : [])
  ])

/** What only the decoder knows, by the words of its messages: see docs/editor.md. */
const beyondTheSchema: Readonly<Record<string, RegExp>> = {
  "names that lead nowhere": /There is no (source|sink|notifier|pipeline)|No notifier|is not (named|defined)/,
  "plugins that aren't there":
    /is not installed|can't be found|is not a package name|There is no plugin file|is a folder/,
  "types of columns": /Expected a type: /,
  "expressions": /^The expression /,
  "keys that go together":
    /Either a directory or table|Expected include, exclude or both|Expected a new schema, a new name or both/,
  "at least one pipeline": /at least one pipeline/,
  "one of several ways to log in": /[Ee]xactly one of|are given|[Ee]xpected url, or at least user|names no user/,
  "a host with a token": /[Ll]oopback/,
  "hosts and ports": /Expected host:port/,
  "URLs": /connection string|[Ee]xpected a URL|redis:\/\/|the URL/,
  "tables": /schema\.table|schema\.name/,
  "rules of alerts": /[Ee]xpected `condition`|[Ee]xpected a limit/,
  "durations in a range": /duration (above|of at least|, 0)|longer than zero/,
  "names by bytes": /bytes/
}

describe("the JSON Schema of configurations", () => {
  it.live("takes every configuration in the repository, as the decoder does", () =>
    Effect.gen(function*() {
      const judge = yield* bySchema
      const configurations = written()
      assert.isAtLeast(configurations.length, 8, configurations.map(({ from }) => from).join())
      for (const { from, value } of configurations) {
        assert.deepStrictEqual(judge(value), [], from)
        assert.deepStrictEqual(yield* byDecoder(value), [], from)
      }
    }))

  it.live("knows at each place of a plugin which kinds may stand there", () =>
    Effect.gen(function*() {
      const frame = ConfigurationJsonSchema.make(yield* plugins)
      const { definitions: _, ...own } = frame
      const stages = nodes(own).flatMap(([path, node]) =>
        isMapping(node) && isMapping(node["properties"]) && isMapping(node["properties"]["plugin"]) &&
          "options" in node["properties"]
          ? [[formatPath(path), JSON.stringify(node["properties"]["plugin"])] as const]
          : []
      )
      assert.isAtLeast(stages.length, 8)
      // Each has an annotation `stage` in Config.ts: without one any plugin may stand there, with any options.
      assert.deepStrictEqual(stages.filter(([, plugin]) => !plugin.includes("\"not\"")).map(([path]) => path), [])
    }))

  it.live("takes the examples of every built-in plugin, as the decoder does", () =>
    Effect.gen(function*() {
      const judge = yield* bySchema
      const base = written().find(({ from }) => from === "examples/postgres-to-snowflake.yaml")?.value ?? {}
      const pipeline = isMapping(base["pipelines"]) ? base["pipelines"]["shop"] : undefined
      assert.isTrue(isMapping(pipeline))
      for (const { name, plugin } of yield* plugins) {
        const examples = plugin.examples ?? []
        assert.isAtLeast(examples.length, 1, `${name} has no examples`)
        for (const { options, title } of examples) {
          const stage = { plugin: name, options }
          const shop = isMapping(pipeline) ? pipeline : {}
          const value = plugin.kind === "state"
            ? { ...base, state: stage }
            : plugin.kind === "notifier"
            ? { ...base, notifiers: { main: stage } }
            : plugin.kind === "monitor"
            ? { ...base, monitors: { main: stage } }
            : {
              ...base,
              pipelines: {
                shop: { ...shop, ...(plugin.kind === "transform" ? { transforms: [stage] } : { [plugin.kind]: stage }) }
              }
            }
          assert.deepStrictEqual(judge(value), [], `${name}: ${title}`)
          assert.deepStrictEqual(yield* byDecoder(value), [], `${name}: ${title}`)
        }
      }
    }))

  it.live(
    "refuses nothing that the decoder takes, and what it lets through is of a kind that it can't know",
    () =>
      Effect.gen(function*() {
        const judge = yield* bySchema
        /** By what is said about it: where it was found first. */
        const unexpected = new Map<string, string>()
        const note = (what: string, where: string) => unexpected.has(what) || unexpected.set(what, where)
        const used = new Set<string>()
        let refused = 0
        let mutated = 0
        // Pages come to the same configuration when what they differ in is replaced.
        const examined = new Set<string>()
        for (const { from, isOwn, value } of written()) {
          for (const mutation of mutations(value, isOwn)) {
            const text = JSON.stringify(mutation.value)
            if (examined.has(text)) continue
            examined.add(text)
            mutated++
            const against = judge(mutation.value)
            const findings = yield* byDecoder(mutation.value)
            const where = `${from}: ${formatPath(mutation.at)}: ${mutation.what}`
            if (against.length > 0) {
              refused++
              if (findings.length === 0) note(`only the schema refuses: ${against[0]}`, where)
            } else {
              for (const { message } of findings) {
                const known = Object.entries(beyondTheSchema).find(([, words]) => words.test(message))
                if (known === undefined) note(`only the decoder refuses: ${message}`, where)
                else used.add(known[0])
              }
            }
          }
        }
        assert.deepStrictEqual([...unexpected].slice(0, 30), [])
        assert.isAbove(refused, 1000)
        assert.isAbove(mutated, refused)
        assert.deepStrictEqual(
          Object.keys(beyondTheSchema).filter((kind) => !used.has(kind)),
          [],
          "these are not needed"
        )
      }),
    600_000
  )
})
