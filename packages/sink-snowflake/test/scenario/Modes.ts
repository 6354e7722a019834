/**
 * The modes that scenarios are run in: the sink's options for each, and what must be in Snowflake in the end.
 *
 * A mode is one entry of `modes`.
 */
import { assert } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import { literal, quote } from "../../src/Identifier.ts"
import type { TableLayout } from "../../src/TableLayout.ts"
import { sqlName } from "../../src/TableLayout.ts"
import * as Batches from "../Batches.ts"
import type { Local } from "../Local.ts"
import { print } from "../MirrorModel.ts"
import type { Change, Transaction, Values } from "./History.ts"
import * as History from "./History.ts"
import type { ModeName } from "./Statements.ts"
import type { TableLog } from "./TableLog.ts"

/** What there is to compare when a scenario has ended. */
export interface Ended {
  readonly local: Local
  readonly pipeline: string
  readonly layout: TableLayout
  readonly log: TableLog
  readonly history: ReadonlyArray<Transaction>
}

export interface Mode {
  readonly name: ModeName
  /** Options of the sink, all or those of the table. */
  readonly options: object
  /** Whether it takes tables without a key. */
  readonly keyless: boolean
  readonly verify: (ended: Ended) => Effect.Effect<void>
}

/** Columns as text, so that nothing but the value is compared. */
const texts = (layout: TableLayout): string =>
  layout.columns.map(({ name, target }, index) =>
    `${target === "VARIANT" ? `TO_JSON(${quote(name)})` : `${quote(name)}::VARCHAR`} AS "C${index}"`
  ).join(", ")

const printed = (layout: TableLayout, row: Readonly<Record<string, unknown>>): string =>
  print(layout.columns.map((_column, index) => row[`C${index}`]))

/** Values padded with NULL to the columns that the table has in the end. */
const padded = (layout: TableLayout, values: Values): Values =>
  layout.columns.map((_column, index) => values[index] ?? null)

/** Where the copy that counts began, and the latest snapshot that it was read in. */
const copied = ({ local, pipeline }: Ended): Effect.Effect<{ readonly position: bigint; readonly to: bigint }> =>
  Effect.map(
    local.query(`SELECT "COPIED", "COPIED_TO" FROM RAW.ETL_STREAM.TABLES WHERE "PIPELINE" = ${literal(pipeline)}`),
    ([row]) => {
      assert.isString(row?.["COPIED"], "the copy is complete")
      return { position: BigInt(String(row?.["COPIED"])), to: BigInt(String(row?.["COPIED_TO"])) }
    }
  )

/** A table of Snowflake has the rows that the source has. */
const holds = (ended: Ended, from: string, values: (values: Values) => Values) =>
  Effect.gen(function*() {
    const { layout, local, log } = ended
    const rows = yield* local.query(`SELECT ${texts(layout)} FROM ${from}`)
    assert.deepStrictEqual(
      rows.map((row) => printed(layout, row)).sort(),
      log.final.map((row) => print(values(row))).sort(),
      "the target holds what the source does"
    )
  })

const targetHolds = (ended: Ended, condition = "") =>
  holds(ended, `${sqlName(ended.layout.target)}${condition}`, (values) => padded(ended.layout, values))

/**
 * The journal holds each change since the copy, and each once. Without a key everything before the one snapshot is part of the copy: such changes may be left out when they weren't
 * durable before it was complete.
 */
const journalHolds = (ended: Ended) =>
  Effect.gen(function*() {
    const { layout, local, log } = ended
    const { position, to } = yield* copied(ended)
    const rows = yield* local.query(
      `SELECT "_ETL_SEQ" FROM ${sqlName(layout.journal)} WHERE "_ETL_OP" <> 'read' ORDER BY "_ETL_SEQ"`
    )
    const held = rows.map((row) => String(row["_ETL_SEQ"]))
    const needed = new Set(log.changesFrom(layout.keys.length === 0 ? to : position))
    assert.deepStrictEqual(
      held,
      [...log.changesFrom(position)].filter((sequence) => needed.has(sequence) || held.includes(sequence)).sort(),
      "the journal holds each sequence exactly once"
    )
  })

