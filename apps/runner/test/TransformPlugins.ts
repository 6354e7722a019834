/**
 * A source that tells its tables, and transforms, for tests: copied into a folder and named in configurations as a local plugin.
 */
import { ConnectorError, Reason } from "@etl-stream/core/ConnectorError"
import * as Plugin from "@etl-stream/core/Plugin"
import { parseTableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

const tableOf = (text: string): TableSchema => ({
  table: parseTableId(text) ?? { schema: "public", name: text },
  version: 1,
  columns: [
    { name: "id", type: { _tag: "Int64" }, sourceType: "bigint", nullable: false },
    { name: "price", type: { _tag: "Decimal", precision: 12, scale: 2 }, sourceType: "numeric(12,2)", nullable: true }
  ],
  identity: { _tag: "Key", columns: [0] }
})

const error = (plugin: string, reason: Reason, message: string) =>
  new ConnectorError({ reason, plugin, message, hint: "Mend it." })

/** Tells its tables. It can't run. */
export const tables = Plugin.source({
  name: "tables",
  version: "1.2.3",
  summary: "Has tables",
  config: Schema.Struct({
    names: Schema.Array(Schema.String),
    password: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
    fails: Schema.optionalKey(Reason),
    throws: Schema.optionalKey(Schema.Boolean),
    hangs: Schema.optionalKey(Schema.Boolean)
  }),
  make: () => Effect.succeed({ tables: Effect.succeed([]), stream: () => Stream.empty }),
  tables: ({ fails, hangs, names, password, throws }) => {
    if (throws === true) throw new TypeError("row value 4711")
    if (hangs === true) return Effect.never
    return fails === undefined
      ? Effect.succeed(names.map(tableOf))
      : Effect.fail(error("tables", fails, `refused with ${password === undefined ? "" : Redacted.value(password)}`))
  }
})

/** Gives tables another schema or name; leaves out, refuses or breaks on those that it is told. */
export const moves = Plugin.transform({
  name: "moves",
  version: "1.2.3",
  summary: "Moves tables",
  stability: "beta",
  config: Schema.Struct({
    schema: Schema.optionalKey(Schema.String),
    name: Schema.optionalKey(Schema.String),
    without: Schema.optionalKey(Schema.String),
    refuses: Schema.optionalKey(Schema.String),
    breaks: Schema.optionalKey(Schema.String),
    throws: Schema.optionalKey(Schema.String),
    unmade: Schema.optionalKey(Reason)
  }),
  make: ({ breaks, name, refuses, schema, throws, unmade, without }) => {
    if (throws === "make") throw new TypeError("row value 4711")
    return unmade !== undefined ? Effect.fail(error("moves", unmade, "it can't be made")) : Effect.succeed({
      schema: (table) => {
        if (table.table.name === throws) throw new TypeError("row value 4711")
        if (table.table.name === without) return Effect.succeed(undefined)
        if (table.table.name === breaks) return Effect.die(new TypeError("row value 4711"))
        if (table.table.name === refuses) {
          return Effect.fail(error("moves", "Unsupported", "the column price can't be moved"))
        }
        return Effect.succeed({
          ...table,
          table: { schema: schema ?? table.table.schema, name: name ?? table.table.name }
        })
      },
      apply: (batch) => {
        const table = {
          ...batch.table,
          table: { schema: schema ?? batch.table.table.schema, name: name ?? batch.table.table.name }
        }
        return Effect.succeed(batch.table.table.name === without ? undefined : { ...batch, table })
      }
    })
  }
})
