/**
 * Each code of the streaming API, in each form that it comes in: what is done about it.
 */
import { assert, describe, it } from "@effect/vitest"
import { isRetryable } from "@etl-stream/core/ConnectorError"
import type { Action, Policy } from "../src/ErrorPolicy.ts"
import { failure } from "../src/ErrorPolicy.ts"
import * as StreamingAnswer from "../src/StreamingAnswer.ts"
import { entries, malformed } from "../src/StreamingErrorCodes.ts"
import * as StreamingErrors from "../src/StreamingErrors.ts"

/** Codes by what is to be done about them, with the HTTP status that they come with. */
const expected: Readonly<Record<Action, ReadonlyArray<readonly [status: number, code: string]>>> = {
  retry: [
    [409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA"],
    [409, "ERR_OPEN_CHANNEL_IN_PROGRESS"],
    [500, "ERR_GENERAL_EXCEPTION_RETRY_REQUEST"],
    [503, "ERR_GENERAL_EXCEPTION_RETRY_REQUEST"],
    [400, "ERR_ENQUEUE_TABLE_CHUNK_QUEUE_FULL"],
    [408, "ChannelWaitForFlushTimeout"],
    [408, "ClientWaitForFlushTimeout"],
    [429, "ReceiverSaturated"],
    [429, "MemoryThresholdExceeded"],
    [429, "MemoryThresholdExceededInContainer"],
    [500, "NonFatal"],
    [500, "SfApiInternalServerError"],
    [503, "HttpRetryableClientError"]
  ],
  refresh: [
    [401, "390144"],
    [401, "390303"],
    [401, "390318"],
    [401, "394400"],
    [401, "AuthTokenError"],
    [401, "SfApiAuthError"]
  ],
  reopen: [
    [400, "STALE_CONTINUATION_TOKEN_SEQUENCER"],
    [400, "ERR_CHANNEL_NO_LONGER_EXISTS"],
    [400, "ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER"],
    [400, "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"],
    [400, "ERR_OTHER_CHANNEL_IN_CHUNK_HAS_ISSUE"],
    [404, "ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED"],
    [409, "ERR_CHANNEL_MUST_BE_REOPENED"],
    [409, "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP"],
    [400, "ERR_MISSING_COLUMN_IN_EP_INFO"],
    [400, "STALE_PIPE_CACHE"],
    [400, "ERR_DEPLOYMENT_ID_MISMATCH"],
    [400, "ERR_INVALID_ENCRYPTION_KEY"],
    [404, "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED"],
    [404, "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"],
    [410, "SfApiPipeFailedOverError"],
    [400, "ChannelAlreadyExists"],
    [404, "ChannelNotFound"],
    [409, "ClosedChannelError"],
    [409, "ClosedClientError"],
    [409, "ChannelClosedByUser"],
    [409, "InvalidChannelError"],
    [409, "InvalidClientError"],
    [409, "InputChannelClosed"],
    [409, "OutputChannelClosed"],
    [500, "Fatal"],
    [500, "MutexLockFailed"],
    [500, "SfApiUnexpectedBehaviorError"],
    [500, "FileUploadError"],
    [500, "HttpRetriesExhaustedError"],
    [500, "CloseAllChannelsFailedError"]
  ],
  split: [[400, "ERR_PAYLOAD_TOO_LARGE"]],
  "dead-letter": [[400, "ERR_MALFORMED_ROWS"], [400, "InvalidArgument"]],
  quarantine: [
    [409, "ERR_PIPE_IN_INVALID_STATE"],
    [400, "ERR_CHANNEL_LIMIT_EXCEEDED_FOR_TABLE"],
    [400, "ERR_TABLE_OR_COLUMN_TYPE_NOT_SUPPORTED"],
    [400, "ERR_RESOLVED_TABLE_IS_READ_ONLY"],
    [400, "ERR_INGESTION_ON_TABLE_NOT_ALLOWED"],
    [400, "SfApiUserError"],
    [400, "HttpClientNonRetryableError"]
  ],
  stop: [
    [404, "ERR_DATABASE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"],
    [404, "ERR_SCHEMA_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"],
    [403, "390189"],
    [403, "390186"],
    [403, "390422"],
    [415, "ERR_UNSUPPORTED_MEDIA_TYPE"],
    [400, "ERR_INVALID_REQUEST"],
    [400, "ERR_OUTDATED_CLIENT_SDK_VERSION"],
    [400, "ConfigError"],
    [400, "InvalidRequest"],
    [400, "NotImplemented"]
  ]
}
const cases = Object.entries(expected).flatMap(([action, codes]) =>
  codes.map(([status, code]) => ({ action, status, code }))
)

/** The forms of a refusal that name a code; bare ones are taken for codes of the REST API only. */
const forms = (code: string): ReadonlyArray<string> => [
  JSON.stringify({ code, message: "row 'x'" }),
  JSON.stringify({ error_code: code, message: "row 'x'" }),
  JSON.stringify({ code, error_code: null, request_id: "r", data: { row: "x" } }),
  JSON.stringify({ code: null, error_code: code }),
  ` ${JSON.stringify({ code })}\n`,
  ...(/^\d+$/.test(code) ? [`{"code":${code}}`] : []),
  ...(/^(ERR|STALE)_/.test(code) ? [JSON.stringify(code), code, `${code}\n`] : [])
]

describe("StreamingErrors", () => {
  it("does what is expected about every code, in every form that it comes in", () => {
    for (const { action, code, status } of cases) {
      for (const body of forms(code)) {
        assert.strictEqual(StreamingAnswer.codeOf(body), code, body)
        assert.strictEqual(StreamingErrors.refusal(status, StreamingAnswer.codeOf(body)).action, action, body)
      }
    }
  })

  it("has no code that no case here tells about, none twice, and a hint and a meaning for each", () => {
    const known = new Set(cases.map(({ code }) => code))
    assert.deepStrictEqual(entries.filter(({ code }) => !known.has(code)), [])
    for (const key of ["code", "number"] as const) {
      const all = entries.flatMap((entry) => entry[key] ?? [])
      assert.strictEqual(new Set(all).size, all.length, key)
    }
    for (const { code, meaning, policy } of entries) {
      assert.isAbove(policy.hint.length, 20, code)
      assert.isAbove(meaning.length, 10, code)
    }
  })

  it("ends a run for good when a person is needed, and only then", () => {
    const policies: ReadonlyArray<Policy> = [
      ...entries.flatMap(({ atOpen, policy }) => [policy, ...(atOpen === undefined ? [] : [atOpen])]),
      ...StreamingErrors.statuses.map(({ policy }) => policy)
    ]
    for (const { action, hint, reason } of policies) {
      assert.strictEqual(
        isRetryable(failure(reason, "", hint)),
        action === "retry" || action === "reopen",
        `${action} ${reason}`
      )
    }
  })

  it("doesn't open a channel again because it can't be opened", () => {
    for (const { code } of entries) {
      const action = StreamingErrors.refusal(409, code, "open").action
      if (action === "reopen") {
        // Opening anew, in another run, is what helps against these.
        assert.notMatch(code, /DOES_NOT_EXIST|NotFound|PIPE/, code)
      }
    }
    assert.strictEqual(
      StreamingErrors.refusal(404, "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED", "open").reason,
      "Missing"
    )
    assert.strictEqual(StreamingErrors.refusal(409, undefined, "open").action, "quarantine")
    assert.strictEqual(StreamingErrors.refusal(410, undefined, "open").action, "retry")
  })

  it("judges what names no code, or an unknown one, by its HTTP status", () => {
    const html = "<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1></body></html>"
    const without = [
      "",
      "   ",
      html,
      "upstream connect error",
      "null",
      "[]",
      "42",
      "{}",
      "{\"message\":\"secret row\"}",
      "{\"code\":{}}",
      "{\"code\":\"secret row value\"}",
      "{\"error_code\":\"\"}",
      "\"secret row\"",
      "\"Anna\"",
      "{\"code\":",
      "{\"status_code\":0}"
    ]
    const actions = [
      [400, "quarantine"],
      [401, "refresh"],
      [403, "stop"],
      [404, "retry"],
      [408, "retry"],
      [409, "reopen"],
      [410, "reopen"],
      [413, "split"],
      [415, "stop"],
      [422, "dead-letter"],
      [429, "retry"],
      [500, "retry"],
      [502, "retry"],
      [503, "retry"],
      [504, "retry"],
      [529, "retry"],
      [302, "quarantine"]
    ] as const
    for (const [status, action] of actions) {
      for (const body of without) {
        assert.isUndefined(StreamingAnswer.codeOf(body), body)
        assert.strictEqual(StreamingErrors.refusal(status, StreamingAnswer.codeOf(body)).action, action, `${status}`)
      }
      if (status === 404) continue
      assert.strictEqual(StreamingErrors.refusal(status, "ERR_SOMETHING_NEW").action, action, `${status}`)
    }
    // With a code it was Snowflake that answered.
    assert.strictEqual(StreamingErrors.refusal(404, "ERR_SOMETHING_NEW").action, "quarantine")
    assert.strictEqual(StreamingErrors.refusal(413, "STALE_CONTINUATION_TOKEN_SEQUENCER").action, "split")
  })

  it("opens the channel again after an append with a status code of its own, unless it is sure that it wasn't taken", () => {
    const action = (code: number | string) => StreamingErrors.appendStatus(code).action
    for (const { number, policy } of entries) {
      if (number !== undefined) {
        assert.strictEqual(action(number), policy.action)
        assert.strictEqual(action(String(number)), policy.action)
      }
    }
    for (const number of [1, 3, 26, 27, 999, "ERR_SOMETHING_NEW"]) assert.strictEqual(action(number), "reopen")
    for (const number of malformed) assert.strictEqual(action(number), "stop")
    assert.strictEqual(action("STALE_CONTINUATION_TOKEN_SEQUENCER"), "reopen")
  })

  it("takes a channel for healthy by three codes only, and for one to be opened again by any other but those that name a person's work", () => {
    for (const code of ["SUCCESS", "ACTIVE", "0"]) assert.isTrue(StreamingErrors.isHealthy(code))
    for (const code of ["", "success", "ERR_CHANNEL_MUST_BE_REOPENED", "1"]) {
      assert.isFalse(StreamingErrors.isHealthy(code))
    }
    const action = (code: string) => StreamingErrors.channelStatus(code).action
    for (
      const code of [
        "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP",
        "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED",
        "ERR_GENERAL_EXCEPTION_RETRY_REQUEST",
        "ERR_SOMETHING_NEW",
        ""
      ]
    ) assert.strictEqual(action(code), "reopen", code)
    assert.strictEqual(action("ERR_PIPE_IN_INVALID_STATE"), "quarantine")
  })
})
