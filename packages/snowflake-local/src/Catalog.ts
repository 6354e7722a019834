/**
 * What exists: databases, schemas, and in them tables, views, stages and pipes, with Snowflake's own types and names.
 *
 * The records live in the `_local` schema of the DuckDB file, changed in the same transaction as the DuckDB tables that they describe, and are kept in
 * memory as well, so that a look-up costs nothing. Snowflake's DDL commits on its own, so nothing here is ever part of a session's transaction.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import { randomUUID } from "node:crypto"
import * as Identifier from "./sql/Identifier.ts"
import type { SnowflakeType } from "./sql/SnowflakeType.ts"
import * as Types from "./sql/SnowflakeType.ts"
import * as Storage from "./Storage.ts"

export interface Column {
  /** The Snowflake name, exactly. */
  readonly name: string
  readonly type: SnowflakeType
  readonly nullable: boolean
  /** Snowflake SQL of the DEFAULT, and what it is in DuckDB. */
  readonly default?: { readonly text: string; readonly sql: string } | undefined
  readonly comment?: string | undefined
  /** See `Collation`; undefined when text is compared exactly. */
  readonly collation?: string | undefined
  /** The column's name in DuckDB (not quoted); differs from `name` when that has lower-case letters. */
  readonly duckdbName: string
  readonly duckdbType: string
}

interface Named {
  readonly database: string
  readonly schema: string
  readonly name: string
  /** Changes when the object is created again under the same name. */
  readonly id: string
  readonly createdOn: number
  readonly comment?: string | undefined
  /** The role that owns it; SYSADMIN when it isn't told. */
  readonly owner?: string | undefined
}

export interface Table extends Named {
  readonly kind: "TABLE"
  readonly columns: ReadonlyArray<Column>
  readonly lifetime: "PERMANENT" | "TRANSIENT" | "TEMPORARY"
  readonly primaryKey: ReadonlyArray<string>
  /** Options such as ENABLE_SCHEMA_EVOLUTION, names in upper case. */
  readonly options: Readonly<Record<string, string>>
  /** The table's quoted, schema-qualified DuckDB name, ready for SQL. */
  readonly duckdb: string
}

export interface View extends Named {
  readonly kind: "VIEW"
  readonly text: string
  readonly columns: ReadonlyArray<Column>
  readonly duckdb: string
}

export interface Stage extends Named {
  readonly kind: "STAGE"
}

export interface Pipe extends Named {
  readonly kind: "PIPE"
  /** The table the pipe loads. */
  readonly target: { readonly database: string; readonly schema: string; readonly name: string }
  /** The text after `AS`, in Snowflake's SQL. */
  readonly copy: string
  /** CASE_SENSITIVE | CASE_INSENSITIVE | NONE. */
  readonly matchByColumnName: string
  /** Columns named in `COPY INTO t (…)`, when there are any. */
  readonly columns: ReadonlyArray<string>
  /** The SELECT between the parentheses of FROM, when the pipe transforms. */
  readonly select?: string | undefined
}

/** An append-only stream: whether its table got rows since it was last read is in `StreamLog`. */
export interface Stream extends Named {
  readonly kind: "STREAM"
  readonly table: { readonly database: string; readonly schema: string; readonly name: string; readonly id: string }
}

/** A standalone task on an interval. */
export interface Task extends Named {
  readonly kind: "TASK"
  readonly warehouse?: string | undefined
  /** As written, and what it means. */
  readonly schedule?: { readonly text: string; readonly seconds: number } | undefined
  readonly allowOverlap: boolean
  /** Session parameters of its runs. */
  readonly parameters: Readonly<Record<string, string>>
  /** Consecutive failures after which it is suspended; 0: never. */
  readonly suspendAfterFailures: number
  readonly timeoutMillis: number
  /** The text of WHEN. */
  readonly condition?: string | undefined
  readonly definition: string
  readonly state: "started" | "suspended"
}

export type CatalogObject = Table | View | Stage | Pipe | Stream | Task
/** Tables and views share one name space; every other kind has its own. */
type Space = "RELATION" | Exclude<CatalogObject["kind"], "TABLE" | "VIEW">

