/**
 * The cases that all kinds have in common: options that are wrong are refused, where they are wrong.
 */
import type { Kind, Plugin } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import type { Case } from "../Conformance.ts"
import * as PluginOptions from "../PluginOptions.ts"

const unknownKey = "noSuchOption"

/** `valid`: options that decode. */
export const cases = <K extends Kind, A>(
  plugin: Plugin<K, A>,
  refused: ReadonlyArray<PluginOptions.RefusedOptions>,
  valid?: PluginOptions.Options
): ReadonlyArray<Case> => [
  ...(valid === undefined ? [] : [{
    name: "refuses an option that it doesn't know",
    skipped: undefined,
    run: Effect.gen(function*() {
      const known = yield* Effect.result(PluginOptions.decode(plugin, valid))
      if (known._tag === "Failure") {
        assert.fail(`the options that are to be right are refused: ${known.failure.message}`)
      }
      const error = yield* Effect.result(PluginOptions.decode(plugin, { ...valid, [unknownKey]: true }))
      if (error._tag === "Success") {
        assert.fail(
          `the option ${unknownKey} was taken: \`config\` has to be a Schema.Struct of the options that there are`
        )
      }
      assert.ok(
        error.failure.paths.includes(unknownKey),
        `it is refused, but ${unknownKey} isn't named: ${error.failure.message}`
      )
    })
  }]),
  ...refused.map(({ options, path, what }): Case => ({
    name: `refuses ${what}, and says where`,
    skipped: undefined,
    run: Effect.gen(function*() {
      const error = yield* Effect.result(PluginOptions.decode(plugin, options))
      if (error._tag === "Success") assert.fail("the options were taken")
      assert.ok(
        error.failure.paths.includes(path),
        `the error names ${
          error.failure.paths.map((named) => `"${named}"`).join(", ")
        }, not "${path}": ${error.failure.message}`
      )
    })
  }))
]