/** Looks for rows to prune after each merge, and finds none: all transactions are far from being that old. */
const retained = { journal: { retention: "30 days" } }

const mirror: Mode = {
  name: "mirror",
  options: { mode: "mirror", ...retained },
  keyless: true,
  verify: (ended) => Effect.andThen(targetHolds(ended), journalHolds(ended))
}

/** Rows that were removed after everything was copied stay as they were last; others that stay are gone at the source, too. */
const softDelete: Mode = {
  name: "softDelete",
  options: { mode: "mirror", deletes: "soft", ...retained },
  keyless: false,
  verify: (ended) =>
    Effect.gen(function*() {
      const { history, layout, local, log } = ended
      yield* targetHolds(ended, ` WHERE NOT "_ETL_DELETED"`)
      yield* journalHolds(ended)
      const { to } = yield* copied(ended)
      const rows = yield* local.query(
        `SELECT ${texts(layout)} FROM ${sqlName(layout.target)} WHERE "_ETL_DELETED"`
      )
      const keyOf = (values: ReadonlyArray<unknown>) => print(layout.keys.map(({ index }) => values[index]))
      const kept = new Map(rows.map((row) => {
        const values = layout.columns.map((_column, index) => row[`C${index}`])
        return [keyOf(values), print(values)] as const
      }))
      assert.strictEqual(kept.size, rows.length, "each key is kept once")
      const present = new Set(log.final.map(keyOf))
      assert.deepStrictEqual([...kept.keys()].filter((key) => present.has(key)), [], "what is kept is gone")
      const gone = new Map<string, string>()
      for (const { commit, touched } of history) {
        if (commit < to) continue
        for (const { gone: removed, values } of touched.values()) {
          if (removed) gone.set(keyOf(values), print(padded(layout, values)))
          else gone.delete(keyOf(values))
        }
      }
      assert.deepStrictEqual(
        [...gone].map(([key]) => kept.get(key)),
        [...gone].map(([, values]) => values),
        "what was removed is kept as it was"
      )
    })
}

interface Version {
  readonly values: string
  readonly from: bigint
  readonly to: bigint | undefined
  readonly sequence: string
}

const printVersion = ({ from, sequence, to, values }: Version): string => `${values} ${from}-${to ?? ""} ${sequence}`

/** What is valid now is what the source has, no two versions of a row overlap, and those made after everything was copied are exact. */
const versions: Mode = {
  name: "history",
  options: { mode: "history", ...retained },
  keyless: false,
  verify: (ended) =>
    Effect.gen(function*() {
      const { history, layout, local } = ended
      yield* targetHolds(ended, ` WHERE "_ETL_VALID_TO" IS NULL`)
      yield* journalHolds(ended)
      const { to } = yield* copied(ended)
      const seconds = (column: string) => `DATE_PART(EPOCH_SECOND, "${column}")::VARCHAR`
      const rows = yield* local.query(
        `SELECT ${texts(layout)}, ${seconds("_ETL_VALID_FROM")} AS "FROM", ${
          seconds("_ETL_VALID_TO")
        } AS "TO", "_ETL_SEQ" AS "SEQ" FROM ${sqlName(layout.target)}`
      )
      const found = rows.map((row) => ({
        key: print(layout.keys.map(({ index }) => row[`C${index}`])),
        values: printed(layout, row),
        from: BigInt(String(row["FROM"])),
        to: row["TO"] === null ? undefined : BigInt(String(row["TO"])),
        sequence: String(row["SEQ"])
      }))
      for (const own of Map.groupBy(found, ({ key }) => key).values()) {
        const ordered = own.toSorted((a, b) => a.sequence < b.sequence ? -1 : 1)
        ordered.forEach((version, index) => {
          const next = ordered[index + 1]
          if (next === undefined) return
          assert.isTrue(version.sequence < next.sequence, "no version is there twice")
          // A copy's rows begin by the clock, which is far behind the transactions' times.
          const copiedLater = next.sequence.endsWith(`/${"0".repeat(16)}`)
          assert.isTrue(
            version.to !== undefined && (copiedLater || version.to <= next.from),
            `versions don't overlap: ${ordered.map(printVersion).join("; ")}`
          )
        })
      }
      const expected: Array<Version> = []
      const open = new Map<number, Version>()
      for (const { commit, touched } of history) {
        if (commit < to) continue
        for (const [key, { gone, last, values }] of touched) {
          const ended = open.get(key)
          if (ended !== undefined) expected.push({ ...ended, to: History.timeOf(commit) })
          open.delete(key)
          if (gone) continue
          open.set(key, {
            values: print(padded(layout, values)),
            from: History.timeOf(commit),
            to: undefined,
            sequence: Sequence.format(last)
          })
        }
      }
      const copy = Sequence.format(Sequence.make(to, 0n))
      assert.deepStrictEqual(
        found.filter(({ sequence }) => sequence > copy).map(printVersion).sort(),
        [...expected, ...open.values()].map(printVersion).sort(),
        "each transaction made the versions that it should"
      )
    })
}

