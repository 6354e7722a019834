/**
 * `etl-stream validate`: checks a configuration file without connecting to anything.
 */
import * as Effect from "effect/Effect"
import type { CommandError } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import type { Result } from "../Output.ts"
import { render } from "../Problem.ts"

export interface Options {
  readonly file: string
  readonly offline: boolean
}

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`

export const validate = Effect.fn("Validate.validate")(
  function*({ file, offline }: Options): Effect.fn.Return<Result, CommandError> {
    const { configuration, warnings } = yield* Configuration.read(file, { environment: process.env, offline })
    const pipelines = configuration?.pipelines.map(({ name, sink, source, transforms }) => ({
      name,
      source: source.name,
      transforms: transforms.map((transform) => transform.name),
      sink: sink.name
    }))
    return {
      command: "validate",
      data: { file, offline, ...(pipelines === undefined ? {} : { pipelines }), warnings },
      text: [
        `${
          pipelines === undefined
            ? `${file} is valid as far as can be told without resolving references`
            : `${file} is valid: ${count(pipelines.length, "pipeline")} (${
              pipelines.map(({ name }) => name).join(", ")
            })`
        }${warnings.length === 0 ? "" : `, with ${count(warnings.length, "warning")}`}`,
        ...warnings.map((warning) => render(file, warning))
      ].join("\n\n")
    }
  }
)
