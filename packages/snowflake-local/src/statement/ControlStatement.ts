/**
 * Statements about the session itself: USE, ALTER SESSION, SET, and transactions.
 */
import * as Effect from "effect/Effect"
import * as ConnectionUse from "../ConnectionUse.ts"
import * as ResultRows from "../ResultRows.ts"
import * as Session from "../Session.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Cursor } from "../sql/Cursor.ts"
import * as Expression from "../sql/Expression.ts"
import * as Literal from "../sql/Literal.ts"
import * as Query from "../sql/Query.ts"
import * as Privileges from "./Privileges.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

const done = (kind: string): Outcome => ({
  kind,
  typeId: Statement.typeIds.control,
  result: ResultRows.status("Statement executed successfully.")
})

/** Session parameters that may be set, with what they are before. */
export const parameterDefaults: ReadonlyMap<string, string> = new Map([
  ["AUTOCOMMIT", "true"],
  ["BINARY_INPUT_FORMAT", "HEX"],
  ["BINARY_OUTPUT_FORMAT", "HEX"],
  ["CLIENT_PREFETCH_THREADS", "4"],
  ["CLIENT_SESSION_KEEP_ALIVE", "false"],
  ["CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "3600"],
  ["CLIENT_TELEMETRY_ENABLED", "false"],
  ["DATE_INPUT_FORMAT", "AUTO"],
  ["DATE_OUTPUT_FORMAT", "YYYY-MM-DD"],
  ["ERROR_ON_NONDETERMINISTIC_MERGE", "true"],
  ["ERROR_ON_NONDETERMINISTIC_UPDATE", "false"],
  ["JS_TREAT_INTEGER_AS_BIGINT", "false"],
  ["LOCK_TIMEOUT", "43200"],
  ["MULTI_STATEMENT_COUNT", "1"],
  ["QUERY_TAG", ""],
  ["QUOTED_IDENTIFIERS_IGNORE_CASE", "false"],
  ["STATEMENT_TIMEOUT_IN_SECONDS", "172800"],
  ["TIMESTAMP_INPUT_FORMAT", "AUTO"],
  ["TIMESTAMP_LTZ_OUTPUT_FORMAT", ""],
  ["TIMESTAMP_NTZ_OUTPUT_FORMAT", "YYYY-MM-DD HH24:MI:SS.FF3"],
  ["TIMESTAMP_OUTPUT_FORMAT", "YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM"],
  ["TIMESTAMP_TYPE_MAPPING", "TIMESTAMP_NTZ"],
  ["TIMESTAMP_TZ_OUTPUT_FORMAT", ""],
  ["TIMEZONE", "America/Los_Angeles"],
  ["TIME_INPUT_FORMAT", "AUTO"],
  ["TIME_OUTPUT_FORMAT", "HH24:MI:SS"],
  ["TRANSACTION_ABORT_ON_ERROR", "false"],
  ["WEEK_START", "0"]
])

/** Parameters whose other values this server doesn't act on; saying yes to them would be a lie. */
const fixed = new Set([
  "AUTOCOMMIT",
  "BINARY_INPUT_FORMAT",
  "DATE_INPUT_FORMAT",
  "ERROR_ON_NONDETERMINISTIC_MERGE",
  "ERROR_ON_NONDETERMINISTIC_UPDATE",
  "QUOTED_IDENTIFIERS_IGNORE_CASE",
  "TIMESTAMP_INPUT_FORMAT",
  "TIMESTAMP_TYPE_MAPPING",
  "TIME_INPUT_FORMAT",
  "TRANSACTION_ABORT_ON_ERROR"
])

/** Throws for a parameter that isn't one, or a value that this server doesn't act on. */
export const checkParameter = (name: string, value: string): void => {
  const before = parameterDefaults.get(name)
  if (before === undefined) throw SnowflakeError.invalidOption(`invalid parameter '${name}'`)
  if (fixed.has(name) && value.toUpperCase() !== before.toUpperCase()) {
    throw SnowflakeError.unsupported(`${name} = ${value}`)
  }
}

/** Sets a session parameter; the time zone is DuckDB's too. */
export const setParameter = (session: Session.Session, name: string, value: string): Run<void> =>
  Effect.gen(function*() {
    yield* Statement.parse(() => checkParameter(name, value))
    if (name === "TIMEZONE") {
      yield* ConnectionUse.use(
        session.connection,
        () => session.connection.run(`SET TimeZone = ${Literal.string(value)}`),
        (cause) =>
          cause instanceof Error && /unknown timezone/i.test(cause.message)
            ? SnowflakeError.invalidOption(`invalid value ['${value}'] for parameter 'TIMEZONE'`)
            : Statement.duckdbFailure(cause)
      )
    }
    session.parameters.set(name, value)
  })

const value = (cursor: Cursor): string => {
  const token = cursor.next()
  if (token.kind === "group" || token.kind === "op" || token.kind === "stage") {
    throw SnowflakeError.syntax("syntax error: a value is expected.")
  }
  return token.text
}

export const alterSession = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const changes = yield* Statement.parse(() => {
      cursor.expect("ALTER", "SESSION")
      const out: Array<readonly [string, string | undefined]> = []
      if (cursor.accept("UNSET")) {
        do out.push([cursor.identifier(), undefined])
        while (cursor.acceptOp(","))
      } else {
        cursor.expect("SET")
        while (!cursor.done) {
          const name = cursor.identifier()
          cursor.expectOp("=")
          out.push([name, value(cursor)])
          cursor.acceptOp(",")
        }
      }
      cursor.end()
      return out
    })
    for (const [name, given] of changes) {
      yield* setParameter(context.session, name, given ?? parameterDefaults.get(name) ?? "")
    }
    return done("ALTER_SESSION")
  })

