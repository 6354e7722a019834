/**
 * Writes a dead letter's value to its row after all, with the types and policies of the configuration as it is now.
 *
 * A row of the target that still has the letter's sequence has seen no change since, so the value is what it lacks. Any other row has: then the value
 * is written nowhere. It is of the past when a later change has sent the column, which has left a value there, and the row has kept its key meanwhile, as
 * the journal tells; otherwise nobody knows. The condition is part of the UPDATE, so a merge can't come between the two.
 *
 * A complete copy reads every row anew, and makes letters of its own: those from before it are of the past. Only a changelog still has the rows of
 * changes that came before, each with its own values. A history may have kept a version over the new copy because the values of both are missing, though they
 * differ at the source: nothing is written to such versions.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { metadataColumns, Operation } from "@etl-stream/core/ChangeBatch"
import { ChangeBatchBuilder } from "@etl-stream/core/ChangeBatchBuilder"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { Column, DeadLetter } from "@etl-stream/core/DeadLetter"
import { decodeType } from "@etl-stream/core/DeadLetter"
import type { DeadLetters, Replayed } from "@etl-stream/core/DeadLetterStore"
import type { PluginContext } from "@etl-stream/core/Plugin"
import * as Sequence from "@etl-stream/core/Sequence"
import type { ColumnSchema, TableSchema } from "@etl-stream/core/TableSchema"
import { parseTableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { ByteBuffer } from "./ByteBuffer.ts"
import type { Config } from "./Config.ts"
import * as Credentials from "./Credentials.ts"
import { storeOf } from "./DeadLetterWriter.ts"
import { failure } from "./ErrorPolicy.ts"
import { describe } from "./ExistingTable.ts"
import * as Identifier from "./Identifier.ts"
import { literal, quote } from "./Identifier.ts"
import * as SourceText from "./SourceText.ts"
import type { SqlClient } from "./SqlClient.ts"
import * as Sql from "./SqlClient.ts"
import * as StateTable from "./StateTable.ts"
import type { ColumnLayout, TableLayout } from "./TableLayout.ts"
import * as Layout from "./TableLayout.ts"
import { Metadata, sqlName } from "./TableLayout.ts"
import * as TypeMapping from "./TypeMapping.ts"
import type { Refusal } from "./ValueWriter.ts"
import * as ValueWriter from "./ValueWriter.ts"

type Failed = ConnectorError.ConnectorError

const Found = Schema.Struct({ empty: Schema.Union([Schema.Boolean, Schema.String]) })
const Since = Schema.Struct({ own: Schema.FiniteFromString, moves: Schema.FiniteFromString })

const unclear = (why: string, hint: string): Replayed => ({ _tag: "Unclear", why, hint })

const again = "Copy the table again (`etl-stream resync`) if the value is missed, and drop the letter."

const unreadable = (letter: DeadLetter): Failed =>
  failure("Protocol", `The dead letter ${letter.id} can't be read`, "Something else wrote or changed it. Drop it.", {
    table: letter.table
  })

/** The letter's key and refused column as a table of one row. */
const batchOf = (letter: DeadLetter): ChangeBatch.ChangeBatch | undefined => {
  const table = parseTableId(letter.table)
  const columns: Array<ColumnSchema> = []
  for (const { name, type } of [...letter.key, letter.column]) {
    const decoded = decodeType(type)
    if (decoded === undefined) return undefined
    columns.push({ name, type: decoded, sourceType: decoded._tag.toLowerCase(), nullable: true })
  }
  if (table === undefined) return undefined
  const schema: TableSchema = {
    table,
    version: 0,
    columns,
    identity: letter.identity === "Key"
      ? { _tag: "Key", columns: letter.key.map((_, index) => index) }
      : { _tag: letter.identity }
  }
  const builder = new ChangeBatchBuilder(schema)
  builder.begin(Operation.Update, 0, 0, 0, 0, 0)
  for (const [index, column] of builder.columns.entries()) {
    const { name, type } = columns[index] ?? {}
    const text = name !== undefined && Object.hasOwn(letter.values, name) ? letter.values[name] : undefined
    if (text === undefined || type === undefined) return undefined
    if (text === null) column.appendNull()
    else if (!SourceText.parse(type, text, column)) return undefined
  }
  return builder.finish()
}

