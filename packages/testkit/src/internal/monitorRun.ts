/**
 * Runs a monitor as the runner does, until a case is satisfied.
 */
import type { Monitor } from "@etl-stream/core/Monitor"
import type { Plugin } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import * as PluginOptions from "../PluginOptions.ts"
import type { Secrecy } from "../Secrecy.ts"
import type { Pipelines, State, Told } from "./monitorSurroundings.ts"
import { boundedScope, eventually, interrupted, within } from "./waiting.ts"

export interface Run {
  /** What the monitor said before it began to look. */
  readonly before: string
  readonly status: () => string
  /** Waits for a condition; fails when the run ends before. */
  readonly until: (what: string, condition: () => boolean) => Effect.Effect<void>
  /** Lets it go on for a while, and looks at something again and again; fails when the run ends. */
  readonly lasting: (look?: () => void) => Effect.Effect<void>
  /** Ends it, as a stop or a reload of the configuration does. */
  readonly stop: Effect.Effect<void>
}

export interface Options<A> {
  readonly plugin: Plugin<"monitor", A>
  readonly place: { readonly options: PluginOptions.Options; readonly directory?: string; readonly name?: string }
  readonly around: { readonly told: Told; readonly state: State; readonly pipelines: Pipelines }
  readonly secrecy: Secrecy
  /** Milliseconds. */
  readonly patience: number
}

/** How often, and after how many milliseconds each, it is looked whether something stays as it is. */
const looks = { times: 20, every: 25 }

/** Makes the monitor and runs it. The run is over with the scope, at the latest. */
export const start = <A>(
  { around, patience, place, plugin, secrecy }: Options<A>
): Effect.Effect<Run, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const { directory = PluginOptions.context.directory, name = PluginOptions.context.pipeline, options } = place
    const scope = yield* boundedScope(patience)
    let monitor: Monitor | undefined
    let before = ""
    const text = (of: Monitor): string => {
      const status = of.status()
      secrecy.heard({ status })
      assert.deepEqual(status, JSON.parse(JSON.stringify(status) ?? "null"), "The status isn't plain JSON")
      return JSON.stringify(status)
    }
    const fiber = yield* Effect.gen(function*() {
      const made = yield* PluginOptions.make(plugin, options, { pipeline: name, directory })
      before = text(made)
      monitor = made
      return yield* made.run({
        conditions: around.told.conditions,
        state: around.state.store,
        pipelines: around.pipelines.all
      })
    }).pipe(
      Effect.tapError((error) => Effect.sync(() => secrecy.heard(error))),
      Scope.provide(scope),
      Effect.forkIn(scope, { startImmediately: true })
    )
    const ended = Effect.flatMap(Fiber.await(fiber), (exit) => Effect.sync(() => assert.fail(`The run ended: ${exit}`)))
    const until = (what: string, condition: () => boolean) =>
      Effect.raceFirst(eventually(() => what, condition, patience), ended)
    yield* until("a monitor", () => monitor !== undefined)
    const once = (look: () => void) => Effect.andThen(Effect.sleep(looks.every), Effect.sync(look))
    return {
      before,
      until,
      status: () => monitor === undefined ? before : text(monitor),
      lasting: (look = () => {}) =>
        Effect.raceFirst(Effect.asVoid(Effect.repeat(once(look), { times: looks.times - 1 })), ended),
      stop: Effect.andThen(
        interrupted("The run", fiber, patience),
        within("Closing the monitor", Scope.close(scope, Exit.void), patience)
      )
    }
  })
