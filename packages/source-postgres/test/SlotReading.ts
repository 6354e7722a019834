/**
 * Reads what happened in a server through two slots, one that streams transactions in progress and one that doesn't, and compares.
 */
import { assert } from "@effect/vitest"
import type { Element } from "@etl-stream/core/Element"
import * as Lsn from "@etl-stream/source-postgres/Lsn"
import * as PgOutputDecoder from "@etl-stream/source-postgres/PgOutputDecoder"
import * as PostgresType from "@etl-stream/source-postgres/PostgresType"
import * as ReplicationConnection from "@etl-stream/source-postgres/ReplicationConnection"
import * as StreamedTransactions from "@etl-stream/source-postgres/StreamedTransactions"
import type * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Client } from "pg"
import { linesOf } from "./elementLines.ts"

export type Postgres = EmbeddedPostgres.EmbeddedPostgres

export const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "etl-stream-spool-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const diskLimit = 1024 ** 3

/** A session of its own, for transactions that stay open. */
export const session = (pg: Postgres) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({ connectionString: pg.url })
      client.on("error", () => undefined)
      await client.connect()
      return {
        run: (sql: string) => Effect.promise(() => client.query(sql)),
        end: () => client.end().catch(() => undefined)
      }
    }),
    ({ end }) => Effect.promise(end)
  )

export const positionNow = (pg: Postgres) =>
  Effect.map(
    pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn"),
    ([row]) => Lsn.parse(String(row?.["lsn"])) ?? 0n
  )

/** Two slots on one publication of everything that is there. */
export const prepare = Effect.fnUntraced(function*(pg: Postgres, name: string, tables: ReadonlyArray<string>) {
  yield* pg.query(`CREATE PUBLICATION ${name} FOR TABLE ${tables.join(", ")}`)
  for (const slot of [`${name}_on`, `${name}_off`]) {
    yield* pg.query(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`)
  }
})

const decoder = () =>
  PgOutputDecoder.make({
    tables: [],
    copied: new Map(),
    resolveRelation: (relation) => ({
      table: { schema: relation.schema, name: relation.name },
      version: 1,
      columns: relation.columns.map((column) => ({
        name: column.name,
        ...PostgresType.resolve(PostgresType.emptyCatalog, column.typeOid, column.typmod),
        nullable: true
      })),
      identity: relation.replicaIdentity === "f"
        ? { _tag: "Full" }
        : { _tag: "Key", columns: relation.columns.flatMap(({ key }, index) => key ? [index] : []) }
    })
  })

export interface Reading {
  /** Lines per table, with the barriers between its rows. */
  readonly tables: Readonly<Record<string, ReadonlyArray<string>>>
  readonly messages: ReadonlyArray<string>
  /** Most that transactions in progress took on disk. */
  readonly spooled: number
  readonly files: ReadonlyArray<string>
}

const collect = (
  elements: ReadonlyArray<Element>,
  tables: Map<string, Array<string>>,
  messages: Array<string>
): void => {
  const say = (table: string, lines: ReadonlyArray<string>) => {
    const list = tables.get(table) ?? []
    for (const line of lines) list.push(line)
    tables.set(table, list)
  }
  for (const element of elements) {
    switch (element._tag) {
      case "Rows":
        say(element.batch.table.table.name, linesOf(element))
        break
      case "Truncate":
        say(element.table.table.name, linesOf(element))
        break
      case "Schema":
        say(element.table.table.name, [
          `Schema ${element.sequence.commit}/${element.sequence.ordinal} ${
            element.table.columns.map(({ name }) => name).join()
          }`
        ])
        break
      case "Message":
        messages.push(
          `${element.prefix} ${element.sequence.commit}/${element.sequence.ordinal} ${
            Buffer.from(element.content).toString()
          }`
        )
        break
      default:
    }
  }
}

export interface ReadOptions {
  readonly streaming: boolean
  readonly folder?: string
  readonly immediate?: boolean
}

/** Reads a slot up to `target`, from wherever it is, and confirms nothing. */
export const read = Effect.fnUntraced(function*(pg: Postgres, name: string, target: bigint, options: ReadOptions) {
  const folder = options.folder ?? (yield* temporaryFolder)
  const slot = `${name}_${options.streaming ? "on" : "off"}`
  return yield* Effect.scoped(Effect.gen(function*() {
    const connection = yield* ReplicationConnection.connect({
      host: pg.host,
      port: pg.port,
      user: pg.user,
      password: pg.password,
      database: pg.database,
      ...(options.immediate === true ? { options: "-c debug_logical_replication_streaming=immediate" } : {})
    })
    const wal = yield* connection.start({
      slot,
      publications: [name],
      messages: true,
      acknowledged: () => 0n,
      streaming: options.streaming
    })
    const stage = options.streaming
      ? yield* StreamedTransactions.make(wal.pull, { directory: folder, diskLimit })
      : { pull: wal.pull, spooled: () => 0 }
    const decoding = decoder()
    const tables = new Map<string, Array<string>>()
    const messages: Array<string> = []
    let spooled = 0
    for (;;) {
      const elements = yield* decoding.decode(yield* stage.pull)
      spooled = Math.max(spooled, stage.spooled())
      collect(elements, tables, messages)
      if (elements.some((element) => element._tag === "Watermark" && element.position >= target)) {
        const reading: Reading = {
          tables: Object.fromEntries(tables),
          messages,
          spooled,
          files: options.streaming ? fs.readdirSync(folder) : []
        }
        return reading
      }
    }
  }))
})

/** Reads both slots and compares; the changes must have been streamed. */
export const same = Effect.fnUntraced(function*(pg: Postgres, name: string, options: Partial<ReadOptions> = {}) {
  const target = yield* positionNow(pg)
  const off = yield* read(pg, name, target, { streaming: false })
  const on = yield* read(pg, name, target, { ...options, streaming: true })
  assert.isAbove(on.spooled, 0, "nothing was streamed")
  assert.deepStrictEqual(Object.keys(on.tables).sort(), Object.keys(off.tables).sort())
  for (const [table, lines] of Object.entries(off.tables)) {
    const actual = on.tables[table] ?? []
    lines.forEach((line, index) => assert.strictEqual(actual[index], line, `${table}, line ${index}`))
    assert.strictEqual(actual.length, lines.length, table)
  }
  assert.deepStrictEqual([...on.messages].sort(), [...off.messages].sort())
  return { off, on }
})
