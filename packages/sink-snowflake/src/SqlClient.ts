/**
 * SQL sessions over the npm driver: a small pool, statements one after the other in each session, transactions, uploads from memory.
 *
 * Errors come out as `ConnectorError`s by `ErrorPolicy`. A session that was lost is replaced; a statement whose session had
 * expired before it ran is tried once more, unless it is part of a transaction. No statement is waited for without a limit, and what is rolled
 * back again and again is told (`RolledBack`).
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Telemetry from "@etl-stream/core/Telemetry"
import * as Duration from "effect/Duration"
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
import * as QueryTag from "./QueryTag.ts"
import * as RolledBack from "./RolledBack.ts"

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
  /** Texts for the question marks in `sql`: for what may be long. */
  readonly binds?: ReadonlyArray<string>
  /** For PUT: the file's content. */
  readonly file?: Buffer
  /** A statement that Snowflake answers at once, such as COMMIT: silence soon means that the connection is lost. */
  readonly control?: boolean
  readonly table?: string
  /** What it serves, in the statement's tag; `setup` when absent. */
  readonly purpose?: QueryTag.Purpose
}

export interface Session {
  /** Counts as one thing (see `RolledBack`) what is done outside of a transaction. */
  readonly counted: <A>(
    of: Pick<Statement, "what" | "table">,
    body: Effect.Effect<A, Failed>
  ) => Effect.Effect<A, Failed>
  readonly execute: (statement: Statement) => Effect.Effect<Result, Failed>
  /**
   * Runs `body` between BEGIN and COMMIT; rolls back when it fails or is interrupted. `committed` runs after COMMIT: neither of them can be
   * interrupted, so that the caller always knows what was committed.
   */
  readonly transaction: (
    of: Pick<Statement, "what" | "table" | "purpose">,
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

/** A client that says, where conditions are raised, what Snowflake rolls back again and again. */
export interface Connected extends SqlClient {
  readonly raiseIn: RolledBack.RolledBack["raiseIn"]
}

/** The client with `purpose` for statements that have none of their own. */
export const serving = (client: SqlClient, purpose: QueryTag.Purpose): SqlClient => ({
  execute: (statement) => client.execute({ purpose, ...statement }),
  use: (body) =>
    client.use((session) =>
      body({
        counted: session.counted,
        execute: (statement) => session.execute({ purpose, ...statement }),
        transaction: (of, inner, committed) => session.transaction({ purpose, ...of }, inner, committed)
      })
    )
})

/** Codes after which server messages hold no values of rows: names of objects, privileges, logins, syntax. */
const speaks = (code: string): boolean => /^(00[0-3]\d{3}|39\d{4}|40\d{4})$/.test(code)

/** The driver gives failed uploads no code: the file didn't get through to the stage. */
const codeOf = (error: SnowflakeError, statement: Pick<Statement, "file">): string =>
  String(error.code ?? (statement.file === undefined ? "unknown" : ErrorPolicy.uploadFailed))

const errorOf = (error: SnowflakeError, statement: Omit<Statement, "sql">): Failed => {
  const { cause } = error
  const code = codeOf(error, statement)
  const padded = /^\d+$/.test(code) ? code.padStart(6, "0") : code
  const policy = ErrorPolicy.sql(code, error.sqlState)
  // A network failure's own code (ECONNREFUSED, ENOTFOUND …) says more than the driver's.
  const detail = cause !== undefined && "code" in cause && typeof cause.code === "string" ? ` (${cause.code})` : ""
  const said = speaks(padded) ? `: ${error.message.replaceAll(/\s+/g, " ").trim()}` : ""
  return ErrorPolicy.failure(
    policy.reason,
    `${statement.what} failed with Snowflake error ${padded}${detail}${said}`,
    policy.hint,
    // A login, a warehouse or the account is everybody's: no table may be taken for the cause.
    {
      table: policy.action === "stop" ? undefined : statement.table,
      cause: ErrorPolicy.causeOf(code, error.sqlState)
    }
  )
}

interface Open extends Session {
  /** The code of the error that the session was lost by. */
  lost: string | undefined
}

/**
 * How long to wait for an answer before the connection counts as lost: the driver itself asks again for hours. Whether the statement
 * was done is then unknown; the next run reads it from the state table.
 */
export interface Limits {
  readonly login: Duration.Input
  /** COMMIT and other statements that take no time of their own. */
  readonly control: Duration.Input
  /** PUT of a file. */
  readonly upload: Duration.Input
  /** Anything else: merges and copies take their time. */
  readonly statement: Duration.Input
}

const defaultLimits: Limits = {
  login: "2 minutes",
  control: "60 seconds",
  upload: "5 minutes",
  statement: "1 hour"
}

/** Ends `effect` as `Unreachable` when it takes longer than `limit`. */
const within = <A, R>(
  effect: Effect.Effect<A, Failed, R>,
  limit: Duration.Input,
  statement: Pick<Statement, "what" | "table">,
  onLimit: () => void = () => {}
): Effect.Effect<A, Failed, R> =>
  Effect.timeoutOrElse(effect, {
    duration: limit,
    orElse: () =>
      Effect.suspend(() => {
        onLimit()
        return Effect.fail(ErrorPolicy.failure(
          "Unreachable",
          `${statement.what} got no answer in ${Duration.format(Duration.fromInputUnsafe(limit))}`,
          "Check the network between here and Snowflake, and Snowflake's status page. The pipeline goes on from its last durable position.",
          { table: statement.table }
        ))
      })
  })

const run = (
  connection: Connection,
  statement: Statement,
  tag: string,
  onCode: (code: string) => void
): Effect.Effect<Result, Failed> =>
  Effect.callback<Result, Failed>((resume) => {
    const options: Driver.StatementOptions = {
      sqlText: statement.sql,
      fetchAsString: ["Number"],
      parameters: { QUERY_TAG: tag },
      ...(statement.binds === undefined ? {} : { binds: [...statement.binds] }),
      ...(statement.file === undefined ? {} : { fileStream: statement.file }),
      complete: (error, done, rows) => {
        if (error !== undefined && error !== null) {
          onCode(codeOf(error, statement))
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

const connectionOptions = (config: Config, credentials: Credentials): ConnectionOptions => {
  const base: ConnectionOptions = {
    account: config.account,
    username: config.user,
    warehouse: config.warehouse,
    database: config.database,
    application: "etl-stream",
    clientSessionKeepAlive: true,
    // Per request; Snowflake answers a statement that takes longer after 45 seconds, saying that it is running.
    timeout: 60_000,
    // No `queryTag` here: the driver would put it in the place of each statement's own.
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
  pipeline: string,
  limits: Limits,
  rolledBack: RolledBack.RolledBack
): Effect.Effect<Open, Failed, Scope.Scope> =>
  Effect.gen(function*() {
    const snowflake = yield* Driver.load
    const login = { what: `Logging in to Snowflake as ${config.user}` }
    const connection = yield* Effect.acquireRelease(
      within(
        Effect.callback<Connection, Failed>((resume) => {
          const created = snowflake.createConnection(connectionOptions(config, credentials))
          created.connect((error) => {
            resume(error === undefined || error === null ? Effect.succeed(created) : Effect.fail(errorOf(error, login)))
          })
        }),
        limits.login,
        login
      ),
      (created) =>
        Effect.callback<void>((resume) => created.destroy(() => resume(Effect.void))).pipe(
          Effect.timeoutOption("5 seconds")
        )
    )
    const session: Open = {
      lost: undefined,
      counted: rolledBack.counted,
      execute: (statement) =>
        Telemetry.timedStatement(
          within(
            run(
              connection,
              statement,
              QueryTag.make(pipeline, statement.table, statement.purpose ?? "setup"),
              (code) => {
                if (ErrorPolicy.sql(code, undefined).reason === "Unreachable") session.lost = code
              }
            ).pipe(
              // It may get to Snowflake later still: after a ROLLBACK it would be done on its own, so the session is closed and not used any more.
              Effect.onInterrupt(() =>
                Effect.sync(() => {
                  session.lost ??= "interrupted"
                })
              )
            ),
            statement.file !== undefined
              ? limits.upload
              : statement.control === true
              ? limits.control
              : limits.statement,
            statement,
            () => {
              session.lost = "timeout"
            }
          ),
          "snowflake",
          statement.sql,
          ({ reason }) => reason
        ),
      transaction: (of, body, committed) =>
        rolledBack.committing(
          of,
          Effect.uninterruptibleMask((restore) =>
            restore(Effect.andThen(session.execute({ ...of, sql: "BEGIN", control: true }), body)).pipe(
              Effect.andThen(session.execute({ ...of, sql: "COMMIT", control: true })),
              Effect.andThen(Effect.sync(() => committed?.())),
              Effect.onExit((exit) =>
                // A lost session is closed, which rolls back as well.
                Exit.isSuccess(exit) || session.lost !== undefined ? Effect.void : session.execute({
                  ...of,
                  sql: "ROLLBACK"
                }).pipe(
                  Effect.timeout("10 seconds"),
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
        )
    }
    yield* session.execute({
      what: "Setting session parameters",
      // Everything that an account, a user or a client could have set otherwise and that changes what our statements mean.
      sql: "ALTER SESSION SET TIMEZONE = 'UTC', AUTOCOMMIT = TRUE, QUOTED_IDENTIFIERS_IGNORE_CASE = FALSE, " +
        "DATE_INPUT_FORMAT = 'AUTO', TIME_INPUT_FORMAT = 'AUTO', TIMESTAMP_INPUT_FORMAT = 'AUTO'",
      control: true
    })
    const { rows } = yield* session.execute({
      what: "Looking at the session",
      control: true,
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
  pipeline: string,
  limits: Limits = defaultLimits
): Effect.fn.Return<Connected, never, Scope.Scope> {
  const rolledBack = yield* RolledBack.make(config, pipeline)
  const pool = yield* Pool.makeWithTTL({
    acquire: connect(config, credentials, pipeline, limits, rolledBack),
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
      return yield* rolledBack.counted(
        statement,
        Effect.flatMap(
          attempt(statement),
          (first) => first === undefined ? lend((session) => session.execute(statement)) : Effect.succeed(first)
        )
      )
    }),
    use: lend,
    raiseIn: rolledBack.raiseIn
  }
})
