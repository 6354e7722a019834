/**
 * What goes wrong with the configuration database, as a connector's error: a reason for scripts, a message and a hint for people.
 *
 * Messages of the server are passed on only where they can't quote what rows hold.
 */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { isSqlError, type SqlError } from "effect/sql/SqlError"

const plugin = "configuration database"

export const databaseError = (reason: Reason, message: string, hint: string, cause?: unknown): ConnectorError =>
  new ConnectorError({ reason, plugin, message, hint, ...(cause === undefined ? {} : { cause }) })

const field = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined

/** The SQLSTATE in `cause` or in what caused it. */
const sqlState = (cause: unknown): string | undefined => {
  let inner = cause
  for (let depth = 0; depth < 5 && inner !== undefined; depth++) {
    const code = field(inner, "code")
    if (typeof code === "string" && /^[0-9A-Z]{5}$/.test(code)) return code
    inner = field(inner, "cause") ?? field(inner, "fields")
  }
  return undefined
}

const messageOf = (cause: unknown): string => {
  const message = field(cause, "message")
  return typeof message === "string" && message !== "" ? (message.split("\n")[0] ?? message).replace(/\.$/, "") : ""
}

const quoted = (message: string, cause: unknown): string => {
  const detail = messageOf(cause)
  return detail === "" ? `${message}.` : `${message}: ${detail}.`
}

const privileges = "Give the role what it needs: see docs/configuration-database.md, \"Roles\"."

export const fromSql = (error: SqlError): ConnectorError => {
  const { cause } = error.reason
  const state = sqlState(cause)
  switch (state) {
    case "3D000":
      return databaseError(
        "Missing",
        quoted("The configuration database does not exist", cause),
        "Create it, or correct the URL.",
        error
      )
    case "3F000":
    case "42P01":
    case "42703":
      return databaseError(
        "Missing",
        "The tables of the configuration database are not there, or not as they should be.",
        "Let a role that may create them run `etl-stream apply` once.",
        error
      )
    case "25006":
      return databaseError(
        "Misconfigured",
        "The configuration database is read-only.",
        "Give the URL of the primary: what is wrong with a row is written back to it.",
        error
      )
  }
  switch (error.reason._tag) {
    case "AuthenticationError":
      return databaseError(
        "Unauthorized",
        quoted("The configuration database refuses the login", cause),
        "Correct the user and password in its URL.",
        error
      )
    case "AuthorizationError":
      return databaseError("Forbidden", quoted("The configuration database refuses", cause), privileges, error)
    case "SerializationError":
    case "DeadlockError":
    case "LockTimeoutError":
    case "StatementTimeoutError":
      return databaseError(
        "Throttled",
        "Somebody else changes the configuration database at this moment.",
        "Try again.",
        error
      )
    case "ConnectionError":
      return unreachable(quoted("The configuration database can't be reached", cause), error)
    default:
      // Shut down, starting, too many connections: it says so by these classes.
      return state !== undefined && /^(57P|53)/.test(state)
        ? unreachable(quoted("The configuration database can't be reached", cause), error)
        : databaseError(
          "Protocol",
          `The configuration database answers with an error${state === undefined ? "" : ` (SQLSTATE ${state})`}.`,
          "Its log says more. Report it if the tables are as etl-stream made them.",
          error
        )
  }
}

const unreachable = (message: string, cause: unknown): ConnectorError =>
  databaseError("Unreachable", message, "Check that it runs, and the host, port and TLS in its URL.", cause)

/** An answer that didn't come in time. */
export const silent = (): ConnectorError =>
  unreachable("The configuration database does not answer in time.", undefined)

/**
 * Turns defects into errors: a transaction that can't be rolled back, because its connection is gone, ends in one. What failed before it is the error then.
 */
export const withoutDefects = <A, R>(use: Effect.Effect<A, ConnectorError, R>): Effect.Effect<A, ConnectorError, R> =>
  Effect.catchCause(use, (cause) => {
    if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
    return Option.match(Cause.findErrorOption(cause), {
      onSome: (error) => Effect.fail(error),
      onNone: () => {
        const defect = Cause.squash(cause)
        return Effect.fail(
          isSqlError(defect)
            ? fromSql(defect)
            : databaseError(
              "Protocol",
              "Something unexpected happened on the way to the configuration database.",
              "This is a bug. Run again with `--log-level debug` to see where it comes from, and report it.",
              defect
            )
        )
      }
    })
  })
