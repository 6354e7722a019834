/**
 * `etl-stream validate`: checks a configuration file without connecting to anything.
 */
import * as Effect from "effect/Effect"
import type { CommandError } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import type { Result } from "../Output.ts"

export interface Options {
  readonly file: string
  readonly offline: boolean
}

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`

export const validate = Effect.fn("Validate.validate")(
  function*({ file, offline }: Options): Effect.fn.Return<Result, CommandError> {
    const configuration = yield* Configuration.load(file, { environment: process.env, offline })
    const pipelines = configuration?.pipelines.map(({ name, sink, source, transforms }) => ({
      name,
      source: source.name,
      transforms: transforms.map((transform) => transform.name),
      sink: sink.name
    }))
    return {
      command: "validate",
      data: { file, offline, ...(pipelines === undefined ? {} : { pipelines }) },
      text: pipelines === undefined
        ? `${file} is valid as far as can be told without resolving references`
        : `${file} is valid: ${count(pipelines.length, "pipeline")} (${pipelines.map(({ name }) => name).join(", ")})`
    }
  }
)
