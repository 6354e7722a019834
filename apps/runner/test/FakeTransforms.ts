/**
 * A transform for the tests of `etl-stream test`, and one that doesn't keep to its schema.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as ColumnBuilder from "@etl-stream/core/ColumnBuilder"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Plugin from "@etl-stream/core/Plugin"
import * as Arrow from "apache-arrow"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** Puts another text in the place of every text of a column, and its table into another schema. */
export const stars = Plugin.transform({
  name: "stars",
  version: "1.0.0",
  summary: "Hides a column's texts",
  config: Schema.Struct({ column: Schema.String, by: Schema.RedactedFromValue(Schema.String) }),
  make: ({ by, column }) => {
    const text = new TextEncoder().encode(Schema.encodeSync(Schema.RedactedFromValue(Schema.String))(by))
    return Effect.succeed({
      schema: (table) => {
        if (table.table.name === "secret") return Effect.succeed(undefined)
        return table.columns.some(({ name }) => name === column)
          ? Effect.succeed({ ...table, table: { schema: "raw", name: table.table.name } })
          : Effect.fail(
            new ConnectorError({
              reason: "Unsupported",
              plugin: "stars",
              message: `The table ${table.table.name} has no column ${column}`,
              hint: "Name another."
            })
          )
      },
      apply: (batch) =>
        Effect.sync(() => {
          const index = batch.table.columns.findIndex(({ name }) => name === column) + ChangeBatch.metadataColumns
          const old = ChangeBatch.child(batch.records, index)
          const texts = new ColumnBuilder.BytesColumn(new Arrow.Utf8())
          for (let row = 0; row < batch.rows; row++) {
            if (old.getValid(row)) texts.append(text, 0, text.length)
            else texts.appendNull()
          }
          const children = [...batch.records.data.children]
          children[index] = texts.finish()
          const { schema } = batch.records
          const data = Arrow.makeData({
            type: new Arrow.Struct(schema.fields),
            length: batch.rows,
            nullCount: 0,
            children
          })
          return ChangeBatch.make(
            { ...batch.table, table: { schema: "raw", name: batch.table.table.name } },
            new Arrow.RecordBatch(schema, data)
          )
        })
    })
  }
})

/** Says that it renames the table, and doesn't. */
export const liar = Plugin.transform({
  name: "liar",
  version: "1.0.0",
  summary: "Breaks the contract",
  config: Schema.Struct({}),
  make: () =>
    Effect.succeed({
      schema: (table) => Effect.succeed({ ...table, table: { schema: "other", name: table.table.name } }),
      apply: (batch) => Effect.succeed(batch)
    })
})
