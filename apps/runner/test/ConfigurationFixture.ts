/**
 * Configurations in test folders, loaded in this process.
 */
import { assert, it } from "@effect/vitest"
import * as Configuration from "@etl-stream/runner/Configuration"
import type { Problem } from "@etl-stream/runner/Problem"
import * as Effect from "effect/Effect"
import * as Fixture from "./Fixture.ts"

export const load = (directory: string, text: string, environment: Record<string, string> = {}, offline = false) =>
  Configuration.load(Fixture.write(directory, "etl.yaml", text), { environment, offline })

export const loaded = <E>(load: Effect.Effect<Configuration.Configuration | undefined, E>) =>
  Effect.flatMap(
    load,
    (configuration) => configuration === undefined ? Effect.die("Nothing was loaded") : Effect.succeed(configuration)
  )

/** The problems of a configuration as `path line:column message -> remedy`. */
export const problems = (directory: string, text: string, environment: Record<string, string> = {}, offline = false) =>
  Effect.map(Effect.flip(load(directory, text, environment, offline)), (error): ReadonlyArray<Problem> => {
    assert.strictEqual(error.code, "ConfigurationInvalid")
    assert.strictEqual(error.exitCode, 2)
    return error.problems ?? []
  })

export const only = (found: ReadonlyArray<Problem>): Problem => {
  const [first, ...others] = found
  if (first === undefined) throw new Error("There is no problem")
  assert.deepStrictEqual(others, [])
  return first
}

/** The options that the source of `numbers` got. */
export const sourceOptions = (configuration: Configuration.Configuration | undefined): Record<string, unknown> => {
  // The fake source's options are a mapping.
  return configuration?.pipelines[0]?.source.options as Record<string, unknown>
}

export const scenario = (name: string, test: (directory: string) => Effect.Effect<void, unknown>) =>
  it.live(name, () => Effect.flatMap(Fixture.folder, test))
