/**
 * A server with nothing but the streaming endpoints, for their tests: in this process, or as a child that can be killed.
 *
 * `POST /_test/table` creates a table (again), `POST /_test/drop` drops one, `POST /_test/column` adds a
 * column, `POST /_test/pipe` creates a pipe and `POST /_test/sql` reads the database, so that a test says the same to
 * both kinds. Run as a program it takes its options as JSON in the first argument and prints its port.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import type { IncomingMessage } from "node:http"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { pathToFileURL } from "node:url"
import { Accounts } from "../../src/Accounts.ts"
import * as Catalog from "../../src/Catalog.ts"
import { Grants } from "../../src/Grants.ts"
import * as Http from "../../src/Http.ts"
import * as Identifier from "../../src/sql/Identifier.ts"
import * as SnowflakeType from "../../src/sql/SnowflakeType.ts"
import * as Storage from "../../src/Storage.ts"
import * as Routes from "../../src/streaming/Routes.ts"
import type { Options } from "../../src/streaming/StreamingOptions.ts"
import { StreamingState } from "../../src/streaming/StreamingState.ts"

export interface ServerOptions {
  readonly dataDir: string
  readonly publicKeyPem: string
  readonly streaming?: Options
}

export interface TableSpec {
  readonly name: string
  readonly columns: ReadonlyArray<{
    readonly name: string
    readonly type: string
    readonly args?: ReadonlyArray<number>
    readonly notNull?: boolean
    /** A literal, the same in Snowflake's SQL and DuckDB's. */
    readonly default?: string
  }>
}

/** Every table of the tests lives here. */
export const database = "DB"
export const schema = "PUBLIC"

const createTable = (spec: TableSpec) =>
  Effect.gen(function*() {
    const catalog = yield* Catalog.Catalog
    const columns = spec.columns.map((column) => {
      const type = SnowflakeType.fromName(column.type, column.args ?? [])
      if (type === undefined) throw new Error(`no such type: ${column.type}`)
      return Catalog.column(column.name, type, {
        nullable: column.notNull !== true,
        ...(column.default === undefined ? {} : { default: { text: column.default, sql: column.default } })
      })
    })
    yield* catalog.change((changes) =>
      Effect.gen(function*() {
        if (!catalog.hasDatabase(database)) yield* changes.putDatabase(database)
        if (!catalog.hasSchema(database, schema)) yield* changes.putSchema(database, schema)
        const duckdb = Identifier.qualified(database, schema, spec.name)
        const list = columns.map((column) =>
          `${Identifier.quote(column.duckdbName)} ${column.duckdbType}${column.nullable ? "" : " NOT NULL"}`
        )
        yield* Storage.run(changes.connection, `CREATE OR REPLACE TABLE ${duckdb} (${list.join(", ")})`)
        yield* changes.put({
          kind: "TABLE",
          database,
          schema,
          name: spec.name,
          id: Catalog.newId(),
          createdOn: changes.now,
          columns,
          lifetime: "PERMANENT",
          primaryKey: [],
          options: {},
          duckdb
        })
      })
    )
  })

const dropTable = (name: string) =>
  Effect.gen(function*() {
    const catalog = yield* Catalog.Catalog
    const table = catalog.relation(database, schema, name)
    if (table === undefined) return
    yield* catalog.change((changes) =>
      Effect.andThen(Storage.run(changes.connection, `DROP TABLE ${table.duckdb}`), changes.remove(table))
    )
  })

const addColumn = (name: string, column: string) =>
  Effect.gen(function*() {
    const catalog = yield* Catalog.Catalog
    yield* catalog.change((changes) =>
      Effect.gen(function*() {
        const table = catalog.relation(database, schema, name)
        if (table?.kind !== "TABLE") return
        const added = Catalog.column(column, SnowflakeType.text)
        yield* Storage.run(
          changes.connection,
          `ALTER TABLE ${table.duckdb} ADD COLUMN ${Identifier.quote(added.duckdbName)} VARCHAR`
        )
        yield* changes.put({ ...table, columns: [...table.columns, added] })
      })
    )
  })

