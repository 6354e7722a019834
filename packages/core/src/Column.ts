/**
 * Columns of a table as code declares them, and the type that their values have in JavaScript: what row-wise sources, transforms and sinks are checked by.
 *
 * ```ts
 * const columns = { id: Column.int64(), total: Column.decimal(12, 2), note: Column.text().nullable }
 * type Order = Column.Row<typeof columns> // { id: bigint, total: string, note: string | null }
 * ```
 *
 * | column | value | |
 * | --- | --- | --- |
 * | `boolean` | `boolean` | |
 * | `int16`, `int32` | `number` | an integer in range |
 * | `int64` | `bigint` | |
 * | `float32`, `float64` | `number` | `NaN` and the infinities, too; to `float32` it is rounded |
 * | `decimal` | `string` | decimal text such as `-12.50`, never rounded; `NaN`, `Infinity` and `-Infinity` where no precision is declared |
 * | `text` | `string` | at most the declared number of characters |
 * | `binary` | `Uint8Array` | a view that is valid as long as its row is |
 * | `uuid` | `string` | 36 characters; upper case is taken and becomes lower case |
 * | `date` | `number` | days since 1970-01-01 (`days`) |
 * | `time` | `bigint` | microseconds since midnight |
 * | `timestamp`, `timestampUtc` | `bigint` | microseconds since 1970-01-01 (`microseconds`), without and with a time zone |
 * | `json` | `string` | JSON text |
 * | `array`, `interval`, `other` | `string` | the source's text |
 *
 * Dates and times are numbers because `Date` can't hold microseconds, infinities (`LogicalType.timestampInfinity`) or all years.
 */
import type { LogicalType } from "./LogicalType.ts"

/** What a column can hold, NULL aside. */
export type Value = boolean | number | bigint | string | Uint8Array

/**
 * A value that didn't come with its row: the target keeps what it has. Neither a value nor NULL. Being a symbol it disappears in `JSON.stringify`.
 */
export const notSent: unique symbol = Symbol.for("@etl-stream/core/notSent")
export type NotSent = typeof notSent

/** A column whose values have the type `A`. */
export class Column<out A extends Value | null> {
  /** The type of its values. Only the compiler knows it. */
  declare readonly Value: A
  readonly type: LogicalType
  /** What messages and type overrides call the type. */
  readonly sourceType: string
  readonly isNullable: boolean

  constructor(type: LogicalType, sourceType: string, isNullable = false) {
    this.type = type
    this.sourceType = sourceType
    this.isNullable = isNullable
  }

  /** The same column, in which values may be NULL. */
  get nullable(): Column<A | null> {
    return new Column<A | null>(this.type, this.sourceType, true)
  }

  /** The same column, which its source calls by another type. */
  called(sourceType: string): Column<A> {
    return new Column<A>(this.type, sourceType, this.isNullable)
  }
}

/** Columns by name, in order. */
export type Columns = Readonly<Record<string, Column<Value | null>>>

/** A whole row of such columns. */
export type Row<C extends Columns> = { readonly [Name in keyof C]: C[Name]["Value"] }

/** A row of which values may not have been sent. */
export type PartialRow<C extends Columns> = { readonly [Name in keyof C]: C[Name]["Value"] | NotSent }

export const boolean = (): Column<boolean> => new Column({ _tag: "Boolean" }, "boolean")
export const int16 = (): Column<number> => new Column({ _tag: "Int16" }, "int16")
export const int32 = (): Column<number> => new Column({ _tag: "Int32" }, "int32")
export const int64 = (): Column<bigint> => new Column({ _tag: "Int64" }, "int64")
export const float32 = (): Column<number> => new Column({ _tag: "Float32" }, "float32")
export const float64 = (): Column<number> => new Column({ _tag: "Float64" }, "float64")

/** Of `precision` digits, of which `scale` are behind the point; without both, of any. */
export const decimal = (precision?: number, scale = 0): Column<string> =>
  precision === undefined
    ? new Column({ _tag: "Decimal", precision: undefined, scale: undefined }, "decimal")
    : new Column({ _tag: "Decimal", precision, scale }, `decimal(${precision},${scale})`)

/** Of at most `maxLength` characters (code points); without it, of any length. */
export const text = (maxLength?: number): Column<string> =>
  new Column({ _tag: "Text", maxLength }, maxLength === undefined ? "text" : `text(${maxLength})`)

export const binary = (): Column<Uint8Array> => new Column({ _tag: "Binary" }, "binary")
export const uuid = (): Column<string> => new Column({ _tag: "Uuid" }, "uuid")
/** Days since 1970-01-01: see `days`. */
export const date = (): Column<number> => new Column({ _tag: "Date" }, "date")
/** Microseconds since midnight. */
export const time = (): Column<bigint> => new Column({ _tag: "Time" }, "time")
/** Microseconds since 1970-01-01 00:00 of a clock that is of no time zone. */
export const timestamp = (): Column<bigint> => new Column({ _tag: "Timestamp", utc: false }, "timestamp")
/** A moment: microseconds since 1970-01-01 00:00 UTC, see `microseconds`. */
export const timestampUtc = (): Column<bigint> => new Column({ _tag: "Timestamp", utc: true }, "timestamp utc")
/** JSON text: `JSON.stringify(value)`. */
export const json = (): Column<string> => new Column({ _tag: "Json" }, "json")
/** The source's array literal, of elements of the type of `element`. */
export const array = (element: Column<Value | null>): Column<string> =>
  new Column({ _tag: "Array", element: element.type }, `${element.sourceType}[]`)
export const interval = (): Column<string> => new Column({ _tag: "Interval" }, "interval")
/** The source's text of any other type. */
export const other = (sourceType: string): Column<string> => new Column({ _tag: "Other" }, sourceType)

const millisPerDay = 86_400_000

/** A moment as a `timestampUtc` has it. */
export const microseconds = (moment: Date): bigint => BigInt(moment.getTime()) * 1000n

/** The day of a moment in UTC, as a `date` has it. */
export const days = (moment: Date): number => Math.floor(moment.getTime() / millisPerDay)
