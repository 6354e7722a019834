/**
 * The transforms of one pipeline in a configuration, loaded without the rest of it, so that they can be tried without what its source, its sink and their secrets
 * need.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { dirname, isAbsolute, resolve } from "node:path"
import { type CommandError, invalidConfiguration, usage } from "./CommandError.ts"
import { TransformStage as TransformConfig } from "./Config.ts"
import * as Configuration from "./Configuration.ts"
import type { TransformStage } from "./Configuration.ts"
import * as Decoding from "./Decoding.ts"
import * as EncryptedSecret from "./EncryptedSecret.ts"
import * as Interpolation from "./Interpolation.ts"
import * as NamedStages from "./NamedStages.ts"
import * as Redaction from "./Redaction.ts"
import * as StageLoading from "./StageLoading.ts"
import { enumerate } from "./Suggestion.ts"
import * as YamlDocument from "./YamlDocument.ts"

/** The transforms of one pipeline, ready to be made. */
export interface PipelineTransforms {
  readonly pipeline: string
  /** Absolute folder that relative paths in their options are relative to. */
  readonly directory: string
  readonly transforms: ReadonlyArray<TransformStage>
  readonly redact: Redaction.Redaction
}

const named = (document: unknown, key: string): Readonly<Record<string, unknown>> => {
  const value: unknown = typeof document === "object" && document !== null ? Reflect.get(document, key) : undefined
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {}
}

/**
 * Those of a pipeline in `file`. `pipeline`: needed when there are several.
 */
export const load = Effect.fn("PipelineTransforms.load")(function*(
  file: string,
  pipeline: string | undefined,
  environment: Configuration.LoadOptions["environment"]
): Effect.fn.Return<PipelineTransforms, CommandError> {
  const yaml = yield* Configuration.parse(file)
  const directory = dirname(resolve(file))
  const pipelines = named(yaml.value, "pipelines")
  const names = Object.keys(pipelines)
  const chosen = pipeline ?? (names.length === 1 ? names[0] : undefined)
  if (chosen === undefined || !Object.hasOwn(pipelines, chosen)) {
    const known = enumerate(names.map((name) => `\`${name}\``), "and")
    return yield* usage(
      chosen === undefined ? `${file} has no single pipeline` : `${file} has no pipeline ${chosen}`,
      names.length === 0 ? "Add one to its section `pipelines`." : `Name one in \`pipeline\`: it has ${known}.`
    )
  }
  const path = ["pipelines", chosen, "transforms"]
  const written = named(pipelines, chosen)["transforms"] ?? []
  const { findings, references, secrets, value } = yield* Interpolation.resolve(
    { pipelines: { [chosen]: { transforms: written } } },
    {
      environment,
      offline: false,
      readFile: (path) => Configuration.readText(isAbsolute(path) ? path : resolve(directory, path)),
      placeOf: NamedStages.place
    }
  )
  const gathering: StageLoading.Gathering = {
    document: value,
    directory,
    references,
    findings: [...findings],
    warnings: [],
    secrets: new Set([...secrets, ...EncryptedSecret.keyTexts(environment)])
  }
  const stages = named(named(value, "pipelines"), chosen)["transforms"]
  const list = yield* Decoding.decode(Schema.Array(TransformConfig), stages, path, references)
  if (list._tag === "Invalid") gathering.findings.push(...list.findings)
  const transforms = yield* Effect.forEach(
    list._tag === "Valid" ? list.value : [],
    (transform, index) => StageLoading.loadTransform(gathering, [...path, index], transform)
  )
  if (gathering.findings.length > 0) {
    return yield* invalidConfiguration(file, gathering.findings.map((finding) => YamlDocument.problemAt(yaml, finding)))
  }
  return {
    pipeline: chosen,
    directory,
    transforms: transforms.filter((transform) => transform !== undefined),
    redact: Redaction.make(gathering.secrets)
  }
})
