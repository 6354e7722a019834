/**
 * A table as it is in Snowflake, by DESCRIBE TABLE, which needs no warehouse.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { failure } from "./ErrorPolicy.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { ObjectName } from "./TableLayout.ts"
import { sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

const Described = Schema.Struct({
  name: Schema.String,
  type: Schema.String,
  "null?": Schema.String,
  default: Schema.NullOr(Schema.String),
  "primary key": Schema.String
})

export interface ExistingColumn {
  /** Without a collation. */
  readonly type: string
  readonly collation: string | undefined
  readonly nullable: boolean
  /** It has a value when none is given. */
  readonly filled: boolean
}

export interface ExistingTable {
  readonly columns: ReadonlyMap<string, ExistingColumn>
  readonly primaryKey: ReadonlyArray<string>
}

/** Parts `VARCHAR(10) COLLATE 'en-ci'`. */
const typed = (printed: string): Pick<ExistingColumn, "type" | "collation"> => {
  const [, type, collation] = /^(.*?) COLLATE '(.*)'$/.exec(printed) ?? []
  return type === undefined ? { type: printed, collation: undefined } : { type, collation }
}

/** The table, or undefined when there is none that the role may see. */
export const describe = (
  sql: SqlClient,
  name: ObjectName,
  table: string
): Effect.Effect<ExistingTable | undefined, Failed> =>
  sql.execute({ what: `Describing ${sqlName(name)}`, sql: `DESCRIBE TABLE ${sqlName(name)}`, table })
    .pipe(
      Effect.flatMap(({ rows }) => Effect.forEach(rows, (row) => Schema.decodeUnknownEffect(Described)(row))),
      Effect.map((columns): ExistingTable => ({
        columns: new Map(columns.map((column) => [column.name, {
          ...typed(column.type),
          nullable: column["null?"] !== "N",
          filled: column.default !== null && column.default !== ""
        }])),
        primaryKey: columns.filter((column) => column["primary key"] === "Y").map((column) => column.name)
      })),
      Effect.catchTag(
        "SchemaError",
        () =>
          Effect.fail(
            failure(
              "Protocol",
              `DESCRIBE TABLE ${sqlName(name)} has another form than documented`,
              "Report it.",
              { table }
            )
          )
      ),
      Effect.catch((error) => error.reason === "Missing" ? Effect.succeed(undefined) : Effect.fail(error))
    )