export interface DatabaseRecord {
  readonly name: string
  readonly createdOn: number
  readonly owner: string
  /** DEFAULT_DDL_COLLATION, when it is set here. */
  readonly collation?: string | undefined
}

export interface SchemaRecord extends DatabaseRecord {
  readonly database: string
}

/** Changes to the records, inside the transaction that changes DuckDB as well. */
export interface Changes {
  readonly connection: DuckDBConnection
  readonly now: number
  /** The owner is SYSADMIN unless another is given. */
  readonly putDatabase: (name: string, owner?: string) => Effect.Effect<void, Storage.StorageError>
  readonly removeDatabase: (name: string) => Effect.Effect<void, Storage.StorageError>
  readonly putSchema: (database: string, name: string, owner?: string) => Effect.Effect<void, Storage.StorageError>
  readonly removeSchema: (database: string, name: string) => Effect.Effect<void, Storage.StorageError>
  /** Sets DEFAULT_DDL_COLLATION of a schema, or of a database. */
  readonly setCollation: (
    database: string,
    schema: string | undefined,
    collation: string | undefined
  ) => Effect.Effect<void, Storage.StorageError>
  /** Adds an object or replaces the one of the same name. */
  readonly put: (object: CatalogObject) => Effect.Effect<void, Storage.StorageError>
  readonly remove: (object: CatalogObject) => Effect.Effect<void, Storage.StorageError>
}

const spaceOf = (kind: CatalogObject["kind"]): Space => kind === "TABLE" || kind === "VIEW" ? "RELATION" : kind
const keyOf = (space: Space, database: string, schema: string, name: string): string =>
  JSON.stringify([space, database, schema, name])

/** A column's record from its name and type. */
export const column = (
  name: string,
  type: SnowflakeType,
  rest: Partial<Pick<Column, "nullable" | "default" | "comment" | "collation">> = {}
): Column => ({
  name,
  type,
  nullable: rest.nullable ?? true,
  ...(rest.default === undefined ? {} : { default: rest.default }),
  ...(rest.comment === undefined ? {} : { comment: rest.comment }),
  ...(rest.collation === undefined ? {} : { collation: rest.collation }),
  duckdbName: Identifier.encode(name),
  duckdbType: Types.duckdbType(type)
})

const optional = (value: unknown): string | undefined => value === null ? undefined : String(value)

/** A fresh identity for a created object. */
export const newId = (): string => randomUUID()

