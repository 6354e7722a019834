/**
 * `etl-stream plugin list`: the plugins that configurations can name here.
 *
 * Those are the built-in ones and the dependencies of the project around the current folder that have the keyword `etl-stream-plugin`.
 */
import type { AnyPlugin } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import type { Result } from "../Output.ts"
import * as PluginLoader from "../PluginLoader.ts"

interface Entry {
  readonly name: string
  readonly builtIn: boolean
  readonly kind?: AnyPlugin["kind"]
  readonly version?: string
  readonly apiVersion?: number
  readonly path?: string
  readonly summary?: string
  /** Why it can't be used, when it can't. */
  readonly problem?: string
}

const describe = (name: string, directory: string): Effect.Effect<Entry> =>
  PluginLoader.find(name, directory).pipe(
    Effect.map(({ builtIn, path, plugin }): Entry => ({
      name,
      builtIn,
      kind: plugin.kind,
      version: plugin.version,
      apiVersion: plugin.apiVersion,
      path,
      summary: plugin.summary
    })),
    Effect.catch((error) =>
      Effect.succeed<Entry>({
        name,
        builtIn: PluginLoader.builtIn.includes(name),
        problem: `${error.message} ${error.hint}`
      })
    )
  )

const table = (entries: ReadonlyArray<Entry>): string => {
  const rows = [
    ["NAME", "KIND", "VERSION", "API", "SUMMARY"],
    ...entries.map((entry) =>
      entry.problem === undefined
        ? [entry.name, entry.kind ?? "", entry.version ?? "", String(entry.apiVersion ?? ""), entry.summary ?? ""]
        : [entry.name, "-", "-", "-", entry.problem]
    )
  ]
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const lines = rows.map((row) =>
    row.map((cell, column) => column < 4 ? cell.padEnd(widths[column] ?? 0) : cell).join("  ").trimEnd()
  )
  return lines.flatMap((line, index) => {
    const path = entries[index - 1]?.path
    return path === undefined ? [line] : [line, `  ${path}`]
  }).join("\n")
}

export const list = Effect.fn("PluginList.list")(function*(directory: string): Effect.fn.Return<Result> {
  const packages = [...PluginLoader.builtIn, ...PluginLoader.installed(directory)]
  const names = yield* Effect.forEach(packages, (name) =>
    // What is wrong with it is told by `describe`.
    PluginLoader.namesIn(name, directory).pipe(Effect.catch(() => Effect.succeed([name]))))
  const plugins = yield* Effect.forEach(names.flat(), (name) => describe(name, directory))
  return { command: "plugin list", data: { plugins }, text: table(plugins) }
})
