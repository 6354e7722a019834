/**
 * The bodies of answers of the streaming API, in the documented form and in the others that have been seen.
 *
 * A refusal names its code in `code` or `error_code`, as a bare JSON string, or as plain text; proxies and load balancers answer with HTML or nothing. What
 * isn't shaped like a code is never passed on: it may quote values of rows.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

const maybeCode = Schema.optionalKey(Schema.NullOr(Schema.Union([Schema.String, Schema.Finite])))
const RefusalBody = Schema.fromJsonString(Schema.Union([
  Schema.String,
  Schema.Struct({ code: maybeCode, error_code: maybeCode })
]))
const decodeRefusal = Schema.decodeOption(RefusalBody)

/** Upper case with underscores, camel case as the SDK's names, or digits. */
const inField = /^(?:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*|(?:[A-Z][a-z]+)+|\d{1,6})$/
/** A text that is nothing but a code. */
const alone = /^(?:ERR|STALE)_[A-Z0-9_]+$/

const matching = (pattern: RegExp, text: unknown): string | undefined => {
  const code = String(text)
  return code.length <= 100 && pattern.test(code) ? code : undefined
}

/** The code that the body of a refusal names; undefined when it names none. */
export const codeOf = (body: string): string | undefined => {
  const text = body.trim()
  const parsed = Option.getOrUndefined(decodeRefusal(text))
  return parsed === undefined || typeof parsed === "string"
    ? matching(alone, parsed ?? text)
    : matching(inField, parsed.code) ?? matching(inField, parsed.error_code)
}

/** A `status_code`, when it looks like one. */
export const statusCodeOf = (statusCode: number | string): string | undefined => matching(inField, statusCode)

const count = Schema.optionalKey(Schema.NullOr(Schema.Finite))

const Status = Schema.Struct({
  channel_status_code: Schema.String,
  last_committed_offset_token: Schema.optionalKey(Schema.NullOr(Schema.String)),
  // The documentation has both names.
  rows_error_count: count,
  rows_errors: count,
  last_error_offset_upper_bound: Schema.optionalKey(Schema.NullOr(Schema.String))
})

export const Open = Schema.fromJsonString(
  Schema.Struct({ next_continuation_token: Schema.String, channel_status: Status })
)
const statusCode = Schema.optionalKey(Schema.NullOr(Schema.Union([Schema.Finite, Schema.String])))
export const Append = Schema.fromJsonString(Schema.Struct({
  next_continuation_token: Schema.optionalKey(Schema.NullOr(Schema.String)),
  status_code: statusCode
}))
export const Statuses = Schema.fromJsonString(Schema.Struct({ channel_statuses: Schema.Record(Schema.String, Status) }))
export const Host = Schema.fromJsonString(Schema.Struct({ hostname: Schema.String }))
export const Token = Schema.fromJsonString(Schema.Union([
  Schema.String,
  Schema.Struct({ token: Schema.String }),
  Schema.Struct({ access_token: Schema.String })
]))

export interface ChannelStatus {
  readonly code: string
  readonly committed: string | undefined
  /** Rows that Snowflake skipped since the channel was created. */
  readonly errors: number
  /** Offset token at or before which the last skipped row is. */
  readonly lastError: string | undefined
}

export const statusOf = (status: typeof Status.Type): ChannelStatus => ({
  code: status.channel_status_code,
  committed: status.last_committed_offset_token ?? undefined,
  errors: status.rows_error_count ?? status.rows_errors ?? 0,
  lastError: status.last_error_offset_upper_bound ?? undefined
})
