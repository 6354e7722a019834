/**
 * A local Snowflake for tests, and the sink against it.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type * as Condition from "@etl-stream/core/Condition"
import type * as Element from "@etl-stream/core/Element"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Sink, TableWriter } from "@etl-stream/core/Sink"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import type { Options } from "@etl-stream/snowflake-local/Configuration"
import { serve } from "@etl-stream/snowflake-local/Server"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { generateKeyPairSync } from "node:crypto"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Config } from "../src/Config.ts"
import * as Credentials from "../src/Credentials.ts"
import * as EncodingPool from "../src/EncodingPool.ts"
import * as SnowflakeSink from "../src/SnowflakeSink.ts"
import * as SqlClient from "../src/SqlClient.ts"
import * as StreamingClient from "../src/StreamingClient.ts"
import { plainName } from "../src/TableLayout.ts"

const keys = generateKeyPairSync("rsa", { modulusLength: 2048 })
export const privateKeyPem = keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString()
export const password = "a secret of tests"

export interface Local {
  readonly url: string
  readonly directory: string
  /** The sink's configuration for this server. */
  readonly config: (more?: object) => Config
  /** Rows of a query. */
  readonly query: (sql: string) => Effect.Effect<ReadonlyArray<Readonly<Record<string, unknown>>>>
  readonly sql: SqlClient.SqlClient
  /** Adds a fault at the streaming or the driver's endpoints. */
  readonly fault: (kind: "streaming" | "driver", fault: object) => Effect.Effect<void>
  readonly clearFaults: Effect.Effect<void>
  /** Faults of both that haven't struck yet. */
  readonly faults: Effect.Effect<ReadonlyArray<Readonly<Record<string, unknown>>>>
  /** Statements since the log was last emptied. */
  readonly statements: Effect.Effect<ReadonlyArray<typeof LoggedStatement.Type>>
  readonly clearStatements: Effect.Effect<void>
}

const LoggedStatement = Schema.Struct({
  sql: Schema.String,
  tag: Schema.String,
  kind: Schema.String,
  needsWarehouse: Schema.Boolean,
  /** The task that ran it. */
  task: Schema.NullOr(Schema.String)
})
const FaultList = Schema.Struct({ faults: Schema.Array(Schema.Record(Schema.String, Schema.Unknown)) })
const StatementLog = Schema.Struct({ statements: Schema.Array(LoggedStatement) })

/** Starts a server with the database RAW, the warehouse WH and the user LOADER. */
export const start = Effect.fnUntraced(function*(more: Partial<Options> = {}) {
  const directory = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "sink-snowflake-"))),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
  )
  const { url } = yield* serve({
    dataDir: join(directory, "data"),
    account: "MYORG-ACCT",
    users: [{
      name: "LOADER",
      publicKeyPem: keys.publicKey.export({ type: "spki", format: "pem" }).toString(),
      password: Redacted.make(password),
      tokens: [Redacted.make("a-programmatic-access-token")],
      roles: ["LOADER_ROLE", "PUBLIC"]
    }],
    warehouses: ["WH"],
    databases: ["RAW"],
    admin: true,
    // Tests have few rows and many statements.
    threads: 1,
    ...more,
    streaming: { commitDelayMillis: { min: 20, max: 60 }, ...more.streaming }
  })
  // Threads that encode go on from one sink to the next, as long as there is the server.
  yield* EncodingPool.EncodingPool.shared
  const config = (extra: object = {}): Config =>
    Schema.decodeUnknownSync(Config)({
      account: "MYORG-ACCT",
      url,
      user: "LOADER",
      auth: { privateKey: privateKeyPem },
      role: "LOADER_ROLE",
      warehouse: "WH",
      database: "RAW",
      schema: "SHOP",
      merge: { every: "100 millis" },
      // Changes of tests were committed long ago.
      journal: { retention: "Infinity" },
      ...extra
    })
  const sql = yield* SqlClient.make(config(), yield* Credentials.make(config().auth, directory), "test")
  const call = (method: string, path: string, body?: object) =>
    Effect.promise(async () => {
      const response = await fetch(`${url}${path}`, {
        method,
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
      return await response.json()
    })
  const local: Local = {
    url,
    directory,
    config,
    sql,
    query: (text) => Effect.orDie(Effect.map(sql.execute({ what: "test", sql: text }), ({ rows }) => rows)),
    fault: (kind, fault) =>
      Effect.asVoid(call("POST", kind === "driver" ? "/_local/faults" : "/_local/streaming/faults", fault)),
    clearFaults: Effect.andThen(call("DELETE", "/_local/faults"), call("DELETE", "/_local/streaming/faults")).pipe(
      Effect.asVoid
    ),
    faults: Effect.all([call("GET", "/_local/faults"), call("GET", "/_local/streaming/faults")]).pipe(
      Effect.map((answers) => answers.flatMap((answer) => Schema.decodeUnknownSync(FaultList)(answer).faults))
    ),
    statements: call("GET", "/_local/statements").pipe(
      Effect.map((answer) => Schema.decodeUnknownSync(StatementLog)(answer).statements)
    ),
    clearStatements: Effect.asVoid(call("DELETE", "/_local/statements"))
  }
  return local
})

