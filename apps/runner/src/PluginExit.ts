/**
 * Notices a plugin that ends the process while its module is loaded, which would be an end without a word: says which plugin did it, and where, and has
 * the process end as for a module that can't be loaded.
 */
import * as Effect from "effect/Effect"
import { join, sep } from "node:path"
import { fileURLToPath } from "node:url"
import { CommandError } from "./CommandError.ts"
import { ExitCode } from "./ExitCode.ts"
import * as Invocation from "./Invocation.ts"
import * as Output from "./Output.ts"
import * as Redaction from "./Redaction.ts"
import * as SharedModules from "./SharedModules.ts"
import { enumerate } from "./Suggestion.ts"

interface Loading {
  readonly name: string
  /** Of its module. */
  readonly path: string
}

const underWay = new Set<Loading>()

interface Place {
  readonly path: string
  readonly line: string
}

/** Who called `process.exit`; undefined when the process ends by itself. Called from a listener of its `exit`. */
const caller = (): Place | undefined => {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 100
  const lines = new Error().stack?.split("\n") ?? []
  Error.stackTraceLimit = stackTraceLimit
  const at = lines.findIndex((line) => /^\s*at process\.(exit|reallyExit) /.test(line))
  const [, where, line] = /^\s*at (?:.* \()?(.+):(\d+):\d+\)?$/.exec(at < 0 ? "" : lines[at + 1] ?? "") ?? []
  if (at < 0) return undefined
  return where === undefined || line === undefined
    ? { path: "", line: "" }
    : { path: where.startsWith("file:") ? fileURLToPath(where) : where, line }
}

const onExit = (): void => {
  const place = underWay.size === 0 ? undefined : caller()
  // The runner ends for reasons of its own, which it has told.
  if (place === undefined || place.path.startsWith(join(import.meta.dirname, sep))) return
  const loading = [...underWay]
  const guilty = loading.find(({ path }) => path === place.path || SharedModules.modulesOf(path).includes(place.path))
  const names = guilty === undefined ? loading.map(({ name }) => name) : [guilty.name]
  const where = place.path === "" ? "" : ` at ${place.path}:${place.line}`
  const error = new CommandError({
    code: "PluginUnloadable",
    message: `${names.length === 1 ? "The plugin" : "One of the plugins"} ${
      enumerate(names, "or")
    } ended the process while it was loaded, by process.exit${where}`,
    hint:
      "A plugin's module may only define it: what it needs is to be checked in its `check` or `make`, which fail with an error. Report it to its author.",
    exitCode: ExitCode.environment
  })
  const args = process.argv.slice(2)
  Effect.runFork(Output.fail(Invocation.commandName(args), error, Invocation.wantsJson(args), Redaction.none))
  process.exitCode = error.exitCode
}

let listening = false

/** Loads the module at `path`, of the plugin `name`. */
export const during = <A, E>(name: string, path: string, loading: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      if (!listening) process.on("exit", onExit)
      listening = true
      const one = { name, path }
      underWay.add(one)
      return one
    }),
    () => loading,
    (one) => Effect.sync(() => underWay.delete(one))
  )
