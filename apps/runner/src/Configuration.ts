/**
 * Loads a configuration: reads and parses its file, resolves references, finds plugins and decodes their options. `examine` does what follows the parsing for
 * a document from anywhere.
 *
 * Nothing is connected to and no plugin is made. All problems are found in one go, each with its path, its place in the file and its remedy.
 */
import type { Kind, Plugin } from "@etl-stream/core/Plugin"
import type { Policy } from "@etl-stream/core/Quarantine"
import type { Settings as SpoolSettings } from "@etl-stream/core/Spool"
import type * as TablePattern from "@etl-stream/core/TablePattern"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { dirname, isAbsolute, resolve } from "node:path"
import * as AlertReferences from "./alerts/AlertReferences.ts"
import { type CommandError, invalidConfiguration, usage } from "./CommandError.ts"
import { Config, GrowingConfig } from "./Config.ts"
import * as Decoding from "./Decoding.ts"
import * as Deprecation from "./Deprecation.ts"
import * as EncryptedSecret from "./EncryptedSecret.ts"
import * as Interpolation from "./Interpolation.ts"
import * as NamedStages from "./NamedStages.ts"
import * as PipelineLetters from "./PipelineLetters.ts"
import type * as PluginLoader from "./PluginLoader.ts"
import { type Finding, formatPath, isWithin, type Path, type Problem } from "./Problem.ts"
import * as Redaction from "./Redaction.ts"
import * as StageLoading from "./StageLoading.ts"
import * as YamlDocument from "./YamlDocument.ts"

/** A plugin with its decoded options, ready to be made. */
export interface Stage<K extends Kind> {
  readonly name: string
  readonly plugin: Plugin<K, unknown>
  readonly options: unknown
  /** Where the plugin was found; absent when a program made the stage. */
  readonly place?: PluginLoader.Place
}

export interface TransformStage extends Stage<"transform"> {
  /** Which tables it is for; absent: all. */
  readonly tables?: ReadonlyArray<TablePattern.TablePattern>
}

export interface PipelineConfiguration {
  readonly name: string
  readonly status: Config["pipelines"][string]["status"]
  readonly source: Stage<"source">
  readonly transforms: ReadonlyArray<TransformStage>
  readonly sink: Stage<"sink">
  readonly onTableError: Policy
  readonly batch: { readonly rows: number; readonly bytes: number; readonly every: Duration.Duration }
  readonly watchdog: { readonly after: Duration.Duration; readonly restart: boolean }
  /** Where values are kept that the sink can't write; undefined: nowhere, or where the sink's own options say. */
  readonly deadLetters?: Stage<"deadLetters"> | undefined
  /** Its folder is this pipeline's alone; undefined: it has no spool. */
  readonly spool: SpoolSettings | undefined
}

export interface NotifierConfiguration {
  readonly name: string
  readonly notifier: Stage<"notifier">
}

export interface MonitorConfiguration {
  readonly name: string
  readonly stage: Stage<"monitor">
}

export interface Configuration {
  /** Its file as the user named it, or what else it comes from. */
  readonly file: string
  /** Absolute folder that relative paths in it are relative to: the file's. */
  readonly directory: string
  /** Bytes. */
  readonly memory: number
  readonly state: Stage<"state">
  readonly telemetry: Config["telemetry"]
  readonly notifiers: ReadonlyArray<NotifierConfiguration>
  readonly alerts: Config["alerts"]
  readonly monitors: ReadonlyArray<MonitorConfiguration>
  /** The HTTP API; undefined when there is no such section. */
  readonly http: Config["http"]
  readonly pipelines: ReadonlyArray<PipelineConfiguration>
  /** What needn't be mended now, such as deprecated options; in the order of the file. */
  readonly warnings: ReadonlyArray<Problem>
  /** What the file says, references resolved, before plugins decoded their options. It holds secrets. */
  readonly input: Config
  /** The secrets that the file, its variables and its files hold. */
  readonly secrets: ReadonlySet<string>
  /** Hides the secrets. */
  readonly redact: Redaction.Redaction
}

export interface LoadOptions {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Leaves references unresolved and checks the rest. */
  readonly offline: boolean
}

