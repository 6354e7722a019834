/**
 * What each error of the SQL driver means: one table from code and SQLSTATE to action, reason and hint.
 *
 * `StreamingErrors` is the same for the streaming API; nothing else in this package looks at codes. Server messages may quote values of rows, so
 * they are only passed on where they can't (logins, names of objects, statements without rows).
 */
import * as ConnectorError from "@etl-stream/core/ConnectorError"

/** This plugin's name. */
export const plugin = "@etl-stream/sink-snowflake"

/**
 * `retry`: the same request may succeed later; `refresh`: get a new token, then once more; `reopen`: the channel is no
 * longer ours or no longer valid, so the run ends (`Fenced`) and the next one opens it anew; `split`: send less at once;
 * `dead-letter`: a row is refused, and has to be told apart from the others; `quarantine`: this table can't go on; `stop`: nothing can, until
 * somebody does something.
 */
export const actions = ["retry", "refresh", "reopen", "split", "dead-letter", "quarantine", "stop"] as const
export type Action = typeof actions[number]

export interface Policy {
  readonly action: Action
  readonly reason: ConnectorError.Reason
  readonly hint: string
}

/** An error of this plugin. */
export const failure = (
  reason: ConnectorError.Reason,
  message: string,
  hint: string,
  more: { readonly table?: string | undefined; readonly cause?: unknown } = {}
): ConnectorError.ConnectorError =>
  new ConnectorError.ConnectorError({
    reason,
    plugin,
    message,
    hint,
    ...(more.table === undefined ? {} : { table: more.table }),
    ...(more.cause === undefined ? {} : { cause: more.cause })
  })

const retry: Policy = {
  action: "retry",
  reason: "Unreachable",
  hint: "Snowflake is temporarily unavailable. The pipeline goes on from its last durable position."
}
const credentials: Policy = {
  action: "stop",
  reason: "Unauthorized",
  hint:
    "Check account, user and auth of the sink; DESC USER shows the fingerprint of the public key that Snowflake knows."
}
const forbidden: Policy = {
  action: "quarantine",
  reason: "Forbidden",
  hint:
    "Grant the sink's role what it needs: USAGE on the database and schemas, CREATE TABLE, CREATE STAGE and CREATE PIPE in them, ownership of the tables."
}
const missing: Policy = {
  action: "quarantine",
  reason: "Missing",
  hint: "Check database, schema and table names in the sink's options, and the role's privileges on them."
}
const rolledBack: Policy = {
  ...retry,
  hint: "The transaction was rolled back. The pipeline goes on from its last durable position."
}
/** A statement that took too long: nothing of it is done, and its transaction is rolled back by the sink. */
const timedOut: Policy = {
  ...rolledBack,
  hint:
    "The statement took longer than STATEMENT_TIMEOUT_IN_SECONDS of the account, the user or the warehouse allows. The pipeline goes on from its last durable position."
}
/** A lock that was waited for too long. */
const lockedOut: Policy = {
  ...rolledBack,
  hint:
    "Somebody else's transaction held what was needed for longer than LOCK_TIMEOUT allows. The pipeline goes on from its last durable position."
}

/** Classes of SQLSTATE: no such transaction (any more), and a transaction that was rolled back, for a deadlock or because it stood still. */
const wasRolledBack = (sqlState: string | undefined): boolean =>
  sqlState?.startsWith("25") === true || sqlState?.startsWith("40") === true

/** The cause of errors that say that Snowflake rolled a transaction back; it has the SQLSTATE alone. */
class Rollback extends Error {
  override readonly name = "Rollback"
}

/** Whether an error says that Snowflake rolled a transaction back, which passes by itself unless it comes again and again (`RolledBack`). */
export const isRolledBack = ({ cause }: ConnectorError.ConnectorError): boolean => cause instanceof Rollback

/** The cause of an error with this code and SQLSTATE, when there is something to be known by it. */
export const causeOf = (code: string, sqlState: string | undefined): Error | undefined => {
  const policy = sql(code, sqlState)
  return policy === rolledBack || policy === timedOut || policy === lockedOut
    ? new Rollback(`SQLSTATE ${sqlState}`) :
    undefined
}

