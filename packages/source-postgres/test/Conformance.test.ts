/**
 * The source on a real server, by the kit's suite: connections go through a proxy that cuts them.
 */
import type { TableName } from "@etl-stream/core/TableSchema"
import * as Conformance from "@etl-stream/testkit/Conformance"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as FaultProxy from "@etl-stream/testkit/FaultProxy"
import * as SourceConformance from "@etl-stream/testkit/SourceConformance"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { afterAll, beforeAll, describe, it, vi } from "vitest"
import { plugin } from "../src/index.ts"
import * as Sql from "../src/Sql.ts"

const text = (value: string | null): string => value === null ? "NULL" : `'${value.replaceAll("'", "''")}'`

/** One change as SQL. A note is stored beside its row, so that updates which leave it alone don't send it. */
const statement = (table: string, change: SourceConformance.Change): string => {
  switch (change._tag) {
    case "Insert":
      return `INSERT INTO ${table} (id, note) VALUES ${
        change.rows.map(({ id, note }) => `(${id}, ${text(note)})`).join()
      }`
    case "Update":
      return change.rows.map(({ id, note }) => `UPDATE ${table} SET note = ${text(note)} WHERE id = ${id}`).join(";")
    case "Touch":
      return `UPDATE ${table} SET touched = touched + 1 WHERE id IN (${change.ids.join()})`
    case "Rekey":
      return `UPDATE ${table} SET id = ${change.to} WHERE id = ${change.from}`
    case "Delete":
      return `DELETE FROM ${table} WHERE id IN (${change.ids.join()})`
    case "Truncate":
      return `TRUNCATE ${table}`
    case "AddColumn":
      return `ALTER TABLE ${table} ADD COLUMN ${Sql.identifier(change.name)} text`
    case "SetColumn":
      return change.rows.map(({ id, value }) =>
        `UPDATE ${table} SET ${Sql.identifier(change.name)} = ${text(value)} WHERE id = ${id}`
      ).join(";")
    case "RenameColumn":
      return `ALTER TABLE ${table} RENAME COLUMN ${Sql.identifier(change.from)} TO ${Sql.identifier(change.to)}`
    case "DropColumn":
      return `ALTER TABLE ${table} DROP COLUMN ${Sql.identifier(change.name)}`
  }
}

vi.setConfig({ testTimeout: 120_000 })

const scope = Effect.runSync(Scope.make())
let server: EmbeddedPostgres.EmbeddedPostgres | undefined
let proxy: FaultProxy.FaultProxy | undefined
let places = 0

/** A schema with two tables, read through the proxy. Its slot and publication are gone in the end. */
const prepare = Effect.gen(function*() {
  if (server === undefined || proxy === undefined) return yield* Effect.die(new Error("The server isn't started"))
  const { database, password, query, user } = server
  const { cut, cutAnswer, host, port } = proxy
  const pipeline = `conformance_${++places}`
  const create = (name: string) =>
    Effect.as(
      query(
        `CREATE TABLE ${pipeline}.${
          Sql.identifier(name)
        } (id int PRIMARY KEY, note text, touched int NOT NULL DEFAULT 0);
         ALTER TABLE ${pipeline}.${Sql.identifier(name)} ALTER COLUMN note SET STORAGE EXTERNAL`
      ),
      { schema: pipeline, name } satisfies TableName
    )
  yield* query(`CREATE SCHEMA ${pipeline}`)
  yield* Effect.addFinalizer(() =>
    query(
      `DROP SCHEMA ${pipeline} CASCADE; DROP PUBLICATION IF EXISTS ${pipeline};
       SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '${pipeline}'`
    ).pipe(
      // The server notices a little later that a connection is gone.
      Effect.retry({ schedule: Schedule.spaced("20 millis"), times: 250 }),
      Effect.orDie
    )
  )
  const world: SourceConformance.World = {
    options: {
      url: `postgres://${user}:${password}@${host}:${port}/${database}`,
      tables: [`${pipeline}.*`],
      heartbeat: { every: "500 millis" },
      snapshot: { chunkBytes: 8192, fetchRows: 8 }
    },
    pipeline,
    tables: [yield* create("first"), yield* create("second")],
    change: (table, changes) => query(changes.map((change) => statement(Sql.table(table), change)).join(";")),
    rows: (table) =>
      Effect.map(
        query(`SELECT id, note FROM ${Sql.table(table)}`),
        (rows) => rows.map(({ id, note }) => ({ id: Number(id), note: typeof note === "string" ? note : null }))
      ),
    addTable: create,
    cut: (pieces) => pieces === 0 ? cut : cutAnswer(pieces)
  }
  return world
})

const secret = "kit-secret-password"

const suite = SourceConformance.make({
  plugin,
  prepare,
  refused: [
    {
      what: "a table's name is none",
      options: { url: "postgres://localhost/db", tables: ["orders"] },
      path: "tables.0"
    },
    {
      what: "an option is misspelt",
      options: { url: "postgres://localhost/db", tabels: ["public.*"] },
      path: "tabels"
    },
    {
      what: "a slot can't have the name",
      options: { url: "postgres://localhost/db", slot: { name: "A-B" } },
      path: "slot.name"
    },
    {
      what: "there are no copies",
      options: { url: "postgres://localhost/db", snapshot: { parallel: 0 } },
      path: "snapshot.parallel"
    }
  ],
  useless: [
    {
      what: "nothing listens there",
      options: () => ({ url: `postgres://postgres:${secret}@127.0.0.1:1/postgres` }),
      reason: "Unreachable"
    },
    {
      what: "the password is wrong",
      options: () => ({ url: `postgres://postgres:${secret}@127.0.0.1:${server?.port}/postgres` }),
      reason: "Unauthorized"
    },
    {
      what: "there is no such database",
      options: () => ({ url: `postgres://postgres:${server?.password}@127.0.0.1:${server?.port}/nowhere` }),
      reason: "Missing"
    }
  ],
  secrets: [secret],
  // A restart takes a tenth of a second and more.
  restarts: 12
})

beforeAll(() =>
  Effect.runPromise(
    Effect.gen(function*() {
      server = yield* EmbeddedPostgres.start()
      proxy = yield* FaultProxy.start({ host: server.host, port: server.port })
    }).pipe(Scope.provide(scope))
  )
)

afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register(suite, { describe, it, skip: it.skip })