/** A table opened at the sink, with what is durable of it. */
export interface Opened {
  readonly writer: TableWriter
  readonly rows: (batch: ChangeBatch.ChangeBatch) => Effect.Effect<void, unknown>
  /** Waits until the sequence is reported durable, or the sink fails. */
  readonly durable: (sequence: Sequence.Sequence) => Effect.Effect<void>
  readonly reported: ReadonlyArray<Sequence.Sequence>
}

export interface Running {
  readonly sink: Sink
  /** `given`: up to where the engine says that the table is complete. */
  readonly open: (
    table: TableSchema,
    given?: () => Sequence.Sequence | undefined
  ) => Effect.Effect<Opened, unknown, Scope.Scope>
  /** How `run` failed, when it does. */
  readonly failure: Deferred.Deferred<never, unknown>
}

/** Makes the sink of the pipeline `shop` and lets it run. */
export const run = Effect.fnUntraced(function*(local: Local, more: object = {}, pipeline = "shop") {
  const sink = yield* SnowflakeSink.make(local.config(more), { pipeline, directory: local.directory })
  const failure = yield* Deferred.make<never, unknown>()
  yield* Effect.forkScoped(sink.run.pipe(Effect.catch((error) => Deferred.fail(failure, error))))
  const open = Effect.fnUntraced(
    function*(table: TableSchema, given: () => Sequence.Sequence | undefined = () => undefined) {
      const reported: Array<Sequence.Sequence> = []
      const waiting: Array<{ readonly sequence: Sequence.Sequence; readonly done: Deferred.Deferred<void> }> = []
      const writer = yield* sink.open(
        table,
        (sequence) =>
          Effect.gen(function*() {
            reported.push(sequence)
            for (const entry of waiting) {
              if (Sequence.compare(sequence, entry.sequence) >= 0) {
                yield* Deferred.succeed(entry.done, undefined)
              }
            }
          }),
        (error) => Effect.asVoid(Deferred.fail(failure, error)),
        given
      )
      const opened: Opened = {
        writer,
        reported,
        rows: (batch) => writer.write({ _tag: "Rows", batch } satisfies Element.Rows),
        durable: Effect.fnUntraced(function*(sequence) {
          const last = reported.at(-1)
          if (last !== undefined && Sequence.compare(last, sequence) >= 0) {
            return
          }
          const done = yield* Deferred.make<void>()
          waiting.push({ sequence, done })
          yield* Effect.raceFirst(Deferred.await(done), Effect.orDie(Deferred.await(failure)))
        })
      }
      return opened
    }
  )
  const running: Running = { sink, open, failure }
  return running
})

/** Conditions that are kept in `raised`. */
export const conditions = (raised: Map<string, Condition.Condition> = new Map()): Condition.Conditions => ({
  raise: (condition) =>
    Effect.sync(() => {
      raised.set(`${condition.name} ${condition.table ?? ""}`, condition)
    }),
  clear: (name, table) =>
    Effect.sync(() => {
      raised.delete(`${name} ${table ?? ""}`)
    })
})

/** Makes Snowflake forget a pipeline's channel of a journal. */
export const dropChannel = (local: Local, journal: string, pipeline: string, suffix = "") =>
  Effect.gen(function*() {
    const config = local.config()
    const client = StreamingClient.make(config, yield* Credentials.make(config.auth, local.directory))
    const name = { database: "RAW", schema: "ETL_STREAM", name: journal }
    yield* client.drop(name, `ETL_STREAM_${plainName(pipeline)}${suffix}`)
  })

/** Copies `batches` as the table's snapshot at `position`, each as a chunk of its own. Without `plan` the copy can't be resumed. */
export const copy = Effect.fnUntraced(function*(
  { writer }: Opened,
  table: TableSchema,
  position: bigint,
  batches: ReadonlyArray<ChangeBatch.ChangeBatch>,
  plan?: string
) {
  yield* begin(writer, table, position, plan)
  for (const [number, batch] of batches.entries()) yield* chunk(writer, batch.table, position, number, [batch])
  yield* writer.write({ _tag: "SnapshotEnd", table, position, chunks: batches.length, settled: position })
})

export const begin = (writer: TableWriter, table: TableSchema, position: bigint, plan?: string, resumed = false) =>
  writer.write({
    _tag: "SnapshotBegin",
    table,
    position,
    plan,
    resumed,
    estimatedRows: undefined,
    estimatedBytes: undefined
  })

/** Writes a whole chunk. */
export const chunk = Effect.fnUntraced(function*(
  writer: TableWriter,
  table: TableSchema,
  position: bigint,
  number: number,
  batches: ReadonlyArray<ChangeBatch.ChangeBatch>
) {
  for (const batch of batches) yield* writer.write({ _tag: "SnapshotRows", batch, position, chunk: number })
  yield* writer.write({
    _tag: "SnapshotChunk",
    table,
    position,
    chunk: number,
    rows: batches.reduce((sum, { rows }) => sum + rows, 0)
  })
})
