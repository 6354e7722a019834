/**
 * `etl-stream plugin list`: the plugins that configurations can name here, or those that one configuration names.
 *
 * The former are the built-in ones and the dependencies of the projects around the current folder that have the keyword `etl-stream-plugin`; the latter come with where they are
 * named. All are loaded, and nothing is connected to.
 */
import * as Effect from "effect/Effect"
import { dirname, resolve } from "node:path"
import type { CommandError } from "../CommandError.ts"
import { defaultState } from "../Config.ts"
import * as Configuration from "../Configuration.ts"
import * as Interpolation from "../Interpolation.ts"
import type { Result } from "../Output.ts"
import * as PluginInventory from "../PluginInventory.ts"
import * as PluginUses from "../PluginUses.ts"
import { formatPath } from "../Problem.ts"
import { printable } from "../TextWidth.ts"

export interface Options {
  /** Where plugins are looked for. */
  readonly directory: string
  /** The configuration whose plugins are to be listed. */
  readonly file: string | undefined
}

/** The plugins that the configuration `file` names, as far as it can be read; the store that it has when it names none is among them. */
const named = Effect.fnUntraced(
  function*(file: string): Effect.fn.Return<ReadonlyArray<PluginUses.PluginUse>, CommandError> {
    const directory = dirname(resolve(file))
    const { value } = yield* Configuration.parse(file)
    const { value: document } = yield* Interpolation.resolve(value, {
      environment: process.env,
      offline: false,
      readFile: (path) => Configuration.readText(resolve(directory, path))
    })
    const uses = PluginUses.find(document)
    return uses.some(({ kind }) => kind === "state")
      ? uses
      : [{ plugin: defaultState.plugin, path: ["state"], kind: "state" }, ...uses]
  }
)

type Entry = PluginInventory.Listed & { readonly uses?: ReadonlyArray<string> }

const cells = (entry: Entry): ReadonlyArray<string> =>
  PluginInventory.isUsable(entry)
    ? [
      entry.name,
      entry.kind,
      entry.version,
      String(entry.apiVersion),
      entry.stability,
      entry.origin ?? "-",
      entry.summary
    ]
    : [entry.name, "-", "-", "-", "-", entry.origin ?? "-", ""]

const details = (entry: Entry): ReadonlyArray<string> => [
  ...(entry.path === null ? [] : [entry.path]),
  ...(entry.uses === undefined ? [] : [`used by ${entry.uses.join(", ")}`]),
  ...(PluginInventory.isUsable(entry)
    ? entry.warnings.map((warning) => `warning: ${warning}`)
    : [`problem: ${entry.problem}`])
]

const header = ["NAME", "KIND", "VERSION", "API", "STABILITY", "FROM", "SUMMARY"]

const table = (entries: ReadonlyArray<Entry>): string => {
  const rows = [header, ...entries.map(cells)]
  const widths = header.slice(0, -1).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows.flatMap((row, index) => {
    const entry = entries[index - 1]
    const line = row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()
    return [line, ...(entry === undefined ? [] : details(entry).map((detail) => `  ${detail}`))].map(printable)
  }).join("\n")
}

export const list = Effect.fn("PluginList.list")(
  function*({ directory, file }: Options): Effect.fn.Return<Result, CommandError> {
    const plugins: ReadonlyArray<Entry> = file === undefined
      ? yield* PluginInventory.all(directory)
      : yield* Effect.flatMap(named(file), (uses) => {
        const byName = Map.groupBy(uses, ({ kind, plugin }) => JSON.stringify([plugin, kind]))
        return Effect.forEach(
          [...byName.values()],
          ([use, ...others]) =>
            use === undefined ? Effect.succeed([]) : Effect.map(
              PluginInventory.look(use.plugin, dirname(resolve(file)), use.kind),
              (listed): ReadonlyArray<Entry> => [
                { ...listed, uses: [use, ...others].map(({ path }) => formatPath(path)) }
              ]
            )
        ).pipe(Effect.map((entries) => entries.flat()))
      })
    return {
      command: "plugin list",
      data: {
        ...(file === undefined ? {} : { file }),
        plugins: plugins.map((entry) => ({ ...entry, builtIn: entry.origin === "built-in" }))
      },
      text: table(plugins)
    }
  }
)