/** The text that a column's value has in files; undefined for NULL. */
const fileText = (
  column: ColumnLayout,
  batch: ChangeBatch.ChangeBatch,
  policy: ValueWriter.Policy
): string | undefined => {
  const data = batch.records.data.children[metadataColumns + column.index]
  if (data === undefined || ValueWriter.isNull(data, 0)) return undefined
  const out = new ByteBuffer(1024)
  const written = ValueWriter.make(column, data, out, policy, undefined)(0)
  return written ? Buffer.from(out.view()).toString() : undefined
}

/** Conditions on the row that the letter is about, over the columns `K0…` of `s`; undefined when it can't be told from others. */
const conditionsOf = (letter: DeadLetter, layout: TableLayout): ReadonlyArray<string> | undefined => {
  const same = layout.keys.map((_, index) => `t.${quote(nameOf(letter.key[index]))} = s."K${index}"`)
  if (layout.keys.length > 0) return same
  if (layout.keyless) return [`t.${quote(Metadata.rowKey)} = ${literal(letter.row)}`]
  return letter.operation === "read" ? undefined : []
}

const nameOf = (column: Column | undefined): string => column?.target ?? ""

export const replay = (
  config: Config,
  pipeline: string,
  sql: SqlClient,
  state: StateTable.StateTable
) =>
  Effect.fn("DeadLetterReplay.replay")(function*(letter: DeadLetter): Effect.fn.Return<Replayed, Failed> {
    const batch = batchOf(letter)
    if (batch === undefined) return yield* unreadable(letter)
    const layout = yield* Layout.of(config, pipeline, batch.table)
    const wanted = layout.columns.at(-1)
    if (wanted === undefined) return yield* unreadable(letter)
    const known = (yield* state.load).get(letter.table)
    if (known?.copied === undefined) {
      return {
        _tag: "Waiting",
        why: `no copy of ${letter.table} is complete`,
        hint: "Replay it again when the table's copy is complete; if that is a new copy, it has letters of its own."
      }
    }
    const log = layout.mode === "changelog"
    const copied = letter.operation === "read"
    if (letter.sequence < Sequence.format(Sequence.make(known.copied, 0n))) {
      if (layout.mode === "history") {
        return unclear(
          `the table was copied again since: a version without the value may stand for a later one that was missed`,
          "The new copy has letters of its own. Drop this one, or look up the value with `etl-stream dlq show`."
        )
      }
      if (!log || copied) return { _tag: "Superseded" }
    }
    // What is copied is there when the copy is complete.
    if (!log && !copied && (known.merged ?? "") < letter.sequence) {
      return {
        _tag: "Waiting",
        why: `the change isn't merged into ${sqlName(layout.target)} yet`,
        hint: "Replay it again when the pipeline has merged it."
      }
    }
    const conditions = conditionsOf(letter, layout)
    if (conditions === undefined) {
      return unclear("a copied row of a table without a key can't be told from others", again)
    }
    const target = sqlName(layout.target)
    const existing = (yield* describe(sql, layout.target, letter.table))?.columns.get(letter.column.target)
    if (existing === undefined) {
      return unclear(`${target} has no column ${letter.column.target} any more`, "Drop the letter if nobody misses it.")
    }
    // Under some policies a column is text, whatever its type at the source is.
    const column = TypeMapping.isText(existing.type) && !wanted.target.startsWith("VARCHAR")
      ? { ...wanted, ...TypeMapping.asText(wanted.type) }
      : wanted
    if (TypeMapping.compare(existing.type, column.target) !== "fits") {
      return {
        _tag: "Refused",
        why: `the column ${letter.column.target} of ${target} still is ${existing.type}`,
        hint: "Start the pipeline with the changed configuration, which alters the column, and replay the letter again."
      }
    }
    const refused: Array<Refusal> = []
    const policy = ValueWriter.policy(config.outOfRange, refused)
    const value = fileText(column, batch, policy)
    const [refusal] = refused
    if (refusal !== undefined) {
      return {
        _tag: "Refused",
        why: `the column ${letter.column.target} ${refusal.why}`,
        hint: "Give the column a type that holds the value, or set outOfRange, and replay it again."
      }
    }
    const keys = layout.keys.map((key) => fileText(key, batch, policy) ?? "")
    const source = `SELECT ${
      [
        ...layout.keys.map((key, index) => `${key.fromFile(`b."K${index}"`, false)} AS "K${index}"`),
        `${value === undefined ? "NULL" : column.fromFile(`b."V"`, false)} AS "V"`
      ].join(", ")
    } FROM (SELECT ${[...keys.map((_, index) => `? AS "K${index}"`), `? AS "V"`].join(", ")}) AS b`
    const name = quote(letter.column.target)
    const sequence = quote(Metadata.sequence)
    const binds = [...keys, value ?? ""]
    const operation = log ? [`t.${quote(Metadata.op)} = ${literal(letter.operation)}`] : []
    const syncedAt = layout.mode === "mirror" ? `, ${quote(layout.names.syncedAt)} = CURRENT_TIMESTAMP()` : ""
    /** Whether versions that came later hold no value either. */
    const inherited = Effect.fnUntraced(function*() {
      const { rows } = yield* sql.execute({
        what: `Looking for later versions of a row of ${letter.table}`,
        sql: `SELECT COUNT(*) AS "versions" FROM ${target} AS t, (${source}) AS s WHERE ${
          [...conditions, `t.${sequence} > ${literal(letter.sequence)}`, `t.${name} IS NULL`].join(" AND ")
        }`,
        binds,
        table: letter.table
      })
      return rows[0]?.["versions"] !== "0"
    })
    const { changed } = yield* sql.execute({
      what: `Replaying a dead letter of ${letter.table}`,
      sql: `UPDATE ${target} AS t SET ${name} = s."V"${syncedAt} FROM (${source}) AS s WHERE ${
        [`t.${sequence} = ${literal(letter.sequence)}`, ...operation, ...conditions].join(" AND ")
      }`,
      binds,
      table: letter.table
    })
    if (changed > 0) {
      return layout.mode === "history" && (yield* inherited())
        ? unclear("later versions of its row may have taken the NULL from the one that holds the value now", again)
        : { _tag: "Written" }
    }
    if (layout.mode !== "mirror" || layout.keys.length === 0) {
      return unclear(`${target} has no such row (any more)`, again)
    }
    const { rows } = yield* sql.execute({
      what: `Looking for a row of ${letter.table}`,
      sql: `SELECT t.${name} IS NULL AS "empty" FROM ${target} AS t, (${source}) AS s WHERE ${
        conditions.join(" AND ")
      }`,
      binds,
      table: letter.table
    })
    if (rows[0] === undefined) return unclear("its row was deleted or has another key since", again)
    const found = yield* Effect.mapError(Schema.decodeUnknownEffect(Found)(rows[0]), () => unreadable(letter))
    if (String(found.empty).toLowerCase() !== "false") {
      return unclear("its row has changed since, and the column holds no value", again)
    }
    // The row may have left this key, the NULL with it, for another row to come: only the journal can tell.
    const since = yield* sql.execute({
      what: `Looking for changes of key in ${letter.table}`,
      sql: `SELECT COUNT(IFF(t.${sequence} = ${literal(letter.sequence)}, 1, NULL)) AS "own", ` +
        `COUNT(IFF(t.${quote(Metadata.op)} = 'key_old', 1, NULL)) AS "moves" FROM ${
          sqlName(layout.journal)
        } AS t, (${source}) AS s WHERE ${
          [...conditions, `t.${sequence} >= ${literal(letter.sequence)}`].join(" AND ")
        }`,
      binds,
      table: letter.table
    })
    const { moves, own } = yield* Effect.mapError(
      Schema.decodeUnknownEffect(Since)(since.rows[0]),
      () => unreadable(letter)
    )
    if (letter.operation !== "read" && own > 0 && moves === 0) return { _tag: "Superseded" }
    return unclear(
      "a later change has set the column of the row with this key, but whether that is the same row can't be told (any more)",
      "If the table's keys never change, drop the letter. Otherwise copy the table again if the value is missed."
    )
  })

/** The plugin's dead letters; undefined when its configuration keeps none. */
export const make = Effect.fn("DeadLetterReplay.make")(function*(
  config: Config,
  context: PluginContext
): Effect.fn.Return<DeadLetters | undefined, Failed, Scope.Scope> {
  if (config.deadLetters === undefined && context.deadLetters === undefined) return undefined
  const credentials = yield* Credentials.make(config.auth, context.directory)
  const { pipeline } = context
  const sql = yield* Sql.make(config, credentials, pipeline)
  const store = yield* storeOf(config, context, sql)
  if (store === undefined) return undefined
  const state = StateTable.make(
    sql,
    pipeline,
    Identifier.fromConfig(config.database),
    Identifier.fromConfig(config.journalSchema)
  )
  return { store, replay: replay(config, pipeline, sql, state) }
})
