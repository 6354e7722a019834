/**
 * Configurations of this repository, and both judges of them: the JSON Schema that `etl-stream schema` prints, and the decoder.
 */
import * as Configuration from "@etl-stream/runner/Configuration"
import * as PluginLoader from "@etl-stream/runner/PluginLoader"
import type { Finding } from "@etl-stream/runner/Problem"
import * as ConfigurationJsonSchema from "@etl-stream/runner/schema/ConfigurationJsonSchema"
import { Ajv } from "ajv"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { join } from "node:path"
import * as Yaml from "yaml"

export const repository = join(import.meta.dirname, "../../..")

export type Mapping = Readonly<Record<string, unknown>>

export const isMapping = (value: unknown): value is Mapping =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** A configuration, and where it is from. */
export interface Written {
  readonly from: string
  readonly text: string
  readonly value: Mapping
  /** Whether what is at a path is its own, not what a part of one needs around it. */
  readonly isOwn: (path: ReadonlyArray<string | number>) => boolean
}

const keys: ReadonlySet<string> = new Set([
  "apiVersion",
  "memory",
  "state",
  "telemetry",
  "notifiers",
  "alerts",
  "monitors",
  "http",
  "sources",
  "sinks",
  "pipelines"
])

/** Keys of a pipeline, which pages show by themselves. */
const pipelineKeys: ReadonlySet<string> = new Set(["source", "transforms", "sink", "deadLetters", "spool"])

/** What a part of a configuration in the documentation needs around it. */
const around = {
  apiVersion: 1,
  pipelines: {
    shop: {
      source: { plugin: "@etl-stream/source-postgres", options: { url: "postgresql://etl@localhost/shop" } },
      sink: {
        plugin: "@etl-stream/sink-snowflake",
        options: {
          account: "EXAMPLE-ACCOUNT",
          user: "LOADER",
          auth: { privateKeyFile: "./loader.p8" },
          warehouse: "LOADING",
          database: "RAW"
        }
      }
    }
  }
}

const fences = (page: string): ReadonlyArray<string> =>
  [...Fs.readFileSync(join(repository, page), "utf8").matchAll(/^ *```ya?ml\n([\s\S]*?)^ *```$/gm)].map((
    [, text = ""]
  ) => text)

const pages = (pattern: string): ReadonlyArray<string> =>
  Fs.globSync(pattern, {
    cwd: repository,
    exclude: (name) => name.includes("node_modules") || name === join("examples", "plugins")
  })

/** The files of `examples/` and `demo/`, and what of the documentation is a configuration as it stands, or its sections of the top. */
export const written = (): ReadonlyArray<Written> => {
  const files = pages("{examples,demo,packages/*/examples}/**/*.{yaml,yml}").map((from) => ({
    from,
    text: Fs.readFileSync(join(repository, from), "utf8")
  }))
  const inPages = [...pages("docs/**/*.md"), ...pages("{examples,packages,demo,bench}/**/*.md"), "README.md"].flatMap((
    page
  ) => fences(page).map((text, index) => ({ from: `${page}, block ${index + 1}`, text })))
  return [...files, ...inPages].flatMap(({ from, text }) => {
    const document = Yaml.parseDocument(text, { merge: true })
    const value: unknown = document.errors.length > 0 ? undefined : document.toJS()
    if (!isMapping(value)) return []
    // `# …` stands for what a page leaves out; a file that a page doesn't have can't be loaded.
    if (JSON.stringify(value).includes("null") || /plugin: "?\.\//.test(text)) return []
    const names = Object.keys(value)
    // In other pages such parts may leave out what is of no interest there.
    if (from.startsWith("docs/plugins/reference/") && names.every((name) => pipelineKeys.has(name))) {
      return [{
        from,
        text,
        value: { ...around, pipelines: { shop: { ...around.pipelines.shop, ...value } } },
        isOwn: ([, , key]) => key === undefined || Object.hasOwn(value, key)
      }]
    }
    if (!names.every((name) => keys.has(name))) return []
    return [{
      from,
      text,
      value: { ...("pipelines" in value ? {} : around), ...value },
      isOwn: ([key]) => key === undefined || Object.hasOwn(value, key)
    }]
  })
}

export const plugins = PluginLoader.builtIn.length === 0 ? Effect.succeed([]) : Effect.gen(function*() {
  const names = yield* Effect.forEach(PluginLoader.builtIn, (name) => PluginLoader.namesIn(name, repository))
  return yield* Effect.forEach(names.flat(), (name) => PluginLoader.find(name, repository))
})

/** The JSON Schema's judgement of a value: what it has against it, nothing when it takes it. */
export const bySchema = Effect.map(plugins, (plugins) => {
  // Formats are for people, and drafts after 07 have keywords that it doesn't know.
  const validate = new Ajv({ strict: false, validateFormats: false, allErrors: true }).compile(
    ConfigurationJsonSchema.make(plugins)
  )
  return (value: unknown): ReadonlyArray<string> =>
    validate(value) ? [] : (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
})

/** The decoder's, with references left unresolved as `validate --offline` has them. */
export const byDecoder = (value: unknown, directory = repository): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.map(
    Configuration.examine({ name: "test", directory, value, growing: false }, { environment: {}, offline: true }),
    ({ findings }) => findings
  )
