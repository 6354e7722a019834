/**
 * `etl-stream plugin docs`: what a plugin is, its options and examples, from its definition. Nothing of it is made.
 */
import * as Effect from "effect/Effect"
import { type CommandError, usage } from "../CommandError.ts"
import type { Result } from "../Output.ts"
import * as PluginLoader from "../PluginLoader.ts"
import * as PluginReference from "../schema/PluginReference.ts"

export interface Options {
  /** As a configuration in `directory` would name it. */
  readonly name: string
  readonly format: "markdown" | "json"
  readonly directory: string
}

export const docs = Effect.fn("PluginDocs.docs")(
  function*({ directory, format, name }: Options): Effect.fn.Return<Result, CommandError> {
    const { plugin } = yield* PluginLoader.find(name, directory).pipe(
      Effect.mapError(({ hint, message }) => usage(message, hint))
    )
    const reference = PluginReference.make(name, plugin)
    return {
      command: "plugin docs",
      data: { plugin: reference },
      text: format === "json"
        ? JSON.stringify(reference, null, 2)
        : PluginReference.markdown(reference, { version: true })
    }
  }
)
