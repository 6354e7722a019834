/**
 * The monitor: looks every so often how large a folder is, and has copies of tables wait while it is too large.
 *
 * The contract (`@etl-stream/core/Monitor`): what is wrong is a condition, raised as long as it lasts and cleared when it is over. That the folder can't be looked at is one, too, and no end of the
 * run; meanwhile nothing is taken for over. Each look judges everything anew, as conditions outlive a run that has failed.
 */
import type { Condition } from "@etl-stream/core/Condition"
import type { Monitor, MonitorContext, MonitoredPipeline } from "@etl-stream/core/Monitor"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import { lstat, readdir } from "node:fs/promises"
import { join } from "node:path"
import type { Config } from "./Config.ts"

/** The name that configurations use. */
export const pluginName = "etl-stream-kind-example"

const isMissing = (cause: unknown): boolean => cause instanceof Error && "code" in cause && cause.code === "ENOENT"

/** Bytes of all files in a folder and below. One that goes meanwhile counts for nothing, unless the folder itself goes: then nothing is known. */
const sizeOf = async (directory: string): Promise<number> => {
  let bytes = 0
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    try {
      bytes += (await lstat(join(entry.parentPath, entry.name))).size
    } catch (cause) {
      if (!isMissing(cause)) throw cause
    }
  }
  await lstat(directory)
  return bytes
}

const large = (directory: string, bytes: number, limit: number): Condition => ({
  name: "folder-large",
  severity: "warning",
  message: `The folder ${directory} has ${bytes} bytes, more than the ${limit} that it may have`,
  hint: "Remove what isn't needed, or raise `limit`."
})

const unreadable = (directory: string): Condition => ({
  name: "folder-unreadable",
  severity: "warning",
  message: `The folder ${directory} can't be looked at`,
  hint: "Check that it is there, and its permissions."
})

/** The monitor of the folder `directory` (an absolute path). */
export const make = (directory: string, { every, limit, pauseCopies }: Config): Monitor => {
  let status: Schema.Json = null
  /** The pipelines, by name, whose copies wait because of this monitor. */
  const paused = new Map<string, MonitoredPipeline["control"]>()

  /** Also of pipelines that have come since. Copies that wait already were held up by somebody else, who lets them go on. */
  const pause = (pipelines: MonitorContext["pipelines"]): Effect.Effect<void> =>
    Effect.forEach(pipelines(), ({ control, name }) => {
      if (control.copiesPaused()) return Effect.void
      paused.set(name, control)
      return control.pauseCopies(true)
    }, { discard: true })

  const release = Effect.suspend(() => {
    const controls = [...paused.values()]
    paused.clear()
    return Effect.forEach(controls, (control) => control.pauseCopies(false), { discard: true })
  })

  return {
    status: () => status,
    run: Effect.fnUntraced(function*({ conditions, pipelines }) {
      // Requests outlive the monitor: nobody else would take this one back.
      yield* Effect.addFinalizer(() => release)
      const judge = Effect.fnUntraced(function*(bytes: number) {
        const now = yield* Clock.currentTimeMillis
        status = { lookedAt: new Date(now).toISOString(), bytes, limit }
        yield* conditions.clear(unreadable(directory).name)
        const isLarge = bytes > limit
        yield* isLarge
          ? conditions.raise(large(directory, bytes, limit))
          : conditions.clear(large(directory, bytes, limit).name)
        if (pauseCopies) yield* isLarge ? pause(pipelines) : release
      })
      const look = Effect.tryPromise(() => sizeOf(directory)).pipe(
        Effect.matchEffect({ onSuccess: judge, onFailure: () => conditions.raise(unreadable(directory)) })
      )
      return yield* Effect.andThen(Effect.repeat(look, Schedule.spaced(every)), Effect.never)
    })
  }
}
