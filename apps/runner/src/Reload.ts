/**
 * Goes over to what the configuration file holds now, while pipelines run.
 *
 * All or nothing: a file with a problem, or with a change that needs a restart, changes nothing and is reported. References to the
 * environment (as it was when the process started) and to files are resolved anew; modules of plugins stay loaded as they are.
 */
import * as Effect from "effect/Effect"
import { type CommandError, internal } from "./CommandError.ts"
import * as Configuration from "./Configuration.ts"
import * as ConfigurationChange from "./ConfigurationChange.ts"
import { enumerate } from "./Suggestion.ts"
import type { Supervisor } from "./Supervisor.ts"
import * as Warnings from "./Warnings.ts"

export interface Options {
  readonly supervisor: Supervisor
  /** Completes each time that a reload is asked for. */
  readonly asked: Effect.Effect<void>
  /** Called with a configuration before anything of it is used, so that its secrets are hidden. */
  readonly loaded: (configuration: Configuration.Configuration) => void
  /** Takes over what of a configuration isn't about pipelines; done once its changes are known to be possible. */
  readonly taken: (configuration: Configuration.Configuration) => Effect.Effect<void>
}

const refused = (error: CommandError): Effect.Effect<void> =>
  Effect.logError(`${error.message}; the pipelines go on with the configuration that they have`).pipe(
    Effect.annotateLogs({ code: error.code, ...(error.problems === undefined ? { hint: error.hint } : {}) }),
    Effect.andThen(
      Effect.forEach(error.problems ?? [], ({ message, remedy, ...place }) =>
        Effect.logError(message).pipe(
          Effect.annotateLogs({ ...place, hint: remedy })
        ), { discard: true })
    )
  )

const named = (change: ConfigurationChange.ConfigurationChange): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(change).filter(([, names]) => names.length > 0).map(([kind, names]) => [kind, names.join(", ")])
  )

/** Reloads whenever it is asked to, one after the other, beginning with what `initial` says. */
export const run = Effect.fn("Reload.run")(function*(
  initial: Configuration.Configuration,
  { asked, loaded, supervisor, taken }: Options
) {
  let current = initial
  const reload = Effect.gen(function*() {
    const next = yield* Configuration.load(current.file, { environment: process.env, offline: false })
    if (next === undefined) return
    loaded(next)
    const sections = ConfigurationChange.needingRestart(current, next)
    if (sections.length > 0) {
      return yield* Effect.logError(
        `${enumerate(sections.map((section) => `\`${section}\``), "and")} can't be changed while pipelines run; ` +
          "they go on with the configuration that they have"
      ).pipe(
        Effect.annotateLogs({
          file: next.file,
          hint: "Restart etl-stream to take the file over as a whole, or undo that change and reload again."
        })
      )
    }
    const change = ConfigurationChange.between(current, next)
    yield* Effect.logInfo("The configuration is reloaded").pipe(
      Effect.annotateLogs({ file: next.file, ...named(change) })
    )
    yield* Warnings.log(Warnings.since(current.warnings, next.warnings))
    current = next
    yield* taken(next)
    // The next reload doesn't wait for the drains of this one.
    yield* supervisor.reload(next, change).pipe(
      Effect.andThen(Effect.logInfo("The reload is complete")),
      Effect.forkScoped({ startImmediately: true })
    )
  }).pipe(
    Effect.catchDefect((defect) => Effect.fail(internal("The reload", defect))),
    Effect.catch(refused)
  )
  return yield* Effect.forever(Effect.andThen(asked, reload))
})
