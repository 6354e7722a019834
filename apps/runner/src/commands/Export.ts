/**
 * `etl-stream export`: the configuration database as YAML. Applied, it gives the same rows again.
 */
import * as Effect from "effect/Effect"
import * as Yaml from "yaml"
import { type CommandError, invalidConfiguration } from "../CommandError.ts"
import * as Address from "../database/Address.ts"
import * as Documents from "../database/Documents.ts"
import { databaseName, using } from "../database/Opening.ts"
import { keyOf, read, type Snapshot } from "../database/Rows.ts"
import type { Result } from "../Output.ts"

export interface Options {
  /** URL of the configuration database, or a reference to it. */
  readonly database: string | undefined
}

/** The document of a snapshot as YAML. */
export const yamlOf = ({ rows }: Snapshot): string => {
  const document = new Yaml.Document(Documents.exported(rows), { aliasDuplicateObjects: false })
  Yaml.visit(document, {
    Pair: (_, { key }) => {
      // In quotes it is a key like any other; plain, a configuration file merges what it leads to.
      if (Yaml.isScalar(key) && key.value === "<<") key.type = "QUOTE_DOUBLE"
    }
  })
  return document.toString({ lineWidth: 120 })
}

export const exportYaml = Effect.fn("Export.export")(
  function*({ database }: Options): Effect.fn.Return<Result, CommandError> {
    const url = yield* Address.requireUrl(database, process.env)
    const snapshot = yield* using(url, read)
    const unreadable = snapshot.rows.flatMap((row) =>
      row.unreadable === undefined ? [] : [{ path: "", row: keyOf(row), ...row.unreadable }]
    )
    if (unreadable.length > 0) return yield* invalidConfiguration(databaseName, unreadable)
    const yaml = yamlOf(snapshot)
    return { command: "export", data: { yaml }, text: yaml.trimEnd() }
  }
)
