/**
 * A process of its own that puts letters into a store, one call after the other, and prints how many of them are kept. It is killed in the midst of that.
 */
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import { isPlugin, type Plugin } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { writeSync } from "node:fs"
import * as PluginOptions from "../PluginOptions.ts"
import { letter } from "./letters.ts"

/** What to do, as the process's argument. */
export const Task = Schema.fromJsonString(Schema.Struct({
  module: Schema.String,
  plugin: Schema.String,
  options: Schema.Record(Schema.String, Schema.Unknown),
  directory: Schema.String,
  table: Schema.String,
  /** First ordinal, how many letters, how many of them with each call. */
  first: Schema.Int,
  count: Schema.Int,
  each: Schema.Int,
  /** Characters of a value. */
  length: Schema.Int,
  /** Whether it says that it is ready and waits for SIGUSR2 before it puts the first. */
  waits: Schema.optionalKey(Schema.Boolean)
}))

const told = Effect.callback<void>((resume) => {
  // Waiting for a signal doesn't keep a process.
  const awake = setInterval(() => {}, 60_000)
  process.once("SIGUSR2", () => {
    clearInterval(awake)
    resume(Effect.void)
  })
  writeSync(1, "ready\n")
})

const run = Effect.gen(function*() {
  const { count, directory, each, first, length, module, options, plugin: name, table, waits } = yield* Schema
    .decodeUnknownEffect(Task)(process.argv[2])
  const exported = yield* Effect.promise(() => import(module) as Promise<Readonly<Record<string, unknown>>>) // a module's exports
  const candidates = Object.values(exported).flatMap((value) =>
    typeof value === "object" && value !== null && !isPlugin(value) ? Object.values(value) : [value]
  )
  const plugin = candidates.filter(isPlugin).find((plugin) => plugin.name === name && plugin.kind === "deadLetters")
  if (plugin?.kind !== "deadLetters") return yield* Effect.die(new Error(`${module} exports no plugin ${name}`))
  const typed: Plugin<"deadLetters", unknown> = plugin
  const store = yield* PluginOptions.make(typed, options, { ...PluginOptions.context, directory })
  if (waits === true) yield* told
  for (let next = first; next < first + count; next += each) {
    const letters: Array<DeadLetter> = []
    for (let ordinal = next; ordinal < Math.min(next + each, first + count); ordinal++) {
      letters.push(letter({ table, ordinal, values: { long: "x".repeat(length) } }))
    }
    yield* store.put(letters)
    // At once, not when the process has time for it.
    writeSync(1, `kept ${next + letters.length - first}\n`)
  }
  writeSync(1, "all kept\n")
})

if (process.argv[2] !== undefined) await Effect.runPromise(Effect.scoped(run))