/** A file may be this large at most, in bytes. */
const largestFile = 4 * 1024 * 1024

const whyUnreadable = (cause: unknown): string => {
  switch (typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined) {
    case "ENOENT":
    case "ENOTDIR":
      return "does not exist"
    case "EISDIR":
      return "is a folder"
    case "EACCES":
    case "EPERM":
      return "may not be read"
    case "ERR_FS_FILE_TOO_LARGE":
      return "is too large"
    default:
      return "can't be read"
  }
}

/** The text of a file; fails with what is wrong with it. */
export const readText = (path: string): Effect.Effect<string, string> =>
  Effect.try({
    try: () => {
      if (Fs.statSync(path).size > largestFile) throw Object.assign(new Error(), { code: "ERR_FS_FILE_TOO_LARGE" })
      return Fs.readFileSync(path, "utf8")
    },
    catch: whyUnreadable
  })

/** The YAML of `file`. */
export const parse = Effect.fnUntraced(function*(file: string) {
  const text = yield* readText(file).pipe(
    Effect.mapError((why) =>
      usage(
        `The configuration file ${file} ${why}`,
        "Give the path of a YAML file; see examples/ for one to start from."
      )
    )
  )
  const yaml = YamlDocument.parse(text)
  return yaml.problems.length > 0 ? yield* invalidConfiguration(file, yaml.problems) : yaml
})

const loadPipeline = Effect.fnUntraced(
  function*(gathering: StageLoading.Gathering, name: string, pipeline: Config["pipelines"][string]) {
    const path = ["pipelines", name]
    const source = yield* StageLoading.load(gathering, [...path, "source"], pipeline.source, "source")
    const transforms = yield* Effect.forEach(
      pipeline.transforms,
      (transform, index) => StageLoading.loadTransform(gathering, [...path, "transforms", index], transform)
    )
    const sink = yield* StageLoading.load(gathering, [...path, "sink"], pipeline.sink, "sink")
    const deadLetters = pipeline.deadLetters === undefined
      ? undefined
      : yield* StageLoading.load(gathering, [...path, "deadLetters"], pipeline.deadLetters, "deadLetters")
    if (pipeline.deadLetters !== undefined && sink !== undefined) {
      gathering.findings.push(...[PipelineLetters.doubled(sink, path) ?? []].flat())
      gathering.warnings.push(...[PipelineLetters.unused(sink, path) ?? []].flat())
    }
    const complete = transforms.filter((transform) => transform !== undefined)
    const spool = pipeline.spool === undefined
      ? undefined
      : { ...pipeline.spool, directory: resolve(gathering.directory, pipeline.spool.directory, name) }
    return source === undefined || sink === undefined || complete.length !== transforms.length ||
        (deadLetters === undefined) !== (pipeline.deadLetters === undefined)
      ? undefined
      : {
        name,
        source,
        transforms: complete,
        sink,
        batch: pipeline.sink.batch,
        onTableError: pipeline.onTableError,
        status: pipeline.status,
        watchdog: pipeline.watchdog,
        deadLetters,
        spool
      }
  }
)

const loadNotifiers = (gathering: StageLoading.Gathering, notifiers: Config["notifiers"]) =>
  Effect.forEach(Object.entries(notifiers), ([name, stage]) =>
    Effect.map(
      StageLoading.load(gathering, ["notifiers", name], stage, "notifier"),
      (notifier) => notifier === undefined ? undefined : { name, notifier }
    ))
const loadMonitor = Effect.fnUntraced(
  function*(gathering: StageLoading.Gathering, name: string, monitor: Config["monitors"][string]) {
    const stage = yield* StageLoading.load(gathering, ["monitors", name], monitor, "monitor")
    return stage === undefined ? undefined : { name, stage }
  }
)

