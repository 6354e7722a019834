/**
 * SQL sessions over the npm driver: a small pool, statements one after the other in each session, transactions, uploads from memory.
 *
 * Errors come out as `ConnectorError`s by `ErrorPolicy`. A session that was lost is replaced; a statement whose session had
 * expired before it ran is tried once more, unless it is part of a transaction.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pool from "effect/Pool"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Connection, ConnectionOptions, SnowflakeError } from "snowflake-sdk"
import type { Config } from "./Config.ts"
import type { Credentials } from "./Credentials.ts"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import * as Identifier from "./Identifier.ts"
import * as Driver from "./internal/driver.ts"

type Failed = ConnectorError.ConnectorError

/** Rows as objects by column name (numbers as text), and the number of rows that a DML statement changed. */
export interface Result {
  readonly rows: ReadonlyArray<Readonly<Record<string, unknown>>>
  readonly changed: number
}

/** A statement; `what` says in errors what it was for ("merging public.orders"). */
export interface Statement {
  readonly what: string
  readonly sql: string
  /** For PUT: the file's content. */
  readonly file?: Buffer
  readonly table?: string
}

export interface Session {
  readonly execute: (statement: Statement) => Effect.Effect<Result, Failed>
  /**
   * Runs `body` between BEGIN and COMMIT; rolls back when it fails or is interrupted. `committed` runs after COMMIT: neither of them can be
   * interrupted, so that the caller always knows what was committed.
   */
  readonly transaction: (
    what: string,
    body: Effect.Effect<void, Failed>,
    committed?: () => void
  ) => Effect.Effect<void, Failed>
}

export interface SqlClient {
  /** Runs one statement in any session. */
  readonly execute: (statement: Statement) => Effect.Effect<Result, Failed>
  /** Lends a session for several statements. */
  readonly use: <A>(body: (session: Session) => Effect.Effect<A, Failed>) => Effect.Effect<A, Failed>
}

/** Codes after which server messages hold no values of rows: names of objects, privileges, logins, syntax. */
const speaks = (code: string): boolean => /^(00[0-3]\d{3}|39\d{4}|40\d{4})$/.test(code)

const errorOf = (error: SnowflakeError, statement: Pick<Statement, "what" | "table">): Failed => {
  const { cause } = error
  const code = String(error.code ?? "unknown")
  const padded = /^\d+$/.test(code) ? code.padStart(6, "0") : code
  const policy = ErrorPolicy.sql(code, error.sqlState)
  // A network failure's own code (ECONNREFUSED, ENOTFOUND …) says more than the driver's.
  const detail = cause !== undefined && "code" in cause && typeof cause.code === "string" ? ` (${cause.code})` : ""
  const said = speaks(padded) ? `: ${error.message.replaceAll(/\s+/g, " ").trim()}` : ""
  return ErrorPolicy.failure(
    policy.reason,
    `${statement.what} failed with Snowflake error ${padded}${detail}${said}`,
    policy.hint,
    {
      table: statement.table
    }
  )
}

interface Open extends Session {
  /** The code of the error that the session was lost by. */
  lost: string | undefined
}

const run = (
  connection: Connection,
  statement: Statement,
  onCode: (code: string) => void
): Effect.Effect<Result, Failed> =>
  Effect.callback<Result, Failed>((resume) => {
    const options: Driver.StatementOptions = {
      sqlText: statement.sql,
      fetchAsString: ["Number"],
      ...(statement.file === undefined ? {} : { fileStream: statement.file }),
      complete: (error, done, rows) => {
        if (error !== undefined && error !== null) {
          onCode(String(error.code ?? ""))
          return resume(Effect.fail(errorOf(error, statement)))
        }
        resume(
          Effect.succeed({ rows: rows ?? [], changed: "getNumUpdatedRows" in done ? done.getNumUpdatedRows() ?? 0 : 0 })
        )
      }
    }
    const running = connection.execute(options)
    return Effect.callback<void>((done) => {
      if (!("cancel" in running)) return done(Effect.void)
      running.cancel(() => done(Effect.void))
    }).pipe(Effect.timeoutOption("5 seconds"))
  })

const connectionOptions = (config: Config, credentials: Credentials, pipeline: string): ConnectionOptions => {
  const base: ConnectionOptions = {
    account: config.account,
    username: config.user,
    warehouse: config.warehouse,
    database: config.database,
    application: "etl-stream",
    clientSessionKeepAlive: true,
    queryTag: `etl-stream ${pipeline}`,
    ...(config.role === undefined ? {} : { role: config.role }),
    ...(config.url === undefined ? {} : { accessUrl: config.url.replace(/\/$/, "") }),
    // Retries of a login are ours, with the pipeline's policy.
    sfRetryMaxLoginRetries: 1
  }
  switch (credentials._tag) {
    case "KeyPair":
      return { ...base, authenticator: "SNOWFLAKE_JWT", privateKey: Redacted.value(credentials.keyPair.pem) }
    case "Token":
      return { ...base, authenticator: "PROGRAMMATIC_ACCESS_TOKEN", token: Redacted.value(credentials.token) }
    case "OAuth":
      return { ...base, authenticator: "OAUTH", token: Redacted.value(credentials.token) }
    case "Password":
      return { ...base, password: Redacted.value(credentials.password) }
  }
}

