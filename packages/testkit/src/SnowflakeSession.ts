/**
 * A session at a Snowflake-compatible server through the unmodified driver `snowflake-sdk`, for looking at what a sink has done.
 *
 * Rows come as arrays of text or null, in the order of the statement's columns: nothing of the driver's conversions to JavaScript
 * numbers and dates gets between a test and what the server holds. The driver is imported on first use.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Connection, ConnectionOptions, RowStatement } from "snowflake-sdk"

export class SnowflakeSessionError extends Schema.TaggedError<SnowflakeSessionError>(
  "@etl-stream/testkit/SnowflakeSessionError"
)("SnowflakeSessionError", { message: Schema.String, cause: Schema.optionalKey(Schema.Defect()) }) {}

export interface Options {
  readonly account: string
  /** Address of the server, for example `http://127.0.0.1:4000`. */
  readonly url: string
  readonly user: string
  /** PKCS #8 PEM. */
  readonly privateKey: Redacted.Redacted<string>
  readonly role?: string
  readonly warehouse?: string
  readonly database?: string
  readonly schema?: string
}

/** Values of one row in the order of the statement's columns. */
export type Row = ReadonlyArray<string | null>

export interface SnowflakeSession {
  /** All rows of a small result. */
  readonly query: (sql: string) => Effect.Effect<ReadonlyArray<Row>, SnowflakeSessionError>
  /** Gives each row of a result of any size to `visit`, one at a time. */
  readonly forEach: (sql: string, visit: (row: Row) => void) => Effect.Effect<void, SnowflakeSessionError>
}

/** An identifier in SQL text, always quoted. */
export const quoted = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

const textOf = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause)

const login = async (options: Options): Promise<Connection> => {
  // Both are read at import: the driver would ask cloud metadata addresses where it runs, and report on itself after a login.
  process.env["SNOWFLAKE_DISABLE_PLATFORM_DETECTION"] = "true"
  process.env["SF_TELEMETRY_DISABLE_CONNECTION_SHAPE"] = "true"
  const { default: snowflake } = await import("snowflake-sdk")
  snowflake.configure({ logLevel: "OFF", useEnvProxy: false, additionalLogToConsole: false })
  const { privateKey, url, user, ...rest } = options
  const settings: ConnectionOptions = {
    ...rest,
    accessUrl: url,
    username: user,
    authenticator: "SNOWFLAKE_JWT",
    privateKey: Redacted.value(privateKey),
    fetchAsString: ["Number", "Date", "JSON", "Boolean", "Buffer"],
    rowMode: "array",
    sfRetryMaxLoginRetries: 0
  }
  const connection = snowflake.createConnection(settings)
  await new Promise<void>((resolve, reject) => {
    connection.connect((error) => error === undefined || error === null ? resolve() : reject(error))
  })
  return connection
}

const execute = (connection: Connection, sql: string): Promise<RowStatement> =>
  new Promise((resolve, reject) => {
    connection.execute({
      sqlText: sql,
      streamResult: true,
      complete: (error, statement) => error === undefined || error === null ? resolve(statement) : reject(error)
    })
  })

/** As text, the driver spells a null out in columns that are not text: `NULL`. */
const withNulls = (row: ReadonlyArray<string | null>, spelled: ReadonlyArray<boolean>): Row =>
  row.map((value, column) => value === "NULL" && spelled[column] === true ? null : value)

/** Logs in; the session ends with the scope. */
export const open = (options: Options): Effect.Effect<SnowflakeSession, SnowflakeSessionError, Scope.Scope> =>
  Effect.gen(function*() {
    const connection = yield* Effect.acquireRelease(
      Effect.tryPromise({
        try: () => login(options),
        catch: (cause) =>
          new SnowflakeSessionError({ message: `no session at ${options.url}: ${textOf(cause)}`, cause })
      }),
      (made) =>
        Effect.callback<void>((resume) => {
          // A server that was killed never answers the goodbye.
          const timer = setTimeout(() => resume(Effect.void), 1000)
          made.destroy(() => {
            clearTimeout(timer)
            resume(Effect.void)
          })
        })
    )
    const forEach: SnowflakeSession["forEach"] = (sql, visit) =>
      Effect.tryPromise({
        try: async () => {
          const statement = await execute(connection, sql)
          const spelled = (statement.getColumns() ?? []).map((column) => !column.isString())
          for await (const row of statement.streamRows()) visit(withNulls(row, spelled))
        },
        catch: (cause) => new SnowflakeSessionError({ message: `${textOf(cause)} in: ${sql.slice(0, 300)}`, cause })
      })
    return {
      forEach,
      query: (sql) =>
        Effect.gen(function*() {
          const rows: Array<Row> = []
          yield* forEach(sql, (row) => rows.push(row))
          return rows
        })
    }
  })
