/**
 * A transform for the tests of `etl-stream test`, and one that doesn't keep to its schema.
 */
import * as Column from "@etl-stream/core/Column"
import * as Plugin from "@etl-stream/core/Plugin"
import * as RowTransform from "@etl-stream/core/RowTransform"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/** Puts another text in the place of every e-mail address, and leaves tables of secrets out. */
export const stars = Plugin.transform({
  name: "stars",
  version: "1.0.0",
  summary: "Hides e-mail addresses",
  config: Schema.Struct({ by: Schema.RedactedFromValue(Schema.String) }),
  make: ({ by }) => {
    const column = { email: Column.text().nullable }
    const hiding = RowTransform.make({
      plugin: "stars",
      reads: column,
      writes: column,
      map: ({ email }) => ({ email: email === null ? null : Redacted.value(by) })
    })
    return Effect.succeed({
      schema: (table) => table.table.name === "secret" ? Effect.succeed(undefined) : hiding.schema(table),
      apply: hiding.apply
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
