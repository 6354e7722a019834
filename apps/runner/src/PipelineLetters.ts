/**
 * The dead-letter store that a pipeline's configuration names, and a pipeline's dead letters wherever they are kept.
 *
 * The store is made for a run, or for a command, and closed with its scope. The sink gets it in its context. A sink may have a store of its own instead, by an option of its
 * own; two at once would each have a part of the letters, so that is an error of the configuration.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { DeadLetters, DeadLetterStore } from "@etl-stream/core/DeadLetterStore"
import type { PluginContext } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { PipelineConfiguration, Stage } from "./Configuration.ts"
import type { Finding, Path } from "./Problem.ts"

type Named = Pick<PipelineConfiguration, "name" | "sink" | "deadLetters">

/** By convention a sink with a store of its own calls the option so. */
const ownOption = "deadLetters"

/** What is wrong when the stage `deadLetters` stands beside a sink that has a store of its own. `path` is the pipeline's. */
export const doubled = (sink: Stage<"sink">, path: Path): Finding | undefined =>
  typeof sink.options === "object" && sink.options !== null && ownOption in sink.options &&
    sink.options[ownOption] !== undefined
    ? {
      path: [...path, "deadLetters"],
      at: "key",
      message: "The sink has a dead-letter store of its own.",
      remedy:
        "Remove `deadLetters` from the sink's options, and letters go to the store named here; or remove it here, and they go on to the sink's. Letters that are there already stay there: replay or drop them first."
    }
    : undefined

/** What is to be said when the stage `deadLetters` stands beside a sink whose plugin doesn't tell of dead letters, and so hardly writes any. `path` is the pipeline's. */
export const unused = ({ name, plugin }: Stage<"sink">, path: Path): Finding | undefined =>
  plugin.deadLetters === undefined
    ? {
      path: [...path, "deadLetters"],
      at: "key",
      message:
        `The sink ${name} doesn't say that it keeps dead letters, so a value that it can't write stops its table all the same.`,
      remedy: "Remove `deadLetters`, unless the sink's documentation says that it uses it."
    }
    : undefined

/** The store that the pipeline names; undefined when it names none. */
const storeOf = (
  { deadLetters, name: pipeline }: Named,
  directory: string
): Effect.Effect<DeadLetterStore | undefined, ConnectorError, Scope.Scope> =>
  deadLetters === undefined
    ? Effect.undefined
    : deadLetters.plugin.make(deadLetters.options, { pipeline, directory })

/** The context of the pipeline's sink: with the store that it names, made. */
export const sinkContext = (
  pipeline: Named,
  directory: string
): Effect.Effect<PluginContext, ConnectorError, Scope.Scope> =>
  Effect.map(storeOf(pipeline, directory), (deadLetters) => ({
    pipeline: pipeline.name,
    directory,
    ...(deadLetters === undefined ? {} : { deadLetters })
  }))

/** The pipeline's dead letters; undefined when it keeps none. */
export const open = (
  pipeline: Named,
  directory: string
): Effect.Effect<DeadLetters | undefined, ConnectorError, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* sinkContext(pipeline, directory)
    const { name, options, plugin } = pipeline.sink
    const letters = yield* plugin.deadLetters?.(options, context) ?? Effect.undefined
    if (letters !== undefined || context.deadLetters === undefined) return letters
    // Whatever is there can be looked at, whether or not this sink would have put it there.
    return {
      store: context.deadLetters,
      replay: ({ table }) =>
        Effect.fail(
          new ConnectorError({
            reason: "Unsupported",
            plugin: plugin.name,
            message: `The sink ${name} can't write dead letters' values`,
            hint: "Copy the table again if they are missed (`etl-stream resync`), and drop the letters.",
            table
          })
        )
    }
  })
