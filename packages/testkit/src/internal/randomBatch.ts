/**
 * Tables of every form, and batches of them from seeds: every operation, NULLs, values that were not sent, values at the ends of their types.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import * as LogicalType from "@etl-stream/core/LogicalType"
import type { ColumnSchema, Identity, TableSchema } from "@etl-stream/core/TableSchema"
import * as RowBatch from "../RowBatch.ts"
import type { Chance } from "./chance.ts"

/** Is in texts of the kit's rows, so that they can be recognised where they don't belong. */
export const marker = "kitvalue"

const columnOf = (name: string, type: LogicalType.LogicalType): ColumnSchema => ({
  name,
  type,
  sourceType: type._tag.toLowerCase(),
  nullable: true,
  id: `conformance/${name}`
})

const everyType: ReadonlyArray<ColumnSchema> = [
  columnOf("id", { _tag: "Int64" }),
  columnOf("flag", { _tag: "Boolean" }),
  columnOf("small", { _tag: "Int16" }),
  columnOf("medium", { _tag: "Int32" }),
  columnOf("large", { _tag: "Int64" }),
  columnOf("real", { _tag: "Float32" }),
  columnOf("double", { _tag: "Float64" }),
  columnOf("amount", { _tag: "Decimal", precision: 12, scale: 2 }),
  columnOf("unbounded", { _tag: "Decimal", precision: undefined, scale: undefined }),
  columnOf("text", { _tag: "Text", maxLength: undefined }),
  columnOf("code", { _tag: "Text", maxLength: 40 }),
  columnOf("bytes", { _tag: "Binary" }),
  columnOf("uuid", { _tag: "Uuid" }),
  columnOf("day", { _tag: "Date" }),
  columnOf("time", { _tag: "Time" }),
  columnOf("at", { _tag: "Timestamp", utc: true }),
  columnOf("local at", { _tag: "Timestamp", utc: false }),
  columnOf("Doc", { _tag: "Json" }),
  columnOf("list", { _tag: "Array", element: { _tag: "Int32" } }),
  columnOf("span", { _tag: "Interval" }),
  columnOf("\"odd\".Näme", { _tag: "Other" })
]

const table = (
  name: string,
  columns: ReadonlyArray<ColumnSchema>,
  identity: Identity
): TableSchema => ({
  table: { schema: "conformance", name },
  version: 3,
  columns,
  identity,
  origin: `origin of ${name}`
})

/** Tables of the kit's own: keyed, by two columns, by the whole row, without identity, and with more columns than a mask's first bytes have room for. */
export const tables: ReadonlyArray<TableSchema> = [
  table("every_type", everyType, { _tag: "Key", columns: [0] }),
  table("Two \"keys\"", [...everyType].reverse(), { _tag: "Key", columns: [20, 8] }),
  table("keyless", everyType, { _tag: "Full" }),
  table("log", everyType, { _tag: "None" }),
  table(
    "wide",
    Array.from(
      { length: 70 },
      (_, index) => columnOf(`c${index}`, index % 3 === 0 ? { _tag: "Text", maxLength: undefined } : { _tag: "Int32" })
    ),
    { _tag: "Key", columns: [1] }
  )
]

/** The table after it has got a column and another version. */
export const evolved = (before: TableSchema): TableSchema => ({
  ...before,
  version: before.version + 1,
  columns: [...before.columns, columnOf("added later", { _tag: "Text", maxLength: undefined })]
})

const digits = (chance: Chance, count: number): string =>
  Array.from({ length: count }, () => String(chance.below(10))).join("")

const wide = (chance: Chance): bigint => (BigInt(chance.below(2 ** 31)) << 32n) | BigInt(chance.below(2 ** 31))

const pad = (value: number): string => String(value).padStart(2, "0")

/** A value of a type, often one that is hard. */
export const valueOf = (type: LogicalType.LogicalType, chance: Chance): RowBatch.Value => {
  switch (type._tag) {
    case "Boolean":
      return chance.often(0.5)
    case "Int16":
      return chance.pick(chance.below(65_536) - 32_768, 0, 32_767, -32_768)
    case "Int32":
      return chance.pick(chance.below(2 ** 31), 0, -1, 0x7fffffff, -0x80000000)
    case "Int64":
      return chance.pick(wide(chance), 0n, 2n ** 63n - 1n, -(2n ** 63n), -wide(chance))
    case "Float32":
      return Math.fround(chance.pick(chance.next() * 1e6, -0, Number.NaN, Infinity, -Infinity, 1e-45))
    case "Float64":
      return chance.pick(chance.next() * 1e12, -0, Number.NaN, Infinity, -Infinity, 5e-324)
    case "Decimal":
      return type.precision === undefined
        ? chance.pick(
          `${digits(chance, 1)}.${digits(chance, 30)}`,
          "NaN",
          "Infinity",
          "-Infinity",
          "0",
          `-${1 + chance.below(9)}${digits(chance, 50)}`
        )
        : chance.pick(
          `${1 + chance.below(9)}${digits(chance, 3)}.${digits(chance, type.scale ?? 0) || "0"}`,
          "NaN",
          "-0.01",
          "0.00"
        )
    case "Text": {
      const text = chance.pick(
        `${marker} ${wide(chance)}`,
        "",
        `${marker} äöü 🌊 \u0000 \r\n\t"'\\`,
        `${marker} ${"x".repeat(chance.below(300))}`,
        `${marker}@example.com`
      )
      return type.maxLength === undefined ? text : [...text].slice(0, type.maxLength).join("")
    }
    case "Binary":
      return Uint8Array.from({ length: chance.below(40) }, () => chance.below(256))
    case "Uuid": {
      const hex = Array.from({ length: 32 }, () => chance.below(16).toString(16)).join("")
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
    }
    case "Date":
      return chance.pick(
        chance.below(40_000) - 10_000,
        LogicalType.dateInfinity,
        LogicalType.dateNegativeInfinity,
        -719_163
      )
    case "Time":
      return chance.pick(BigInt(chance.below(86_400)) * 1_000_000n + 123_456n, 0n, 86_400_000_000n)
    case "Timestamp":
      return chance.pick(
        BigInt(chance.below(2 ** 31)) * 1_000_000n + 654_321n,
        LogicalType.timestampInfinity,
        LogicalType.timestampNegativeInfinity,
        -62_135_596_800_000_000n - 1n
      )
    case "Json":
      return chance.pick(
        JSON.stringify({ [marker]: chance.below(1000), nested: { list: [1, null, "ä"], empty: {} } }),
        "null",
        `"${marker}"`,
        "[]",
        "12345678901234567890.10"
      )
    case "Array":
      return chance.pick(`{${chance.below(100)},NULL,${chance.below(100)}}`, "{}", "[0:1]={1,2}", "{{1,2},{3,4}}")
    case "Interval":
      return chance.pick(`${chance.below(100)} days 01:02:${pad(chance.below(60))}`, "00:00:00", "-1 mons +2 days")
    case "Other":
      return `${marker}(${chance.below(1000)})`
  }
}