export class Catalog extends Context.Service<Catalog, {
  readonly databases: () => ReadonlyArray<DatabaseRecord>
  readonly schemas: (database?: string) => ReadonlyArray<SchemaRecord>
  readonly hasDatabase: (name: string) => boolean
  readonly hasSchema: (database: string, name: string) => boolean
  readonly objects: () => ReadonlyArray<CatalogObject>
  /** A table or view. Names are Snowflake's, exactly (already folded). */
  readonly relation: (database: string, schema: string, name: string) => Table | View | undefined
  readonly stage: (database: string, schema: string, name: string) => Stage | undefined
  readonly pipe: (database: string, schema: string, name: string) => Pipe | undefined
  readonly stream: (database: string, schema: string, name: string) => Stream | undefined
  readonly task: (database: string, schema: string, name: string) => Task | undefined
  readonly tasks: () => ReadonlyArray<Task>
  /** The ids of the streams on a table. */
  readonly streamsOn: (tableId: string) => ReadonlyArray<string>
  /** The table with its id and quoted DuckDB name; none when there is no such table. */
  readonly tableOf: (database: string, schema: string, table: string) => Effect.Effect<Option.Option<Table>>
  /** The columns of a table; none when there is no such table. */
  readonly columnsOf: (
    database: string,
    schema: string,
    table: string
  ) => Effect.Effect<Option.Option<ReadonlyArray<Column>>>
  readonly pipeOf: (database: string, schema: string, pipe: string) => Effect.Effect<Option.Option<Pipe>>
  /**
   * Changes DuckDB and the records in one transaction, one such change at a time. `change` runs again after a write conflict, and must
   * therefore look up what it needs itself.
   */
  readonly change: <A, E, R>(
    change: (changes: Changes) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | Storage.StorageError, R>
}>()("@etl-stream/snowflake-local/Catalog") {
  static readonly layer: Layer.Layer<Catalog, Storage.StorageError, Storage.Storage> = Layer.effect(
    Catalog,
    Effect.gen(function*() {
      const storage = yield* Storage.Storage
      const databases = new Map<string, DatabaseRecord>()
      const schemas = new Map<string, SchemaRecord>()
      const objects = new Map<string, CatalogObject>()
      const oneAtATime = yield* Semaphore.make(1)

      yield* Effect.scoped(Effect.gen(function*() {
        const connection = yield* storage.connect
        for (
          const [name, at, owner, collation] of yield* Storage.rows(
            connection,
            `SELECT name, epoch_ms(created_on), owner, default_collation FROM "_local".databases`
          )
        ) {
          const record = {
            name: String(name),
            createdOn: Number(at),
            owner: String(owner),
            collation: optional(collation)
          }
          databases.set(record.name, record)
        }
        for (
          const [database, name, at, owner, collation] of yield* Storage.rows(
            connection,
            `SELECT database, name, epoch_ms(created_on), owner, default_collation FROM "_local".schemas`
          )
        ) {
          const record = {
            database: String(database),
            name: String(name),
            createdOn: Number(at),
            owner: String(owner),
            collation: optional(collation)
          }
          schemas.set(JSON.stringify([record.database, record.name]), record)
        }
        for (const [definition] of yield* Storage.rows(connection, `SELECT definition FROM "_local".objects`)) {
          // Written by `put` below and by nothing else.
          const object = JSON.parse(String(definition)) as CatalogObject
          objects.set(keyOf(spaceOf(object.kind), object.database, object.schema, object.name), object)
        }
      }))

      const relation = (database: string, schema: string, name: string) => {
        const found = objects.get(keyOf("RELATION", database, schema, name))
        return found?.kind === "TABLE" || found?.kind === "VIEW" ? found : undefined
      }
      const named =
        <K extends Exclude<Space, "RELATION">>(kind: K) => (database: string, schema: string, name: string) => {
          const found = objects.get(keyOf(kind, database, schema, name))
          // A space holds objects of its kind alone.
          return found as Extract<CatalogObject, { readonly kind: K }> | undefined
        }
      const pipe = named("PIPE")
      const table = (database: string, schema: string, name: string) => {
        const found = relation(database, schema, name)
        return found?.kind === "TABLE" ? Option.some(found) : Option.none()
      }

      const changesOn = (connection: DuckDBConnection, now: number, after: Array<() => void>): Changes => {
        const timestamp = new Date(now).toISOString().replace("Z", "")
        const forget = (object: Pick<CatalogObject, "kind" | "database" | "schema" | "name">) =>
          Storage.run(
            connection,
            `DELETE FROM "_local".objects WHERE database = $1 AND schema = $2 AND name = $3 AND kind = $4`,
            [object.database, object.schema, object.name, spaceOf(object.kind)]
          )
        return {
          connection,
          now,
          putDatabase: (name, owner = "SYSADMIN") =>
            Effect.tap(
              Storage.run(connection, `INSERT INTO "_local".databases VALUES ($1, CAST($2 AS TIMESTAMP), $3, NULL)`, [
                name,
                timestamp,
                owner
              ]),
              Effect.sync(() => after.push(() => databases.set(name, { name, createdOn: now, owner })))
            ),
          removeDatabase: (name) =>
            Effect.tap(
              Storage.run(connection, `DELETE FROM "_local".databases WHERE name = $1`, [name]),
              Effect.sync(() => after.push(() => databases.delete(name)))
            ),
          putSchema: (database, name, owner = "SYSADMIN") =>
            Effect.gen(function*() {
              yield* Storage.run(
                connection,
                `INSERT INTO "_local".schemas VALUES ($1, $2, CAST($3 AS TIMESTAMP), $4, NULL)`,
                [database, name, timestamp, owner]
              )
              yield* Storage.run(
                connection,
                `CREATE SCHEMA IF NOT EXISTS ${Identifier.quote(Identifier.schemaName(database, name))}`
              )
              after.push(() => schemas.set(JSON.stringify([database, name]), { database, name, createdOn: now, owner }))
            }),
          removeSchema: (database, name) =>
            Effect.gen(function*() {
              yield* Storage.run(connection, `DELETE FROM "_local".schemas WHERE database = $1 AND name = $2`, [
                database,
                name
              ])
              yield* Storage.run(
                connection,
                `DROP SCHEMA IF EXISTS ${Identifier.quote(Identifier.schemaName(database, name))} CASCADE`
              )
              yield* Storage.run(connection, `DELETE FROM "_local".objects WHERE database = $1 AND schema = $2`, [
                database,
                name
              ])
              after.push(() => {
                schemas.delete(JSON.stringify([database, name]))
                for (const [key, object] of objects) {
                  if (object.database === database && object.schema === name) objects.delete(key)
                }
              })
            }),
          setCollation: (database, schema, collation) =>
            Effect.tap(
              Storage.run(
                connection,
                schema === undefined
                  ? `UPDATE "_local".databases SET default_collation = $1 WHERE name = $2`
                  : `UPDATE "_local".schemas SET default_collation = $1 WHERE database = $2 AND name = $3`,
                [collation ?? null, database, ...(schema === undefined ? [] : [schema])]
              ),
              Effect.sync(() =>
                after.push(() => {
                  const key = JSON.stringify([database, schema])
                  const [of, at] = [databases.get(database), schemas.get(key)]
                  if (schema === undefined && of !== undefined) databases.set(database, { ...of, collation })
                  if (at !== undefined) schemas.set(key, { ...at, collation })
                })
              )
            ),
          put: (object) =>
            Effect.gen(function*() {
              yield* forget(object)
              yield* Storage.run(
                connection,
                `INSERT INTO "_local".objects VALUES ($1, $2, $3, $4, CAST($5 AS TIMESTAMP), $6)`,
                [object.database, object.schema, object.name, spaceOf(object.kind), timestamp, JSON.stringify(object)]
              )
              after.push(() =>
                objects.set(keyOf(spaceOf(object.kind), object.database, object.schema, object.name), object)
              )
            }),
          remove: (object) =>
            Effect.tap(
              forget(object),
              Effect.sync(() =>
                after.push(() =>
                  objects.delete(keyOf(spaceOf(object.kind), object.database, object.schema, object.name))
                )
              )
            )
        }
      }

      return Catalog.of({
        databases: () => [...databases.values()],
        schemas: (database) =>
          [...schemas.values()].filter((schema) => database === undefined || schema.database === database),
        hasDatabase: (name) => databases.has(name),
        hasSchema: (database, name) => schemas.has(JSON.stringify([database, name])),
        objects: () => [...objects.values()],
        relation,
        stage: named("STAGE"),
        pipe,
        stream: named("STREAM"),
        task: named("TASK"),
        tasks: () => [...objects.values()].filter((object): object is Task => object.kind === "TASK"),
        streamsOn: (tableId) =>
          [...objects.values()].flatMap((object) =>
            object.kind === "STREAM" && object.table.id === tableId ? [object.id] : []
          ),
        tableOf: (database, schema, name) => Effect.sync(() => table(database, schema, name)),
        columnsOf: (database, schema, name) =>
          Effect.sync(() => Option.map(table(database, schema, name), (found) => found.columns)),
        pipeOf: (database, schema, name) => Effect.sync(() => Option.fromNullishOr(pipe(database, schema, name))),
        change: (change) =>
          // Once COMMIT is on its way the records must follow, or they would no longer say what DuckDB holds.
          oneAtATime.withPermit(Effect.uninterruptibleMask((restore) =>
            Effect.gen(function*() {
              const now = yield* Clock.currentTimeMillis
              let after: Array<() => void> = []
              const result = yield* storage.write((connection) =>
                restore(Effect.suspend(() => {
                  after = []
                  return change(changesOn(connection, now, after))
                }))
              )
              for (const apply of after) apply()
              return result
            })
          ))
      })
    })
  )
}
