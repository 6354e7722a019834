/**
 * Dead letters in a Snowflake table, beside the journals: one row per letter, the letter itself as JSON text.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import { DeadLetter } from "@etl-stream/core/DeadLetter"
import { tooMany } from "@etl-stream/core/DeadLetterFiles"
import type { DeadLetterStore, Selection } from "@etl-stream/core/DeadLetterStore"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Collation from "./Collation.ts"
import { failure, plugin } from "./ErrorPolicy.ts"
import { literal, qualified } from "./Identifier.ts"
import type { SqlClient } from "./SqlClient.ts"
import { sequenceType } from "./TableLayout.ts"
import { maxTextLength } from "./TypeMapping.ts"

type Failed = ConnectorError.ConnectorError

const tableName = "DEAD_LETTERS"

/** Letters of one statement, and most of their text. */
const statementLetters = 50
const statementBytes = 1 << 20
const pageLetters = 20

const Row = Schema.Struct({ ID: Schema.String, LETTER: Schema.fromJsonString(DeadLetter) })
const Count = Schema.Struct({ letters: Schema.FiniteFromString })

/** Cuts letters into as many as a statement takes. */
const groups = (letters: ReadonlyArray<DeadLetter>): ReadonlyArray<ReadonlyArray<readonly [DeadLetter, string]>> => {
  const all: Array<Array<readonly [DeadLetter, string]>> = []
  let bytes = 0
  for (const letter of letters) {
    const text = JSON.stringify(letter)
    const last = all.at(-1)
    if (last === undefined || last.length >= statementLetters || bytes + text.length > statementBytes) {
      all.push([[letter, text]])
      bytes = 0
    } else last.push([letter, text])
    bytes += text.length
  }
  return all
}