/** Values for columns of these names, where not every value of their type will do. */
export type Values = Readonly<Record<string, ReadonlyArray<RowBatch.Value>>>

export const columnValue = ({ name, type }: ColumnSchema, chance: Chance, values: Values): RowBatch.Value => {
  const [first, ...others] = (Object.hasOwn(values, name) ? values[name] : undefined) ?? []
  return first === undefined ? valueOf(type, chance) : chance.pick(first, ...others)
}

export interface Shape {
  readonly rows: number
  /** How often a value is NULL, and how often one that may be is not sent. */
  readonly nulls: number
  readonly unsent: number
  /** Rows of a copy, instead of changes. */
  readonly copy?: boolean
}

const isKey = ({ identity }: TableSchema, index: number): boolean =>
  identity._tag === "Key" && identity.columns.includes(index)

/** A whole row; each column that may be NULL sometimes is. */
const whole = (of: TableSchema, chance: Chance, values: Values, nulls: number): Record<string, RowBatch.Value> =>
  Object.fromEntries(
    of.columns.map((column, index) => [
      column.name,
      !isKey(of, index) && chance.often(nulls) ? null : columnValue(column, chance, values)
    ])
  )

/** The row as a delete sends it: of a table with a key the key, everything else NULL. */
const oldIdentity = (of: TableSchema, row: Record<string, RowBatch.Value>): Record<string, RowBatch.Value> =>
  of.identity._tag === "Key"
    ? Object.fromEntries(
      of.columns.map(({ name }, index) => [name, isKey(of, index) ? row[name] ?? null : null])
    )
    : row

const withoutSome = (
  of: TableSchema,
  chance: Chance,
  row: Record<string, RowBatch.Value>,
  share: number
): Record<string, RowBatch.Value> =>
  Object.fromEntries(
    of.columns.flatMap(({ name }, index) => !isKey(of, index) && chance.often(share) ? [] : [[name, row[name] ?? null]])
  )

/** Rows of a table, in the order of their sequence, changes of keys in pairs. */
export const rows = (
  of: TableSchema,
  chance: Chance,
  shape: Shape,
  values: Values = {}
): ReadonlyArray<RowBatch.Row> => {
  const made: Array<RowBatch.Row> = []
  let commit = BigInt(1000 + chance.below(1000))
  let ordinal = 0n
  while (made.length < shape.rows) {
    const row = whole(of, chance, values, shape.nulls)
    if (shape.copy === true) {
      made.push({ op: "Read", commit, values: row })
      continue
    }
    if (chance.often(0.3)) {
      commit += BigInt(1 + chance.below(100))
      ordinal = BigInt(chance.below(3))
    }
    const at = () => ({ commit, ordinal: ordinal++, commitTime: commit * 1_000_000n })
    const tag = of.identity._tag
    const kind = tag === "None"
      ? "Insert"
      : chance.pick("Insert", "Update", "Delete", "Pair", "Insert", "Update")
    if (kind === "Insert") made.push({ op: "Insert", ...at(), values: row })
    else if (kind === "Delete") made.push({ op: "Delete", ...at(), values: oldIdentity(of, row) })
    else if (kind === "Update" && tag === "Key") {
      made.push({ op: "Update", ...at(), values: withoutSome(of, chance, row, shape.unsent) })
    } else {
      made.push({ op: "KeyChangeOld", ...at(), values: oldIdentity(of, whole(of, chance, values, shape.nulls)) })
      made.push({ op: "KeyChangeNew", ...at(), values: withoutSome(of, chance, row, shape.unsent) })
    }
  }
  return made
}

/** Shapes for one seed after the other. */
export const shapeOf = (chance: Chance): Shape => ({
  rows: chance.pick(1, 2 + chance.below(20), 8, 64, 100 + chance.below(200)),
  nulls: chance.pick(0, 0.2, 0.9, 1),
  unsent: chance.pick(0, 0.3, 0.9),
  copy: chance.often(0.25)
})

export const batch = (of: TableSchema, chance: Chance, shape: Shape, values: Values = {}): ChangeBatch =>
  RowBatch.make(of, rows(of, chance, shape, values))
