/**
 * Columns through any history of DDL: rows of the past are read under the right names, or not at all; and which types are wider.
 */
import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "fast-check"
import * as ColumnHistory from "../src/ColumnHistory.ts"
import type { Relation } from "../src/PgOutputDecoder.ts"
import * as TableOrigin from "../src/TableOrigin.ts"
import { isWidening } from "../src/TypeWidening.ts"

interface Column {
  readonly number: number
  readonly name: string
  /** How often it was altered. */
  readonly altered: number
}

type Step =
  | { readonly _tag: "Add" | "Drop" | "Rename"; readonly at: number; readonly name: string }
  | { readonly _tag: "Rows" }
  | { readonly _tag: "Start" }

const at = (number: number, name: string): Column => ({ number, name, altered: 0 })
const names = ["a", "b", "c", "d", "e"]
const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  {
    weight: 1,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constantFrom("Add", "Drop" as const),
      at: FastCheck.nat(4),
      name: FastCheck.constantFrom(...names)
    })
  },
  {
    weight: 3,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("Rename" as const),
      at: FastCheck.nat(4),
      name: FastCheck.constantFrom(...names)
    })
  },
  { weight: 2, arbitrary: FastCheck.constant({ _tag: "Rows" as const }) },
  { weight: 1, arbitrary: FastCheck.constant({ _tag: "Start" as const }) }
)

const relationOf = (columns: ReadonlyArray<Column>): Relation => ({
  oid: 16400,
  schema: "public",
  name: "t",
  replicaIdentity: "d",
  columns: columns.map(({ name }, index) => ({ name, typeOid: 23, typmod: -1, key: index === 0 }))
})

const originOf = (columns: ReadonlyArray<Column>, lastNumber: number): TableOrigin.Origin => ({
  oid: 16400,
  columns: columns.map((column) => ({
    ...column,
    typeOid: 23,
    typmod: -1,
    hasMissing: false,
    altered: String(column.altered),
    enums: []
  })),
  lastNumber,
  files: [[16400, 1]],
  gone: [],
  entries: [16400],
  filter: undefined,
  key: [1],
  partitions: undefined,
  byPartition: false,
  former: [],
  base: lastNumber,
  touched: [],
  left: [],
  whole: false
})

interface Outcome {
  /** Relations that were read under their columns' present names. */
  read: number
  renamed: number
  copies: number
}

/** Takes a table and its log through `steps` and checks every relation at every start. `ownNames`: no two columns ever have the same name. */
const walk = (steps: ReadonlyArray<Step>, ownNames = false): Outcome => {
  let columns: ReadonlyArray<Column> = [at(1, "id"), at(2, "a"), at(3, "b")]
  let lastNumber = 3
  let stored = TableOrigin.format(originOf(columns, lastNumber))
  /** The log since the copy, with the true numbers. */
  let log: Array<ReadonlyArray<Column>> = []
  const outcome: Outcome = { read: 0, renamed: 0, copies: 0 }
  const nameOf = (number: number, name: string): string => ownNames ? `${name}${number}` : name
  const copy = (current: TableOrigin.Origin) => {
    outcome.copies++
    stored = TableOrigin.format(current)
    log = []
  }
  const start = () => {
    const current = originOf(columns, lastNumber)
    if (TableOrigin.conflict(stored, current) !== undefined) return copy(current)
    const followed = TableOrigin.follow(stored, current)
    stored = TableOrigin.format(followed)
    // As the next run reads it.
    assert.deepStrictEqual(TableOrigin.parse(stored)?.former, followed.former)
    const now = new Map(columns.map(({ name, number }) => [number, name]))
    for (const then of log) {
      const found = ColumnHistory.namesNow(relationOf(then), followed, true, ownNames)
      if (found === undefined) return copy(current)
      assert.deepStrictEqual(found, then.map(({ number }) => now.get(number)))
      outcome.read++
      if (found.some((name, index) => name !== undefined && name !== then[index]?.name)) outcome.renamed++
    }
  }
  for (const next of steps) {
    switch (next._tag) {
      case "Add":
        if (columns.every(({ name }) => name !== next.name)) {
          lastNumber++
          columns = [...columns, at(lastNumber, nameOf(lastNumber, next.name))]
        }
        break
      case "Drop":
        columns = columns.filter((_, index) => index === 0 || index !== next.at)
        break
      case "Rename":
        columns = columns.map((column, index) => {
          const name = nameOf(column.number, next.name)
          return index !== next.at || columns.some((other) => other.name === name)
            ? column
            : { ...column, name, altered: column.altered + 1 }
        })
        break
      case "Rows":
        log.push(columns)
        break
      case "Start":
        start()
    }
  }
  start()
  return outcome
}