/** Streaming makes NULL of JSON's null, so a changelog holds it as a string. */
const asChanges = (layout: TableLayout, values: Values): Values =>
  padded(layout, values).map((value, index) =>
    value === Batches.unsent ? null : value === "null" && layout.columns[index]?.target === "VARIANT" ? `"null"` : value
  )

const operationNames: Readonly<Record<number, string>> = {
  [Operation.Insert]: "insert",
  [Operation.Update]: "update",
  [Operation.Delete]: "delete",
  [Operation.KeyChangeOld]: "key_old",
  [Operation.KeyChangeNew]: "key_new"
}

const changeText = (layout: TableLayout, change: Change): string =>
  "truncate" in change
    ? `truncate ${print(layout.columns.map(() => null))}`
    : `${operationNames[change.op]} ${print(asChanges(layout, change.values))}`

const changelog: Mode = {
  name: "changelog",
  options: { mode: "changelog" },
  keyless: true,
  verify: (ended) =>
    Effect.gen(function*() {
      const { history, layout, local, log } = ended
      const { position } = yield* copied(ended)
      const rows = yield* local.query(
        `SELECT "_ETL_OP", "_ETL_SEQ", ${texts(layout)} FROM ${sqlName(layout.target)} ORDER BY "_ETL_SEQ"`
      )
      const changes = rows.filter((row) => row["_ETL_OP"] !== "read")
      const sequences = changes.map((row) => String(row["_ETL_SEQ"]))
      assert.strictEqual(new Set(sequences).size, sequences.length, "no change is there twice")
      const from = Sequence.format(Sequence.make(position, 0n))
      assert.deepStrictEqual(
        sequences.filter((sequence) => sequence >= from),
        [...log.changesFrom(position)].sort(),
        "each change since the copy is there"
      )
      for (const row of changes) {
        const sequence = String(row["_ETL_SEQ"])
        const emitted = log.emitted.get(sequence) ?? []
        assert.include(
          emitted.map((change) => changeText(layout, change)),
          `${String(row["_ETL_OP"])} ${printed(layout, row)}`,
          `the change ${sequence} is what the source sent`
        )
      }
      const chunks = log.copies.get(position) ?? new Map<number, bigint>()
      const read = [...chunks].flatMap(([chunk, at]) =>
        History.rowsAt(history, at).filter((values) => log.chunkOf(values) === chunk).map((values) =>
          `${Sequence.format(Sequence.make(at, 0n))} ${print(asChanges(layout, values))}`
        )
      )
      assert.deepStrictEqual(
        rows.filter((row) => row["_ETL_OP"] === "read").map((row) =>
          `${String(row["_ETL_SEQ"])} ${printed(layout, row)}`
        )
          .sort(),
        read.sort(),
        "the copy is there once"
      )
      if (layout.keys.length === 0) return
      const view = { ...layout.target, name: `${layout.target.name}_CURRENT` }
      yield* holds(ended, sqlName(view), (values) => asChanges(layout, values))
    })
}

export const modes = { mirror, softDelete, changelog, history: versions } as const satisfies Readonly<
  Record<ModeName, Mode>
>