const connect = (
  config: Config,
  credentials: Credentials,
  pipeline: string
): Effect.Effect<Open, Failed, Scope.Scope> =>
  Effect.gen(function*() {
    const snowflake = yield* Driver.load
    const login = { what: `Logging in to Snowflake as ${config.user}` }
    const connection = yield* Effect.acquireRelease(
      Effect.callback<Connection, Failed>((resume) => {
        const created = snowflake.createConnection(connectionOptions(config, credentials, pipeline))
        created.connect((error) => {
          resume(error === undefined || error === null ? Effect.succeed(created) : Effect.fail(errorOf(error, login)))
        })
      }),
      (created) =>
        Effect.callback<void>((resume) => created.destroy(() => resume(Effect.void))).pipe(
          Effect.timeoutOption("5 seconds")
        )
    )
    const session: Open = {
      lost: undefined,
      execute: (statement) =>
        run(connection, statement, (code) => {
          if (ErrorPolicy.sql(code, undefined).reason === "Unreachable") session.lost = code
        }),
      transaction: (what, body, committed) =>
        Effect.uninterruptibleMask((restore) =>
          restore(Effect.andThen(session.execute({ what, sql: "BEGIN" }), body)).pipe(
            Effect.andThen(session.execute({ what, sql: "COMMIT" })),
            Effect.andThen(Effect.sync(() => committed?.())),
            Effect.onExit((exit) =>
              Exit.isSuccess(exit) ? Effect.void : session.execute({ what, sql: "ROLLBACK" }).pipe(
                Effect.timeout("30 seconds"),
                // A session in an unknown state must not serve the next one.
                Effect.catchCause(() =>
                  Effect.sync(() => {
                    session.lost ??= "rollback"
                  })
                )
              )
            )
          )
        )
    }
    yield* session.execute({
      what: "Setting session parameters",
      sql: "ALTER SESSION SET TIMEZONE = 'UTC', AUTOCOMMIT = TRUE"
    })
    const { rows } = yield* session.execute({
      what: "Looking at the session",
      sql: `SELECT CURRENT_WAREHOUSE() AS "warehouse", CURRENT_DATABASE() AS "database", CURRENT_ROLE() AS "role"`
    })
    const [current] = rows
    for (const option of ["warehouse", "database"] as const) {
      // A name that doesn't exist is no error of the login: the session just has none.
      if (current?.[option] === null || current?.[option] === undefined) {
        return yield* ErrorPolicy.failure(
          "Missing",
          `The ${option} ${Identifier.fromConfig(config[option])} does not exist, or the role ${
            String(current?.["role"])
          } may not use it`,
          `Create it, grant USAGE on it to the role, or name another one in \`${option}\`.`
        )
      }
    }
    return session
  })

/** Opens sessions as they are needed, at most `config.connections`, for the scope's life. */
export const make = Effect.fnUntraced(function*(
  config: Config,
  credentials: Credentials,
  pipeline: string
): Effect.fn.Return<SqlClient, never, Scope.Scope> {
  const pool = yield* Pool.makeWithTTL({
    acquire: connect(config, credentials, pipeline),
    min: 0,
    max: config.connections,
    timeToLive: "10 minutes"
  })
  const lend = <A>(body: (session: Open) => Effect.Effect<A, Failed>): Effect.Effect<A, Failed> =>
    Effect.scoped(Effect.gen(function*() {
      const session = yield* Pool.get(pool)
      return yield* body(session).pipe(
        Effect.ensuring(Effect.suspend(() => session.lost === undefined ? Effect.void : Pool.invalidate(pool, session)))
      )
    }))
  /** Runs `statement`; undefined when its session turned out to have expired, so that it wasn't run. */
  const attempt = (statement: Statement) =>
    lend((session) =>
      session.execute(statement).pipe(
        Effect.catch((error) =>
          session.lost !== undefined && ErrorPolicy.isSessionGone(session.lost)
            ? Effect.void
            : Effect.fail(error)
        )
      )
    )
  return {
    execute: Effect.fn("SqlClient.execute")(function*(statement) {
      const first = yield* attempt(statement)
      return first ?? (yield* lend((session) => session.execute(statement)))
    }),
    use: lend
  }
})