/** Stages of a document whose frame doesn't decode: checked as far as they can be, so that one run of `validate` shows everything. */
const checkStages = Effect.fnUntraced(function*(gathering: StageLoading.Gathering) {
  const stageAt = Effect.fnUntraced(function*(path: Path, value: unknown, kind: Kind) {
    if (
      typeof value !== "object" || value === null || !("plugin" in value) || typeof value.plugin !== "string" ||
      value.plugin === ""
    ) return
    const options = "options" in value ? value.options : {}
    if (typeof options !== "object" || options === null || Array.isArray(options)) return
    yield* StageLoading.load(gathering, path, { plugin: value.plugin, options }, kind)
  })
  const entries = (value: unknown, key: string): ReadonlyArray<readonly [string, unknown]> => {
    const inner: unknown = typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined
    return typeof inner === "object" && inner !== null ? Object.entries(inner) : []
  }
  for (const [key, value] of entries({ root: gathering.document }, "root")) {
    if (key === "state") yield* stageAt([key], value, "state")
  }
  for (const [name, notifier] of entries(gathering.document, "notifiers")) {
    yield* stageAt(["notifiers", name], notifier, "notifier")
  }
  for (const [name, monitor] of entries(gathering.document, "monitors")) {
    yield* stageAt(["monitors", name], monitor, "monitor")
  }
  for (const [name, pipeline] of entries(gathering.document, "pipelines")) {
    if (typeof pipeline !== "object" || pipeline === null) continue
    for (const [key, value] of Object.entries(pipeline)) {
      const path = ["pipelines", name, key]
      if (key === "source" || key === "sink" || key === "deadLetters") yield* stageAt(path, value, key)
      if (key === "transforms" && Array.isArray(value)) {
        yield* Effect.forEach(value, (stage: unknown, index) => stageAt([...path, index], stage, "transform"))
      }
    }
  }
})

/** A configuration as a plain value, and where it comes from. */
export interface Document {
  /** Its file as the user named it, or what else it comes from. */
  readonly name: string
  /** Absolute folder that relative paths are relative to. */
  readonly directory: string
  readonly value: unknown
  /** Whether it may have no pipelines yet. */
  readonly growing: boolean
  /** Whether it is a part without those pipelines that the rest may name. */
  readonly pipelinesApart?: boolean
}

/** All that is to be said of a document. */
export interface Examined {
  /** Undefined with findings; also without one when something depends on a reference that was not to be resolved. */
  readonly configuration: Configuration | undefined
  /** Each with the path where it is written in the document. */
  readonly findings: ReadonlyArray<Finding>
  /** The same of what needn't be mended now. */
  readonly warnings: ReadonlyArray<Finding>
  /** Hides the secrets that were found, of an invalid document too. */
  readonly redact: Redaction.Redaction
}