describe("ColumnHistory", () => {
  for (const ownNames of [false, true]) {
    const which = ownNames ? "by numbers and names" : "by numbers alone, whatever names columns take from each other"
    it(`reads rows of the past under the names that their columns have now, or has the table copied again: ${which}`, () => {
      const all: Outcome = { read: 0, renamed: 0, copies: 0 }
      FastCheck.assert(
        FastCheck.property(FastCheck.array(step, { maxLength: 14 }), (steps) => {
          const { copies, read, renamed } = walk(steps, ownNames)
          Object.assign(all, { read: all.read + read, renamed: all.renamed + renamed, copies: all.copies + copies })
        }),
        { numRuns: 10_000 }
      )
      // None of the three is rare.
      assert.isAbove(all.read, 2000)
      assert.isAbove(all.renamed, 200)
      assert.isAbove(all.copies, 20)
    })
  }

  it("goes on with a plain rename, through any number of starts, and with what an earlier version wrote not", () => {
    const renames: ReadonlyArray<Step> = [
      { _tag: "Rows" },
      { _tag: "Rename", at: 1, name: "c" },
      { _tag: "Rows" },
      { _tag: "Start" },
      { _tag: "Rename", at: 1, name: "d" },
      { _tag: "Start" },
      { _tag: "Rename", at: 1, name: "a" }
    ]
    assert.deepStrictEqual(walk(renames), { read: 6, renamed: 4, copies: 0 })
    const before = originOf([at(1, "id"), at(2, "a")], 2)
    const { former: _, ...earlier } = before
    const now = originOf([at(1, "id"), at(2, "b")], 2)
    assert.isUndefined(TableOrigin.conflict(TableOrigin.format(before), now))
    assert.isDefined(TableOrigin.conflict(TableOrigin.format({ ...earlier, former: undefined }), now))
    assert.isDefined(TableOrigin.conflict(TableOrigin.format(before), { ...now, whole: true }))
  })
})

describe("TypeWidening", () => {
  const varchar = (length: number) => ({ typeOid: 1043, typmod: length + 4 })
  const text = { typeOid: 25, typmod: -1 }
  const numeric = (precision: number, scale: number) => ({
    typeOid: 1700,
    typmod: (precision << 16 | (scale & 0x7ff)) + 4
  })
  const anyNumeric = { typeOid: 1700, typmod: -1 }
  const timestamp = (places: number) => ({ typeOid: 1114, typmod: places })

  it("takes longer text, more digits at the same scale and more places of a second, and nothing else", () => {
    assert.deepStrictEqual(
      [
        [varchar(10), varchar(20)],
        [varchar(10), text],
        [text, { typeOid: 1043, typmod: -1 }],
        [numeric(10, 2), numeric(12, 2)],
        [numeric(10, -3), numeric(12, -3)],
        [numeric(10, 2), anyNumeric],
        [timestamp(3), timestamp(-1)]
      ].map(([before = text, now = text]) => isWidening(before, now)),
      Array.from({ length: 7 }, () => true)
    )
    assert.deepStrictEqual(
      [
        [varchar(20), varchar(10)],
        [text, varchar(10)],
        [numeric(12, 2), numeric(10, 2)],
        [numeric(10, 2), numeric(12, 4)],
        [numeric(10, 3), numeric(12, -3)],
        [anyNumeric, numeric(38, 10)],
        [timestamp(-1), timestamp(3)],
        [{ typeOid: 23, typmod: -1 }, { typeOid: 20, typmod: -1 }],
        [{ typeOid: 1042, typmod: 14 }, text],
        [{ typeOid: 1114, typmod: -1 }, { typeOid: 1184, typmod: -1 }]
      ].map(([before = text, now = text]) => isWidening(before, now)),
      Array.from({ length: 10 }, () => false)
    )
  })
})