/** Code for uploads to the stage that failed, which the driver reports without one. */
export const uploadFailed = "upload"

const sqlCodes: Readonly<Record<string, Policy>> = {
  "390100": credentials,
  "390101": credentials,
  "390102": credentials,
  "390144": credentials,
  "390303": credentials,
  "390318": credentials,
  "394400": credentials,
  "390186": { ...forbidden, action: "stop", hint: "Grant the role to the sink's user, or name another one in `role`." },
  "390189": { ...forbidden, action: "stop", hint: "Grant the role to the sink's user, or name another one in `role`." },
  "390201": {
    ...missing,
    action: "stop",
    hint: "Check warehouse, database and schema in the sink's options, and the role's privileges on them."
  },
  "390422": { ...forbidden, action: "stop", hint: "A network policy of the account keeps this address out." },
  "390111": retry,
  "390112": retry,
  "390114": retry,
  "407002": retry,
  // 002002: CREATE of something that DESCRIBE says isn't there.
  "002002": {
    ...forbidden,
    hint: "It is there already, but the sink's role may not see it: grant the role ownership of it (or drop it)."
  },
  "000603": retry,
  // A staged file isn't there: its upload didn't come to an end.
  "091016": retry,
  [uploadFailed]: { ...retry, hint: "Check the network between here and the stage's cloud storage." },
  "000606": {
    ...missing,
    action: "stop",
    hint: "Name a warehouse in `warehouse` that exists and that the role may use."
  },
  "000604": retry,
  "000605": retry,
  // Their SQLSTATE is the one of whatever was cancelled, 57014: one that waited for a lock, a deadlock's victim, and a statement that took too long.
  "000625": lockedOut,
  "000607": rolledBack,
  "000630": timedOut,
  "002003": missing,
  "002043": missing,
  "003001": forbidden
}

/** The codes that are known, for the page about errors. */
export const sqlEntries: ReadonlyArray<readonly [code: string, policy: Policy]> = Object.entries(sqlCodes).sort((
  [a],
  [b]
) => a < b ? -1 : 1)

/**
 * Whether a code is Node's or the HTTP client's for a connection that failed or an answer of 5xx. Others of theirs (ERR_BAD_REQUEST: an
 * answer of 4xx) would be the same again.
 */
const isNetwork = (code: string): boolean =>
  /^(EAI_[A-Z]+|E(CONN|HOST|NET|TIMEDOUT|NOTFOUND|PIPE|PROTO)[A-Z]*|ERR_(NETWORK|BAD_RESPONSE|SOCKET_[A-Z_]+|STREAM_PREMATURE_CLOSE))$/
    .test(code)

/** What to do about an error of the driver: its code (numbers or digits), SQLSTATE and name. */
export const sql = (code: string, sqlState: string | undefined): Policy => {
  const padded = /^\d+$/.test(code) ? code.padStart(6, "0") : code
  const known = sqlCodes[padded]
  if (known !== undefined) return known
  if (sqlState === "42501") return forbidden
  if (sqlState === "42S02" || sqlState === "02000") return missing
  if (sqlState === "XX000") return retry
  if (wasRolledBack(sqlState)) return rolledBack
  if (sqlState === "57P03") return sqlCodes["000606"] ?? missing
  // The driver's own codes: 401xxx network, 402xxx unexpected answers, 404xxx options, 405xxx and 407xxx connection states.
  if (/^40[157]\d{3}$/.test(padded) || isNetwork(code)) {
    return { ...retry, hint: "Check the account name (or `url`) and the network between here and Snowflake." }
  }
  if (/^402\d{3}$/.test(padded)) return retry
  if (/^404\d{3}$/.test(padded)) return { action: "stop", reason: "Misconfigured", hint: "Check the sink's options." }
  return {
    action: "quarantine",
    reason: "Rejected",
    hint: "Look up the query in Snowflake's query history (query tag etl-stream)."
  }
}

/** Whether an error of the driver says that the session is gone while the statement was never run. */
export const isSessionGone = (code: string): boolean =>
  code === "390111" || code === "390112" || code === "390114" || code === "407002"