/** Resolves references of a document, finds its plugins and decodes their options. */
export const examine = Effect.fn("Configuration.examine")(
  function*(
    { directory, growing, name, pipelinesApart = false, value }: Document,
    options: LoadOptions
  ): Effect.fn.Return<Examined> {
    const named = NamedStages.expand(value)
    const interpolated = yield* Interpolation.resolve(named.value, {
      environment: options.environment,
      offline: options.offline,
      readFile: (path) => readText(isAbsolute(path) ? path : resolve(directory, path)),
      placeOf: (path) => NamedStages.place(named.origin(path))
    })
    const { references, value: document } = interpolated
    const gathering: StageLoading.Gathering = {
      document,
      directory,
      references,
      findings: [...interpolated.findings],
      warnings: [...Deprecation.find(Config, document, [])],
      secrets: new Set([...interpolated.secrets, ...EncryptedSecret.keyTexts(options.environment)])
    }

    const frame = yield* Decoding.decode(growing ? GrowingConfig : Config, document, [], references)
    if (frame._tag === "Invalid") {
      gathering.findings.push(...frame.findings)
      yield* checkStages(gathering)
    }
    if (frame._tag === "Valid") {
      for (const secret of Redaction.secretsOf(frame.value.telemetry)) gathering.secrets.add(secret)
      for (const secret of Redaction.secretsOf(frame.value.http)) gathering.secrets.add(secret)
    }
    const state = frame._tag === "Valid"
      ? yield* StageLoading.load(gathering, ["state"], frame.value.state, "state")
      : undefined
    const notifiers = frame._tag === "Valid" ? yield* loadNotifiers(gathering, frame.value.notifiers) : []
    if (frame._tag === "Valid") {
      gathering.findings.push(
        ...AlertReferences.findings({ ...frame.value, ...(pipelinesApart ? { pipelines: undefined } : {}) }).filter((
          { path }
        ) => !references.some((reference) => reference.resolved === undefined && isWithin(path, reference.path)))
      )
    }
    const monitors = frame._tag === "Valid"
      ? yield* Effect.forEach(
        Object.entries(frame.value.monitors),
        ([name, monitor]) => loadMonitor(gathering, name, monitor)
      )
      : []
    const pipelines = frame._tag === "Valid"
      ? yield* Effect.forEach(
        Object.entries(frame.value.pipelines),
        ([name, pipeline]) => loadPipeline(gathering, name, pipeline)
      )
      : []
    if (frame._tag === "Valid") {
      // Those that no pipeline uses are to be right too.
      for (const [name, stage] of Object.entries(frame.value.sources ?? {})) {
        yield* StageLoading.load(gathering, ["sources", name], stage, "source")
      }
      for (const [name, stage] of Object.entries(frame.value.sinks ?? {})) {
        yield* StageLoading.load(gathering, ["sinks", name], stage, "sink")
      }
    }

    const redact = Redaction.make(gathering.secrets)
    // What several pipelines share is told once.
    const written = (found: ReadonlyArray<Finding>): ReadonlyArray<Finding> => {
      const placed = found.map((finding) => ({ ...finding, path: named.origin(finding.path) }))
      return [
        ...new Map(placed.map((finding) => [JSON.stringify([finding.path, finding.message]), finding])).values()
      ]
    }
    const findings = written([
      ...named.findings,
      ...NamedStages.withoutConsequences(gathering.findings, named.findings)
    ])
    const warnings = written(gathering.warnings)
    const complete = pipelines.filter((pipeline) => pipeline !== undefined)
    const told = notifiers.filter((notifier) => notifier !== undefined)
    const watching = monitors.filter((monitor) => monitor !== undefined)
    return {
      configuration: findings.length > 0 || frame._tag === "Invalid" || state === undefined ||
          complete.length !== pipelines.length ||
          told.length !== notifiers.length || watching.length !== monitors.length
        ? undefined
        : {
          file: name,
          directory,
          memory: frame.value.memory,
          state,
          telemetry: frame.value.telemetry,
          notifiers: told,
          alerts: frame.value.alerts,
          monitors: watching,
          http: frame.value.http,
          pipelines: complete,
          warnings: warnings.map(({ message, path, remedy }) => ({ path: formatPath(path), message, remedy })),
          input: frame.value,
          secrets: gathering.secrets,
          redact
        },
      findings,
      warnings,
      redact
    }
  }
)

/** What `read` finds in a file without problems. */
export interface ReadFile {
  /** Undefined when something depends on a reference that was not to be resolved. */
  readonly configuration: Configuration | undefined
  readonly warnings: ReadonlyArray<Problem>
}

/** What is in `file`, or a `ConfigurationInvalid` error with all its problems. */
export const read = Effect.fn("Configuration.read")(function*(
  file: string,
  options: LoadOptions
): Effect.fn.Return<ReadFile, CommandError> {
  const yaml = yield* parse(file)
  const { configuration, findings, warnings: found } = yield* examine(
    { name: file, directory: dirname(resolve(file)), value: yaml.value, growing: false },
    options
  )
  const placed = (found: ReadonlyArray<Finding>): ReadonlyArray<Problem> =>
    found.map((finding) => ({ finding, ...yaml.place(finding.path, finding.at) })).sort((a, b) =>
      a.line - b.line || a.column - b.column
    ).map(({ finding }) => YamlDocument.problemAt(yaml, finding))
  if (findings.length > 0) return yield* invalidConfiguration(file, placed(findings))
  const warnings = placed(found)
  return { configuration: configuration === undefined ? undefined : { ...configuration, warnings }, warnings }
})

/** The configuration in `file`, as `read` finds it. */
export const load = (file: string, options: LoadOptions): Effect.Effect<Configuration | undefined, CommandError> =>
  Effect.map(read(file, options), ({ configuration }) => configuration)
