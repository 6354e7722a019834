/**
 * What each error of Snowflake means: one table from error to action, reason and hint.
 *
 * The streaming API answers with an HTTP status and a code, the driver with a code and an SQLSTATE. Both come here to be told
 * apart; nothing else in this package looks at codes. Server messages may quote values of rows, so they are only passed on
 * where they can't (logins, names of objects, statements without rows).
 */
import * as ConnectorError from "@etl-stream/core/ConnectorError"

/** This plugin's name. */
export const plugin = "@etl-stream/sink-snowflake"

/**
 * `retry`: the same request may succeed later; `refresh`: get a new token, then once more; `reopen`: the channel is no
 * longer ours or no longer valid, so the run ends (`Fenced`) and the next one opens it anew; `split`: send less at once;
 * `stop`: somebody has to do something.
 */
export type Action = "retry" | "refresh" | "reopen" | "split" | "stop"

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
const throttled: Policy = {
  action: "retry",
  reason: "Throttled",
  hint: "Snowflake asks for patience. The pipeline slows down by itself."
}
const reopen: Policy = {
  action: "reopen",
  reason: "Fenced",
  hint:
    "The pipeline reopens the channel and goes on after its committed offset. If it happens again and again, look for a second runner of the same pipeline."
}
const split: Policy = {
  action: "split",
  reason: "Rejected",
  hint: "The request is larger than Snowflake takes. Lower the sink's batch size."
}
const refresh: Policy = {
  action: "refresh",
  reason: "Unauthorized",
  hint:
    "Check account, user and auth of the sink; DESC USER shows the fingerprint of the public key that Snowflake knows."
}
const forbidden: Policy = {
  action: "stop",
  reason: "Forbidden",
  hint:
    "Grant the sink's role what it needs: USAGE on the database and schemas, CREATE TABLE, CREATE STAGE and CREATE PIPE in them, ownership of the tables."
}
const missing: Policy = {
  action: "stop",
  reason: "Missing",
  hint: "Check database, schema and table names in the sink's options, and the role's privileges on them."
}
const refused: Policy = {
  action: "stop",
  reason: "Rejected",
  hint: "Look at the channel's errors in Snowflake (SHOW CHANNELS, ERROR_TABLE)."
}

const streamingCodes: Readonly<Record<string, Policy>> = {
  STALE_CONTINUATION_TOKEN_SEQUENCER: reopen,
  ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER: reopen,
  ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER: reopen,
  ERR_CHANNEL_MUST_BE_REOPENED: reopen,
  ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP: reopen,
  ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED: reopen,
  STALE_PIPE_CACHE: reopen,
  ERR_CHANNEL_HAS_UNCOMMITTED_DATA: {
    action: "retry",
    reason: "Fenced",
    hint: "An earlier writer's rows are still being committed. The pipeline tries again."
  },
  ERR_OPEN_CHANNEL_IN_PROGRESS: retry,
  ERR_GENERAL_EXCEPTION_RETRY_REQUEST: retry,
  ERR_PIPE_IN_INVALID_STATE: refused,
  ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED: missing,
  ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED: missing,
  ReceiverSaturated: throttled,
  MemoryThresholdExceeded: throttled,
  MemoryThresholdExceededInContainer: throttled,
  HttpRetryableClientError: retry,
  "390144": refresh,
  "390189": { ...forbidden, hint: "Grant the role to the sink's user, or name another one." }
}

/** What to do about an answer of the streaming API. `code` is undefined when the body named none. */
export const streaming = (status: number, code: string | undefined): Policy => {
  // Whatever the code says: the same request would be as large again.
  if (status === 413) return split
  const known = code === undefined ? undefined : streamingCodes[code]
  if (known !== undefined) return known
  if (status === 401) return refresh
  if (status === 403) return forbidden
  if (status === 404) return missing
  if (status === 410) return reopen
  if (status === 429) return throttled
  if (status === 408 || status >= 500) return retry
  return refused
}

/** Whether a `channel_status_code` says that the channel works. */
export const isHealthy = (channelStatusCode: string): boolean =>
  channelStatusCode === "SUCCESS" || channelStatusCode === "ACTIVE" || channelStatusCode === "0"

/** What to do about a channel whose status is not healthy. */
export const channelStatus = (channelStatusCode: string): Policy => streamingCodes[channelStatusCode] ?? reopen

/** Code for uploads to the stage that failed, which the driver reports without one. */
export const uploadFailed = "upload"

const credentials: Policy = { ...refresh, action: "stop" }

const sqlCodes: Readonly<Record<string, Policy>> = {
  "390100": credentials,
  "390101": credentials,
  "390102": credentials,
  "390144": credentials,
  "390303": credentials,
  "390318": credentials,
  "394400": credentials,
  "390186": { ...forbidden, hint: "Grant the role to the sink's user, or name another one in `role`." },
  "390189": { ...forbidden, hint: "Grant the role to the sink's user, or name another one in `role`." },
  "390201": {
    ...missing,
    hint: "Check warehouse, database and schema in the sink's options, and the role's privileges on them."
  },
  "390422": { ...forbidden, hint: "A network policy of the account keeps this address out." },
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
  "000606": { ...missing, hint: "Name a warehouse in `warehouse` that exists and that the role may use." },
  "000604": retry,
  "000605": retry,
  "000625": retry,
  "002003": missing,
  "002043": missing,
  "003001": forbidden
}

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
  if (sqlState === "57P03") return sqlCodes["000606"] ?? missing
  // The driver's own codes: 401xxx network, 402xxx unexpected answers, 404xxx options, 405xxx and 407xxx connection states.
  if (/^40[157]\d{3}$/.test(padded) || isNetwork(code)) {
    return { ...retry, hint: "Check the account name (or `url`) and the network between here and Snowflake." }
  }
  if (/^402\d{3}$/.test(padded)) return retry
  if (/^404\d{3}$/.test(padded)) return { action: "stop", reason: "Misconfigured", hint: "Check the sink's options." }
  return {
    action: "stop",
    reason: "Rejected",
    hint: "Look up the query in Snowflake's query history (query tag etl-stream)."
  }
}

/** Whether an error of the driver says that the session is gone while the statement was never run. */
export const isSessionGone = (code: string): boolean =>
  code === "390111" || code === "390112" || code === "390114" || code === "407002"
