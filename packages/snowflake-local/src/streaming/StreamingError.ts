/**
 * The refusals of the streaming endpoints: HTTP status, code and message.
 *
 * The codes are Snowflake's (user-guide/snowpipe-streaming, error handling) where documentation or a public client names them. Where nobody
 * states a refusal's HTTP status, the one chosen here is an assumption. Messages name tables and columns, never a value.
 */
import * as Schema from "effect/Schema"

export class StreamingError extends Schema.TaggedError<StreamingError>()(
  "@etl-stream/snowflake-local/streaming/StreamingError",
  {
    status: Schema.Int,
    code: Schema.String,
    message: Schema.String
  }
) {}

const refusal = (status: number, code: string) => (message: string): StreamingError =>
  new StreamingError({ status, code, message })

/** The request itself is wrong; sending it again unchanged is no use. */
export const badRequest = refusal(400, "ERR_INVALID_REQUEST")
export const malformedRows = refusal(400, "ERR_MALFORMED_ROWS")
/** 391902: seen from Snowflake for requests without an Accept header. */
export const noAccept = refusal(400, "391902")
export const staleContinuationToken = refusal(400, "STALE_CONTINUATION_TOKEN_SEQUENCER")
/** 390144: Snowflake's code for a key-pair JWT that proves nothing. */
export const invalidJwt = refusal(401, "390144")
export const invalidToken = refusal(401, "390303")
export const expiredToken = refusal(401, "390318")
export const roleNotGranted = refusal(403, "390189")
export const notFound = refusal(404, "ERR_NOT_FOUND")
export const noDatabase = refusal(404, "ERR_DATABASE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED")
export const noSchema = refusal(404, "ERR_SCHEMA_DOES_NOT_EXIST_OR_NOT_AUTHORIZED")
export const noPipe = refusal(404, "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED")
export const noTable = refusal(404, "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED")
export const noChannel = refusal(404, "ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED")
export const openInProgress = refusal(409, "ERR_OPEN_CHANNEL_IN_PROGRESS")
export const uncommittedData = refusal(409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA")
export const pipeInvalid = refusal(409, "ERR_PIPE_IN_INVALID_STATE")
export const tooLarge = refusal(413, "ERR_PAYLOAD_TOO_LARGE")
export const unsupportedMedia = refusal(415, "ERR_UNSUPPORTED_MEDIA_TYPE")
export const saturated = refusal(429, "ReceiverSaturated")
export const internal = refusal(500, "ERR_GENERAL_EXCEPTION_RETRY_REQUEST")

/** The channel can't be written to until it is opened again; `code` is its `channel_status_code`. */
export const channelInvalid = (code: string): StreamingError =>
  new StreamingError({
    status: 400,
    code,
    message: "The channel is invalid. Reopen it and resume after its committed offset token."
  })
