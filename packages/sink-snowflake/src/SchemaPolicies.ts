/**
 * The options `schemaEvolution`: what becomes of each kind of change of a table's columns.
 *
 * A kind has only those policies that lose nothing, or lose only what is asked for: leaving a column with a type that can't hold its
 * values isn't among them.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Schema from "effect/Schema"

const kinds = {
  addColumn: {
    policies: Schema.Literals(["apply", "alert", "quarantine"]),
    description: "A column that the source adds: add it; leave it out with a warning; or stop the table"
  },
  dropColumn: {
    policies: Schema.Literals(["apply", "drop", "alert", "quarantine"]),
    description:
      "A column that the source drops: keep it with the values that it has, new rows having NULL; drop it in Snowflake, too; keep it with a warning; or stop the table"
  },
  renameColumn: {
    policies: Schema.Literals(["apply", "alert", "quarantine"]),
    description:
      "A column that the source renames: rename it; go on under its old name with a warning; or stop the table"
  },
  widen: {
    policies: Schema.Literals(["apply", "quarantine"]),
    description:
      "A type with more values of its kind (more digits at the same scale, longer text): change it in place; or stop the table"
  },
  incompatible: {
    policies: Schema.Literals(["apply", "text", "quarantine"]),
    description:
      "A type that Snowflake can't change into: make the column anew and copy the table again (changelog: keep the old column under another name); the same as VARCHAR, whose values are text from then on; or stop the table"
  },
  nullability: {
    policies: Schema.Literals(["apply", "quarantine"]),
    description:
      "A column that is NOT NULL in Snowflake and may be NULL at the source: drop the constraint; or stop the table"
  }
}

/** Of one table: policies of its own. */
export const Own = Schema.Struct({
  addColumn: Schema.optionalKey(kinds.addColumn.policies).annotate({ description: kinds.addColumn.description }),
  dropColumn: Schema.optionalKey(kinds.dropColumn.policies).annotate({ description: kinds.dropColumn.description }),
  renameColumn: Schema.optionalKey(kinds.renameColumn.policies).annotate({
    description: kinds.renameColumn.description
  }),
  widen: Schema.optionalKey(kinds.widen.policies).annotate({ description: kinds.widen.description }),
  incompatible: Schema.optionalKey(kinds.incompatible.policies).annotate({
    description: kinds.incompatible.description
  }),
  nullability: Schema.optionalKey(kinds.nullability.policies).annotate({ description: kinds.nullability.description })
})

const apply = "apply"

export const SchemaPolicies = Schema.Struct({
  addColumn: kinds.addColumn.policies.pipe(ConfigOption.withDefault(apply)).annotate({
    description: kinds.addColumn.description
  }),
  dropColumn: kinds.dropColumn.policies.pipe(ConfigOption.withDefault(apply)).annotate({
    description: kinds.dropColumn.description
  }),
  renameColumn: kinds.renameColumn.policies.pipe(ConfigOption.withDefault(apply)).annotate({
    description: kinds.renameColumn.description
  }),
  widen: kinds.widen.policies.pipe(ConfigOption.withDefault(apply)).annotate({
    description: kinds.widen.description
  }),
  incompatible: kinds.incompatible.policies.pipe(ConfigOption.withDefault(apply)).annotate({
    description: kinds.incompatible.description
  }),
  nullability: kinds.nullability.policies.pipe(ConfigOption.withDefault(apply)).annotate({
    description: kinds.nullability.description
  })
})
export type SchemaPolicies = typeof SchemaPolicies.Type
