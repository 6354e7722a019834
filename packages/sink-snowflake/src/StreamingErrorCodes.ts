/**
 * The codes of Snowpipe Streaming's errors, and what each of them means: data, which `StreamingErrors` looks up.
 *
 * They are those of the REST API and of channel statuses, the names that the official SDK gives its errors, and the numbers that an append's answer can carry in
 * `status_code`.
 *
 * @see https://docs.snowflake.com/en/user-guide/snowpipe-streaming/snowpipe-streaming-high-performance-error-handling
 */
import type { Policy } from "./ErrorPolicy.ts"

/** A code or SDK name, and what it means. */
export interface Entry {
  readonly code: string
  /** What `status_code` says instead of the code. */
  readonly number?: number
  readonly meaning: string
  readonly policy: Policy
  /** What to do about it when it comes as the answer to opening a channel. */
  readonly atOpen?: Policy
}

export const retry: Policy = {
  action: "retry",
  reason: "Unreachable",
  hint: "Snowflake is temporarily unavailable. The pipeline goes on from its last durable position."
}
const throttled: Policy = {
  action: "retry",
  reason: "Throttled",
  hint: "Snowflake asks for patience. The pipeline slows down by itself."
}
export const reopen: Policy = {
  action: "reopen",
  reason: "Fenced",
  hint:
    "The pipeline reopens the channel and goes on after its committed offset. If it happens again and again, look for a second runner of the same pipeline."
}
const waiting: Policy = {
  action: "retry",
  reason: "Fenced",
  hint: "An earlier writer's rows are still being committed. The pipeline tries again."
}
export const split: Policy = {
  action: "split",
  reason: "Rejected",
  hint: "The request is larger than Snowflake takes; the sink sends it in halves, and a single row by COPY."
}
const badRow: Policy = {
  action: "dead-letter",
  reason: "Rejected",
  hint:
    "Snowflake refuses a row. Look at the named change at the source; ERROR_TABLE of the journal has it too when ERROR_LOGGING is on."
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
const role: Policy = { ...forbidden, hint: "Grant the role to the sink's user, or name another one in `role`." }
const missing: Policy = {
  action: "stop",
  reason: "Missing",
  hint: "Check database and schema names in the sink's options, and the role's privileges on them."
}
const missingTable: Policy = {
  action: "quarantine",
  reason: "Missing",
  hint: "Check that the journal table exists and that the sink's role owns it (the default pipe is made from it)."
}
const unsuitable: Policy = {
  action: "quarantine",
  reason: "Unsupported",
  hint:
    "Snowpipe Streaming doesn't take rows for this table as it is. Look at its definition (SHOW CHANNELS, DESCRIBE TABLE); drop the journal table to have it made anew."
}
const invalidPipe: Policy = {
  action: "quarantine",
  reason: "Rejected",
  hint:
    "The table's pipe is unusable, which happens after its table was dropped and created again. Drop the pipe or the journal table, and have the table copied again."
}
const tooMany: Policy = {
  action: "quarantine",
  reason: "Rejected",
  hint: "Drop channels that are no longer used (SHOW CHANNELS), or ask Snowflake's support for a higher limit."
}
const misconfigured: Policy = {
  action: "stop",
  reason: "Misconfigured",
  hint: "Check the sink's options: account, url, user, role and auth."
}
export const defect: Policy = {
  action: "stop",
  reason: "Protocol",
  hint: "Snowflake doesn't understand this version's requests. Update the sink, or report it with the code."
}
const coding: Policy = {
  action: "stop",
  reason: "Protocol",
  hint:
    "Snowflake, or a proxy before it, refuses the compression or the media type of requests. Look for a proxy that changes them, or report it."
}
export const refused: Policy = {
  action: "quarantine",
  reason: "Rejected",
  hint: "Look at the channel's errors in Snowflake (SHOW CHANNELS, ERROR_TABLE)."
}
const outdated: Policy = { ...defect, hint: "Update the sink: Snowflake no longer takes this version's requests." }

/** Every code that documentation or a public client names. */
export const entries: ReadonlyArray<Entry> = [
  // ---- the channel is no longer this writer's, or no longer valid
  {
    code: "STALE_CONTINUATION_TOKEN_SEQUENCER",
    meaning: "another writer opened the channel, or an append was taken whose answer was lost",
    policy: reopen
  },
  {
    code: "ERR_CHANNEL_NO_LONGER_EXISTS",
    number: 19,
    meaning: "the channel was deleted, most likely after 30 idle days",
    policy: reopen
  },
  {
    code: "ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER",
    number: 20,
    meaning: "another writer owns the channel",
    policy: reopen
  },
  {
    code: "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER",
    number: 21,
    meaning: "an append came out of order",
    policy: reopen
  },
  {
    code: "ERR_OTHER_CHANNEL_IN_CHUNK_HAS_ISSUE",
    number: 22,
    meaning: "another channel's trouble keeps this one from writing",
    policy: reopen
  },
  {
    code: "ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED",
    number: 25,
    meaning: "the channel is gone, or was never opened",
    policy: reopen,
    atOpen: missingTable
  },
  { code: "ERR_CHANNEL_MUST_BE_REOPENED", number: 36, meaning: "the channel can't be used any more", policy: reopen },
  {
    code: "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP",
    meaning: "accepted rows were lost before they were committed",
    policy: reopen
  },
  {
    code: "ERR_MISSING_COLUMN_IN_EP_INFO",
    number: 40,
    meaning: "the table's columns changed under the channel",
    policy: reopen
  },
  {
    code: "STALE_PIPE_CACHE",
    meaning: "the pipe was dropped and made again",
    policy: reopen,
    atOpen: { ...retry, hint: "The table's pipe was made anew, which Snowflake needs a moment for." }
  },
  {
    code: "ERR_DEPLOYMENT_ID_MISMATCH",
    number: 58,
    meaning: "the account moved to another deployment",
    policy: reopen,
    atOpen: retry
  },
  { code: "ERR_INVALID_ENCRYPTION_KEY", number: 59, meaning: "the account's key was changed", policy: reopen },
  // ---- the table or its pipe
  {
    code: "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED",
    number: 4,
    meaning: "the table is gone, or the role may not see it",
    policy: reopen,
    atOpen: missingTable
  },
  {
    code: "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED",
    meaning: "the pipe is gone, or the role may not see it",
    policy: reopen,
    atOpen: missingTable
  },
  {
    code: "ERR_PIPE_IN_INVALID_STATE",
    meaning: "the pipe can't load the table, for example because that was created again, or is a view",
    policy: invalidPipe
  },
  {
    code: "ERR_CHANNEL_LIMIT_EXCEEDED_FOR_TABLE",
    number: 5,
    meaning: "the table, or its pipe, has as many channels as Snowflake allows",
    policy: tooMany
  },
  {
    code: "ERR_TABLE_OR_COLUMN_TYPE_NOT_SUPPORTED",
    number: 6,
    meaning: "the kind of table, or the type of a column, can't be streamed into",
    policy: unsuitable
  },
  {
    code: "ERR_RESOLVED_TABLE_IS_READ_ONLY",
    number: 47,
    meaning: "the table is read-only (a replica, or a shared table)",
    policy: unsuitable
  },
  {
    code: "ERR_INGESTION_ON_TABLE_NOT_ALLOWED",
    number: 49,
    meaning: "Snowflake doesn't allow streaming into the table now",
    policy: { ...unsuitable, hint: "Ask Snowflake's support why streaming into the table isn't allowed." }
  },
  // ---- names and privileges
  {
    code: "ERR_DATABASE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED",
    number: 8,
    meaning: "the database is gone, or the role may not see it",
    policy: missing
  },
  {
    code: "ERR_SCHEMA_DOES_NOT_EXIST_OR_NOT_AUTHORIZED",
    number: 9,
    meaning: "the schema is gone, or the role may not see it",
    policy: missing
  },
  { code: "390144", meaning: "the key-pair token proves nothing", policy: refresh },
  { code: "390303", meaning: "the access token isn't valid", policy: refresh },
  { code: "390318", meaning: "the access token has expired", policy: refresh },
  { code: "394400", meaning: "the programmatic access token isn't valid", policy: refresh },
  { code: "390189", meaning: "the role isn't granted to the user", policy: role },
  { code: "390186", meaning: "the role doesn't exist, or isn't granted to the user", policy: role },
  {
    code: "390422",
    meaning: "a network policy keeps this address out",
    policy: { ...forbidden, hint: "A network policy of the account keeps this address out." }
  },
  // ---- rows
  {
    code: "ERR_MALFORMED_ROWS",
    meaning: "a row of the request can't be read",
    policy: badRow
  },
  { code: "ERR_PAYLOAD_TOO_LARGE", meaning: "the request has more than 4 MB as sent", policy: split },
  { code: "ERR_UNSUPPORTED_MEDIA_TYPE", meaning: "the compression or the media type isn't taken", policy: coding },
  // ---- transient
  {
    code: "ERR_CHANNEL_HAS_UNCOMMITTED_DATA",
    meaning: "rows of an earlier writer are accepted and not committed yet",
    policy: waiting
  },
  { code: "ERR_OPEN_CHANNEL_IN_PROGRESS", meaning: "the channel is being opened by another request", policy: retry },
  {
    code: "ERR_GENERAL_EXCEPTION_RETRY_REQUEST",
    number: 10,
    meaning: "a transient error inside Snowflake",
    policy: retry
  },
  {
    code: "ERR_ENQUEUE_TABLE_CHUNK_QUEUE_FULL",
    number: 7,
    meaning: "the table has too much under way",
    policy: throttled
  },
  // ---- requests that Snowflake doesn't understand
  { code: "ERR_INVALID_REQUEST", meaning: "the request isn't understood", policy: defect },
  {
    code: "ERR_OUTDATED_CLIENT_SDK_VERSION",
    number: 43,
    meaning: "the client is too old",
    policy: outdated
  },
  // ---- names of the official SDK's errors
  { code: "ConfigError", meaning: "SDK: its options or profile are wrong", policy: misconfigured },
  { code: "InvalidRequest", meaning: "SDK: Snowflake doesn't understand the request", policy: defect },
  {
    code: "InvalidArgument",
    meaning: "SDK: a row or an argument that it doesn't take",
    policy: badRow,
    atOpen: defect
  },
  { code: "SfApiUserError", meaning: "SDK: Snowflake refuses the request", policy: refused },
  { code: "NotImplemented", meaning: "SDK: it can't do that", policy: outdated },
  { code: "HttpClientNonRetryableError", meaning: "SDK: a request failed and would again", policy: refused },
  {
    code: "SfApiPipeFailedOverError",
    meaning: "SDK: the account failed over (HTTP 410)",
    policy: reopen,
    atOpen: retry
  },
  { code: "ChannelAlreadyExists", meaning: "SDK: the channel is open in this client already", policy: reopen },
  { code: "AuthTokenError", meaning: "SDK: no token could be had", policy: refresh },
  { code: "SfApiAuthError", meaning: "SDK: Snowflake refuses the credentials", policy: refresh },
  { code: "ChannelNotFound", meaning: "SDK: the channel is gone", policy: reopen, atOpen: missingTable },
  { code: "ChannelWaitForFlushTimeout", meaning: "SDK: rows weren't sent in time", policy: throttled },
  { code: "ClientWaitForFlushTimeout", meaning: "SDK: rows weren't sent in time", policy: throttled },
  { code: "ClosedChannelError", meaning: "SDK: the channel is closed", policy: reopen },
  { code: "ClosedClientError", meaning: "SDK: the client is closed", policy: reopen },
  { code: "ChannelClosedByUser", meaning: "SDK: the channel is closed", policy: reopen },
  { code: "InvalidChannelError", meaning: "SDK: the channel isn't valid any more", policy: reopen },
  { code: "InvalidClientError", meaning: "SDK: the client isn't valid any more", policy: reopen, atOpen: retry },
  { code: "InputChannelClosed", meaning: "SDK: it is ending", policy: reopen },
  { code: "OutputChannelClosed", meaning: "SDK: it is ending", policy: reopen },
  { code: "ReceiverSaturated", meaning: "more than Snowflake takes at the moment", policy: throttled },
  { code: "MemoryThresholdExceeded", meaning: "SDK: its share of memory is in use", policy: throttled },
  { code: "MemoryThresholdExceededInContainer", meaning: "SDK: the container's memory is in use", policy: throttled },
  { code: "Fatal", meaning: "SDK: it can't go on", policy: reopen, atOpen: refused },
  { code: "NonFatal", meaning: "SDK: an error of its own", policy: retry },
  { code: "MutexLockFailed", meaning: "SDK: an error of its own", policy: reopen },
  {
    code: "SfApiUnexpectedBehaviorError",
    meaning: "SDK: an answer that it doesn't understand",
    policy: reopen,
    atOpen: defect
  },
  { code: "SfApiInternalServerError", meaning: "SDK: an error inside Snowflake", policy: retry },
  { code: "FileUploadError", meaning: "SDK: rows couldn't be put into cloud storage", policy: reopen, atOpen: retry },
  {
    code: "HttpRetriesExhaustedError",
    meaning: "SDK: Snowflake couldn't be reached for a while",
    policy: reopen,
    atOpen: retry
  },
  { code: "CloseAllChannelsFailedError", meaning: "SDK: channels couldn't be closed", policy: reopen },
  { code: "HttpRetryableClientError", meaning: "a request failed and may succeed later", policy: retry }
]

/** Numbers of malformed requests, as SDKs of the older architecture could send them. */
export const malformed: ReadonlyArray<number> = [
  11,
  12,
  13,
  14,
  15,
  16,
  17,
  18,
  23,
  24,
  28,
  29,
  30,
  31,
  32,
  33,
  34,
  37,
  38,
  39,
  41,
  42,
  44,
  45,
  46,
  48
]

/** An HTTP status, when no code that is known came with it. */
export interface StatusEntry {
  readonly status: string
  readonly meaning: string
  readonly policy: Policy
}

export const byStatus = {
  unauthorized: { status: "401", meaning: "the token isn't valid, or not any more", policy: refresh },
  forbidden: { status: "403", meaning: "the role lacks a privilege, or the address isn't let in", policy: forbidden },
  noRoute: {
    status: "404 without a code",
    meaning: "nothing answers at this address at the moment (a load balancer's answer)",
    policy: {
      ...retry,
      hint: "Check the account name (or `url`). Right after an account's failover Snowflake answers so for a while."
    }
  },
  missing: { status: "404", meaning: "the table, its pipe or the channel is gone", policy: missingTable },
  timeout: { status: "408", meaning: "the request took too long", policy: retry },
  conflict: { status: "409", meaning: "the channel isn't valid any more", policy: reopen },
  failedOver: { status: "410", meaning: "the account failed over", policy: reopen },
  tooLarge: { status: "413", meaning: "the request is too large, whatever the code says", policy: split },
  coding: { status: "415", meaning: "the compression or the media type isn't taken", policy: coding },
  badRow: { status: "422", meaning: "a row of the request isn't taken", policy: badRow },
  throttled: { status: "429", meaning: "too many requests, or too many bytes", policy: throttled },
  unavailable: { status: "5xx", meaning: "Snowflake is unavailable", policy: retry },
  other: { status: "others", meaning: "the request is refused", policy: refused }
} as const satisfies Readonly<Record<string, StatusEntry>>