/** The store; the table is made when the first letter comes. */
export const make = (sql: SqlClient, database: string, schema: string, limit: number): DeadLetterStore => {
  const table = qualified(database, schema, tableName)
  const exclusive = Semaphore.makeUnsafe(1)
  /** Letters per pipeline and table, of those that this process put letters of. */
  const counts = new Map<string, number>()
  const keyOf = (pipeline: string, id: TableId): string => JSON.stringify([pipeline, id])
  let created = false

  const unreadable = (): Failed =>
    failure(
      "Protocol",
      `${table} has another form than expected`,
      "Check whether something else created or changed it."
    )
  const decode = <A>(schema: Schema.ConstraintDecoder<A>, row: unknown): Effect.Effect<A, Failed> =>
    Effect.mapError(Schema.decodeUnknownEffect(schema)(row), unreadable)

  const create = Effect.suspend(() =>
    created ? Effect.void : Effect.map(
      sql.execute({
        what: "Creating the table of dead letters",
        sql: `CREATE TABLE IF NOT EXISTS ${table} ("ID" VARCHAR(32), "PIPELINE" VARCHAR, "SOURCE_TABLE" VARCHAR, ` +
          `"SEQUENCE" ${sequenceType}, "COLUMN_NAME" VARCHAR, "REASON" VARCHAR, "WRITTEN_AT" TIMESTAMP_TZ(6), ` +
          `"LETTER" VARCHAR(${maxTextLength})) ${Collation.none}`
      }),
      () => {
        created = true
      }
    )
  )
  const of = (pipeline: string, id?: TableId): string =>
    `"PIPELINE" = ${literal(pipeline)}${id === undefined ? "" : ` AND "SOURCE_TABLE" = ${literal(id)}`}`

  const count = Effect.fnUntraced(function*(pipeline: string, id: TableId) {
    const known = counts.get(keyOf(pipeline, id))
    if (known !== undefined) return known
    const { rows } = yield* sql.execute({
      what: `Counting the dead letters of ${id}`,
      sql: `SELECT COUNT(*) AS "letters" FROM ${table} WHERE ${of(pipeline, id)}`
    })
    const { letters } = yield* decode(Count, rows[0])
    counts.set(keyOf(pipeline, id), letters)
    return letters
  })

  /** `given` are of one pipeline and table. */
  const putTable = Effect.fnUntraced(function*(given: ReadonlyArray<DeadLetter>) {
    const [first] = given
    if (first === undefined) return 0
    const { pipeline, table: id } = first
    let kept = yield* count(pipeline, id)
    let added = 0
    for (const group of groups([...new Map(given.map((letter) => [letter.id, letter])).values()])) {
      const row =
        `SELECT ? AS "ID", ? AS "SEQUENCE", ? AS "COLUMN_NAME", ? AS "REASON", ? AS "WRITTEN_AT", ? AS "LETTER"`
      const { changed } = yield* sql.execute({
        what: `Keeping dead letters of ${id}`,
        sql: `MERGE INTO ${table} AS t USING (${group.map(() => row).join(" UNION ALL ")}) AS s ON t."ID" = s."ID" ` +
          `WHEN NOT MATCHED THEN INSERT ("ID", "PIPELINE", "SOURCE_TABLE", "SEQUENCE", "COLUMN_NAME", "REASON", "WRITTEN_AT", "LETTER") ` +
          `VALUES (s."ID", ${literal(pipeline)}, ${
            literal(id)
          }, s."SEQUENCE", s."COLUMN_NAME", s."REASON", s."WRITTEN_AT"::TIMESTAMP_TZ(6), s."LETTER")`,
        binds: group.flatMap(([letter, text]) => [
          letter.id,
          letter.sequence,
          letter.column.name,
          letter.reason,
          letter.at,
          text
        ])
      })
      added += changed
      kept += changed
      counts.set(keyOf(pipeline, id), kept)
      if (kept <= limit) continue
      // Somebody else may have forgotten some since they were counted.
      counts.delete(keyOf(pipeline, id))
      kept = yield* count(pipeline, id)
      if (kept > limit) return yield* tooMany({ limit, plugin }, id)
    }
    return added
  })

  /** What is read of a table that was never made. */
  const orNone = <A>(read: Effect.Effect<A, Failed>, none: A): Effect.Effect<A, Failed> =>
    read.pipe(Effect.catch((error) => error.reason === "Missing" ? Effect.succeed(none) : Effect.fail(error)))

  const page = ({ column, pipeline, table: id }: Selection, after: string) =>
    Effect.flatMap(
      sql.execute({
        what: "Reading dead letters",
        sql: `SELECT "ID", "LETTER" FROM ${table} WHERE ${of(pipeline, id)} AND "ID" > ${literal(after)}${
          column === undefined ? "" : ` AND "COLUMN_NAME" = ${literal(column)}`
        } ORDER BY "ID" LIMIT ${pageLetters}`
      }),
      ({ rows }) => Effect.forEach(rows, (row) => decode(Row, row))
    )

  return {
    put: (given) =>
      exclusive.withPermits(1)(
        Effect.andThen(
          create,
          Effect.map(
            Effect.forEach(
              Map.groupBy(given, ({ pipeline, table }) => keyOf(pipeline, table)).values(),
              (letters) => putTable(letters)
            ),
            (added) => added.reduce((sum, letters) => sum + letters, 0)
          )
        )
      ),
    list: (selection) =>
      Stream.paginate(
        "",
        (after: string) =>
          Effect.map(
            orNone(page(selection, after), []),
            (rows) =>
              [
                rows.map(({ LETTER }) => LETTER),
                rows.length < pageLetters ? Option.none<string>() : Option.fromNullishOr(rows.at(-1)?.ID)
              ] as const
          )
      ),
    get: (pipeline, id) =>
      orNone(
        Effect.flatMap(
          sql.execute({
            what: "Reading a dead letter",
            sql: `SELECT "ID", "LETTER" FROM ${table} WHERE ${of(pipeline)} AND "ID" = ${literal(id)}`
          }),
          ({ rows }) =>
            rows[0] === undefined
              ? Effect.succeed(undefined)
              : Effect.map(decode(Row, rows[0]), ({ LETTER }): DeadLetter | undefined => LETTER)
        ),
        undefined
      ),
    remove: (given) =>
      exclusive.withPermits(1)(Effect.gen(function*() {
        for (let from = 0; from < given.length; from += 1000) {
          const letters = given.slice(from, from + 1000)
          yield* sql.execute({
            what: "Forgetting dead letters",
            sql: `DELETE FROM ${table} WHERE "ID" IN (${letters.map(({ id }) => literal(id)).join(", ")})`
          })
          // They are counted again.
          for (const { pipeline, table: id } of letters) counts.delete(keyOf(pipeline, id))
        }
      }))
  }
}
