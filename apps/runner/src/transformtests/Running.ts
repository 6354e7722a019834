/**
 * Runs one test of a pipeline's transforms: what comes of what is given, compared with what is expected.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { misfit } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as LogicalTypeText from "@etl-stream/core/LogicalTypeText"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import type { Transform } from "@etl-stream/core/Transform"
import * as Effect from "effect/Effect"
import { isDeepStrictEqual } from "node:util"
import { isConnectorError } from "../CommandError.ts"
import * as Changes from "./Changes.ts"
import type { Expected, Test } from "./TestFile.ts"

/** Something that isn't as it is expected. */
export interface Difference {
  /** What it is about: `the table`, `change 2`. */
  readonly about: string
  readonly expected: string
  readonly found: string
}

/** What came of a table and its changes. */
type Outcome =
  | { readonly _tag: "LeftOut" }
  | { readonly _tag: "Refused"; readonly error: ConnectorError }
  | { readonly _tag: "Through"; readonly table: TableSchema; readonly rows: ReadonlyArray<Changes.Row> }

const misfits = (table: TableSchema, found: ChangeBatch.ChangeBatch): string | undefined =>
  isDeepStrictEqual(Changes.shape(table), Changes.shape(found.table))
    ? misfit(found)
    : "The batch has another table than the transform's schema says"

const outcome = Effect.fnUntraced(
  function*(transforms: ReadonlyArray<Transform>, given: TableSchema, batch: ChangeBatch.ChangeBatch | undefined) {
    let table: TableSchema = given
    const schemas: Array<TableSchema> = []
    for (const { schema } of transforms) {
      const next = yield* schema(table)
      if (next === undefined) return { _tag: "LeftOut" } as const
      schemas.push(next)
      table = next
    }
    let left = batch
    for (const [index, { apply }] of transforms.entries()) {
      if (left === undefined) break
      left = yield* apply(left)
      const wrong = left === undefined ? undefined : misfits(schemas[index] ?? table, left)
      if (wrong !== undefined) {
        return yield* Effect.die(new Error(`The transform ${index + 1} doesn't keep to its schema: ${wrong}`))
      }
    }
    return { _tag: "Through", table, rows: left === undefined ? [] : Changes.rows(left) } as const
  }
)

const json = (value: unknown): string => JSON.stringify(value)

const rowText = ({ operation, unsent, values }: Changes.Row): string =>
  `${operation} ${json(values)}${unsent.length === 0 ? "" : ` unsent ${json(unsent)}`}`

const told = (found: Outcome): string => {
  switch (found._tag) {
    case "LeftOut":
      return "the table is left out"
    case "Refused":
      return `the error "${found.error.message}"`
    case "Through":
      return `the table ${Changes.shape(found.table).table} with ${found.rows.length} changes`
  }
}

const typesOf = (columns: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(columns).map(([name, text]) => {
      const type = LogicalTypeText.parse(text.replace(/\s+not null$/, ""))
      return [name, type === undefined ? text : LogicalTypeText.format(type)]
    })
  )

/** What of the table isn't as expected. Order of columns counts. */
const tableDifferences = (expected: Expected, table: TableSchema): ReadonlyArray<Difference> => {
  const shape = Changes.shape(table)
  const pairs: ReadonlyArray<readonly [string, unknown, unknown]> = [
    ["the table's name", expected.table, shape.table],
    [
      "the columns",
      expected.columns === undefined ? undefined : Object.entries(typesOf(expected.columns)),
      Object.entries(shape.columns)
    ],
    ["the key", expected.key, shape.key]
  ]
  return pairs.flatMap(([about, wanted, found]) =>
    wanted === undefined || isDeepStrictEqual(wanted, found)
      ? []
      : [{ about, expected: json(wanted), found: json(found) }]
  )
}

const rowDifferences = Effect.fnUntraced(function*(expected: Expected, through: Extract<Outcome, { _tag: "Through" }>) {
  if (expected.changes === undefined) return []
  // Through the same columns, so that 1 and "1" are the same in a column of integers.
  const batch = yield* Changes.batch(through.table, expected.changes)
  const wanted = batch === undefined ? [] : Changes.rows(batch)
  const count = Math.max(wanted.length, through.rows.length)
  return Array.from({ length: count }, (_, index) => ({ index, wanted: wanted[index], found: through.rows[index] }))
    .flatMap(
      ({ found, index, wanted }): ReadonlyArray<Difference> =>
        isDeepStrictEqual(wanted, found) ? [] : [{
          about: `change ${index + 1}`,
          expected: wanted === undefined ? "nothing" : rowText(wanted),
          found: found === undefined ? "nothing" : rowText(found)
        }]
    )
})

const differences = Effect.fnUntraced(function*(expected: Expected, found: Outcome) {
  const other = (
    wanted: string
  ): ReadonlyArray<Difference> => [{ about: "the outcome", expected: wanted, found: told(found) }]
  if (expected.leftOut !== undefined) return found._tag === "LeftOut" ? [] : other("the table is left out")
  if (expected.error !== undefined) {
    return found._tag === "Refused" && found.error.message.includes(expected.error)
      ? []
      : other(`an error with "${expected.error}"`)
  }
  return found._tag === "Through"
    ? [...tableDifferences(expected, found.table), ...(yield* rowDifferences(expected, found))]
    : other("the table comes through")
})

/** All that isn't as expected; nothing: the test passes. Fails when the test itself can't be as it is written. */
export const run = Effect.fnUntraced(function*(
  test: Test,
  transforms: ReadonlyArray<Transform>
): Effect.fn.Return<ReadonlyArray<Difference>, Changes.Mistake> {
  const within = (part: "given" | "expect") => (mistake: Changes.Mistake): Changes.Mistake => ({
    ...mistake,
    path: [part, ...mistake.path]
  })
  const table = yield* Effect.mapError(Changes.tableOf(test.given), within("given"))
  const batch = yield* Effect.mapError(Changes.batch(table, test.given.changes), within("given"))
  const found: Outcome = yield* outcome(transforms, table, batch).pipe(
    Effect.catchIf(isConnectorError, (error) => Effect.succeed({ _tag: "Refused", error } as const))
  )
  return yield* Effect.mapError(differences(test.expect, found), within("expect"))
})