/** A pipe over every column of a table, or one that transforms. */
const createPipe = (name: string, table: string, select: string | undefined) =>
  Effect.gen(function*() {
    const catalog = yield* Catalog.Catalog
    yield* catalog.change((changes) =>
      changes.put({
        kind: "PIPE",
        database,
        schema,
        name,
        id: Catalog.newId(),
        createdOn: changes.now,
        target: { database, schema, name: table },
        copy: "",
        matchByColumnName: select === undefined ? "CASE_INSENSITIVE" : "NONE",
        columns: [],
        select
      })
    )
  })

const query = (sql: string) =>
  Effect.scoped(Effect.gen(function*() {
    const storage = yield* Storage.Storage
    const connection = yield* storage.connect
    return yield* Effect.promise(() => connection.runAndReadAll(sql).then((reader) => reader.getRowsJson()))
  }))

const read = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Array<Buffer> = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Starts a server on a free port. */
export const serve = async (
  options: ServerOptions
): Promise<{ readonly port: number; readonly close: () => Promise<void> }> => {
  const store = Layer.provideMerge(Catalog.Catalog.layer, Storage.Storage.layer(options.dataDir))
  const accounts = Accounts.layer({
    account: "ORG-ACCT",
    users: [{ name: "LOADER", publicKeyPem: options.publicKeyPem }]
  })
  const runtime = ManagedRuntime.make(
    Layer.mergeAll(Grants.layer(false), StreamingState.layer(options.streaming)).pipe(
      Layer.provideMerge(Layer.mergeAll(accounts, store))
    )
  )
  const answer = async (request: Http.Request): Promise<Http.Response> => {
    const body = Buffer.from(request.body).toString()
    const ok = (value: unknown): Http.Response => ({ status: 200, body: JSON.stringify(value) })
    switch (request.url.pathname) {
      case "/_test/table":
        return ok(await runtime.runPromise(createTable(JSON.parse(body))) ?? null)
      case "/_test/drop":
        return ok(await runtime.runPromise(dropTable(body)) ?? null)
      case "/_test/column": {
        const { name, table } = JSON.parse(body)
        return ok(await runtime.runPromise(addColumn(table, name)) ?? null)
      }
      case "/_test/pipe": {
        const { name, select, table } = JSON.parse(body)
        return ok(await runtime.runPromise(createPipe(name, table, select)) ?? null)
      }
      case "/_test/sql":
        return ok(await runtime.runPromise(query(body)))
      default:
        return await runtime.runPromise(
          request.url.pathname.startsWith("/_local/") ? Routes.handleLocal(request) : Routes.handle(request)
        )
    }
  }
  const ready = await runtime.runPromiseExit(StreamingState)
  if (Exit.isFailure(ready)) throw new Error(Cause.pretty(ready.cause))
  const server = createServer((request, response) => {
    read(request)
      .then((body) =>
        answer({
          method: request.method ?? "GET",
          url: new URL(request.url ?? "/", `http://${request.headers.host}`),
          headers: Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)])),
          body
        })
      )
      .then((result) => {
        if (result.status === Http.dropConnection) return request.socket.destroy()
        response.writeHead(result.status, result.headers)
        return response.end(result.body)
      })
      .catch((cause: unknown) => {
        response.writeHead(500)
        response.end(String(cause))
      })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    // A listening TCP server has an AddressInfo.
    port: (server.address() as AddressInfo).port,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await runtime.dispose()
    }
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { port } = await serve(JSON.parse(process.argv[2] ?? "{}"))
  process.stdout.write(`${port}\n`)
  // The pipe closes with the process that started this one.
  process.stdin.on("end", () => process.exit(0)).resume()
}
