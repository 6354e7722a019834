/**
 * Asks the warehouse of a demo that is running: `npm run demo -- --query <folder> "SELECT …"`.
 */
import * as SnowflakeSession from "@etl-stream/testkit/SnowflakeSession"
import type { Warehouse } from "@etl-stream/testkit/Warehouse"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { readFileSync, writeFileSync } from "node:fs"
import * as path from "node:path"

const Connection = Schema.fromJsonString(Schema.Struct({
  account: Schema.String,
  url: Schema.String,
  user: Schema.String,
  role: Schema.String,
  warehouse: Schema.String,
  database: Schema.String,
  privateKeyFile: Schema.String
}))

const fileIn = (folder: string): string => path.join(folder, "warehouse.json")

/** Leaves in `folder` what `run` needs to connect. */
export const remember = (folder: string, warehouse: Warehouse): void => {
  const { account, database, privateKeyFile, role, url, user, warehouse: name } = warehouse
  writeFileSync(
    fileIn(folder),
    Schema.encodeSync(Connection)({ account, database, privateKeyFile, role, url, user, warehouse: name })
  )
}

/** A query that is worth a try in the shop. */
export const suggestion = (database: string, schema: string): string =>
  `SELECT status, COUNT(*) AS orders, SUM(total) AS total FROM ${database}.${schema}.ORDERS GROUP BY status ORDER BY status`

/** Rows as lines with their columns aligned. */
export const format = (rows: ReadonlyArray<SnowflakeSession.Row>): ReadonlyArray<string> => {
  const cells = rows.map((row) => row.map((value) => value ?? "NULL"))
  const widths = cells.reduce<ReadonlyArray<number>>(
    (widest, row) => row.map((value, column) => Math.max(value.length, widest[column] ?? 0)),
    []
  )
  return cells.map((row) => row.map((value, column) => value.padEnd(widths[column] ?? 0)).join("   ").trimEnd())
}

export const run = (
  folder: string,
  sql: string
): Effect.Effect<ReadonlyArray<string>, SnowflakeSession.SnowflakeSessionError> =>
  Effect.gen(function*() {
    const { privateKeyFile, ...connection } = yield* Effect.try({
      try: () => Schema.decodeUnknownSync(Connection)(readFileSync(fileIn(folder), "utf8")),
      catch: (cause) =>
        new SnowflakeSession.SnowflakeSessionError({ message: `${folder} is not the folder of a running demo`, cause })
    })
    const privateKey = Redacted.make(readFileSync(privateKeyFile, "utf8"))
    const session = yield* SnowflakeSession.open({ ...connection, privateKey })
    return format(yield* session.query(sql))
  }).pipe(Effect.scoped)
