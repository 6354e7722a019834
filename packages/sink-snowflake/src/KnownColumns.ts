/**
 * The columns that a table's target was given so far, as the state table keeps them (`COLUMNS`): what tells a column that is new at the
 * source from one that somebody dropped in Snowflake, a renamed one from another, and ours from those made by hand.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

const KnownColumn = Schema.Struct({
  /** Its name in Snowflake. */
  name: Schema.String,
  /** Its name at the source. */
  source: Schema.String,
  /** `ColumnSchema.id`. */
  id: Schema.optionalKey(Schema.String),
  /**
   * Absent: it is written. `dropped`: the source has it no more; `omitted`: a policy leaves it out. Either way its values are missing from then
   * on.
   */
  state: Schema.optionalKey(Schema.Literals(["dropped", "omitted"]))
})
export type KnownColumn = typeof KnownColumn.Type
export type KnownColumns = ReadonlyArray<KnownColumn>

const Text = Schema.fromJsonString(Schema.Array(KnownColumn))

export const format = (columns: KnownColumns): string => Schema.encodeSync(Text)(columns)

/** The columns that `text` is of; undefined when there is none, or it is nothing of ours. Then names are all there is to go by. */
export const parse = (text: string | null | undefined): KnownColumns | undefined =>
  text === null || text === undefined ? undefined : Option.getOrUndefined(Schema.decodeUnknownOption(Text)(text))