export const use = (context: StatementContext): Run<Outcome> =>
  Statement.parse(() => {
    const cursor = Statement.cursorOf(context)
    const { services, session } = context
    const { catalog } = services
    cursor.expect("USE")
    if (cursor.accept("WAREHOUSE")) {
      const name = cursor.identifier()
      if (!Privileges.usesWarehouse(context, name)) throw SnowflakeError.useNotFound()
      session.warehouse = name
    } else if (cursor.accept("ROLE")) {
      const name = cursor.identifier()
      if (!services.grants.rolesOf(session.user).includes(name)) throw SnowflakeError.useNotFound()
      session.role = name
    } else if (cursor.accept("SECONDARY", "ROLES")) {
      cursor.rest()
    } else if (cursor.accept("DATABASE")) {
      const name = cursor.identifier()
      if (!catalog.hasDatabase(name)) throw SnowflakeError.useNotFound()
      session.database = name
      session.schema = catalog.hasSchema(name, "PUBLIC") ? "PUBLIC" : undefined
    } else {
      const explicit = cursor.accept("SCHEMA")
      const path = cursor.path()
      const [first = "", second] = path
      if (second === undefined && !explicit) {
        if (!catalog.hasDatabase(first)) throw SnowflakeError.useNotFound()
        session.database = first
        session.schema = catalog.hasSchema(first, "PUBLIC") ? "PUBLIC" : undefined
      } else {
        const database = second === undefined ? session.database : first
        const schema = second ?? first
        if (database === undefined) throw SnowflakeError.noCurrentDatabase()
        if (!catalog.hasSchema(database, schema)) throw SnowflakeError.useNotFound()
        session.database = database
        session.schema = schema
      }
    }
    cursor.end()
    return done("USE")
  })

/** SET name = expression, and UNSET. */
export const setVariable = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const plan = yield* Statement.parse(() => {
      if (cursor.accept("UNSET")) return { name: cursor.identifier(), sql: undefined }
      cursor.expect("SET")
      const name = cursor.identifier()
      cursor.expectOp("=")
      return { name, sql: Expression.write(cursor.rest(), Query.scopeOf(Statement.environment(context))).sql }
    })
    if (plan.sql === undefined) context.session.variables.delete(plan.name)
    else {
      const [row] = yield* Statement.rows(context, `SELECT CAST(${plan.sql} AS VARCHAR), typeof(${plan.sql})`)
      const [text, type] = row ?? []
      const literal = text === null || text === undefined
        ? "NULL"
        : /^(DECIMAL|INTEGER|BIGINT|HUGEINT|DOUBLE)/.test(String(type))
        ? String(text)
        : Literal.string(String(text))
      context.session.variables.set(plan.name, literal)
    }
    return done("SET")
  })

export const begin = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    yield* Statement.parse(() => {
      if (!cursor.accept("START", "TRANSACTION")) {
        cursor.expect("BEGIN")
        if (!cursor.accept("TRANSACTION")) cursor.accept("WORK")
      }
      if (cursor.accept("NAME")) cursor.identifier()
      cursor.end()
    })
    yield* Session.begin(context.session, String(context.now))
    return done("BEGIN")
  })

export const commit = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    yield* Statement.parse(() => {
      cursor.expect("COMMIT")
      cursor.accept("WORK")
      cursor.end()
    })
    yield* Session.committing(context.session, Session.commit(context.session, context.services.locks))
    return done("COMMIT")
  })

export const rollback = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    yield* Statement.parse(() => {
      cursor.expect("ROLLBACK")
      cursor.accept("WORK")
      cursor.end()
    })
    yield* Session.rollback(context.session, context.services.locks)
    return done("ROLLBACK")
  })
