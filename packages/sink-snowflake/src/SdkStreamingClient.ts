/**
 * Channels through the official SDK: the calls that carry rows and ask for commits go to it, the others to the REST API.
 *
 * Channels are opened over REST first, which waits for an earlier writer's rows and sets offsets, and then by the SDK, which fences that opening as it would
 * any other writer's. Rows are given to the SDK as objects; what it has taken is in its memory, which is as good as accepted, because only what is committed
 * counts. The SDK sends again by itself, and says that it is full by errors, which are waited out here.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Config } from "./Config.ts"
import type { Credentials } from "./Credentials.ts"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import type { ChannelStatus } from "./StreamingAnswer.ts"
import type { StreamingClient } from "./StreamingClient.ts"
import * as StreamingErrors from "./StreamingErrors.ts"
import * as StreamingSdk from "./StreamingSdk.ts"
import { patience, StreamingFailure, unexpected } from "./StreamingTransport.ts"
import type { ObjectName } from "./TableLayout.ts"
import { sqlName } from "./TableLayout.ts"

const Count = Schema.Union([Schema.Finite, Schema.BigInt])
const Status = Schema.Struct({
  statusCode: Schema.String,
  latestCommittedOffsetToken: Schema.optionalKey(Schema.NullishOr(Schema.String)),
  rowsErrorCount: Schema.optionalKey(Schema.NullishOr(Count))
})
const SdkError = Schema.Struct({ errorCode: Schema.String, httpStatusCode: Schema.optionalKey(Schema.Finite) })

/** Without waiting for rows: what isn't committed comes again. */
const atOnce = { waitForFlush: false, timeoutMs: 10_000 } as const

const failureOf = (what: string, occasion: StreamingErrors.Occasion) => (cause: unknown): StreamingFailure => {
  const known = Option.getOrUndefined(Schema.decodeUnknownOption(SdkError)(cause))
  const { action, hint, reason } = known === undefined
    // An error that isn't one of the documented ones says nothing about the rows.
    ? StreamingErrors.refusal(409, undefined, occasion)
    : StreamingErrors.refusal(known.httpStatusCode ?? 409, known.errorCode, occasion)
  const code = known?.errorCode
  return new StreamingFailure({
    action,
    code,
    // The message isn't passed on: it may quote values of rows.
    error: ErrorPolicy.failure(reason, `${what} failed in the SDK: ${code ?? "an unknown error"}`, hint)
  })
}

/** A number exactly as it was written, or undefined when a JavaScript value can't be that. */
const exact = (source: string): number | bigint | undefined => {
  const value = Number(source)
  if (/^-?\d+$/.test(source)) return Number.isSafeInteger(value) && source !== "-0" ? value : BigInt(source)
  const digits = source.replace(/e.*$/i, "").replaceAll(/[-.]/g, "").replace(/^0+/, "")
  return digits.length <= 15 && Number.isFinite(value) ? value : undefined
}

/** The rows of an NDJSON body as objects. Undefined when a number would be rounded. */
export const rowsOf = (body: Uint8Array): ReadonlyArray<object> | undefined => {
  let rounded = false
  const revive = (_key: string, value: unknown, context?: { readonly source?: string }): unknown => {
    if (typeof value !== "number" || context?.source === undefined) return value
    const number = exact(context.source)
    if (number === undefined) rounded = true
    return number
  }
  const rows = Buffer.from(body).toString("utf8").split("\n").filter((line) => line !== "").map((line) =>
    JSON.parse(line, revive) as object // the encoder writes one object a line
  )
  return rounded ? undefined : rows
}

export const make = Effect.fn("SdkStreamingClient.make")(function*(
  sdk: StreamingSdk.Sdk,
  rest: StreamingClient,
  config: Config,
  credentials: Credentials,
  clientName: string
): Effect.fn.Return<StreamingClient, ConnectorError.ConnectorError, Scope.Scope> {
  const properties = yield* StreamingSdk.properties(config, credentials)
  const clients = new Map<string, StreamingSdk.SdkClient>()
  const channels = new Map<string, StreamingSdk.SdkChannel>()
  const keyOf = (table: ObjectName, channel: string): string => JSON.stringify([sqlName(table), channel])

  const call = <A>(what: string, occasion: StreamingErrors.Occasion, run: () => A | Promise<A>) =>
    Effect.tryPromise({ try: async () => await run(), catch: failureOf(what, occasion) })
  const close = (held: StreamingSdk.SdkChannel | StreamingSdk.SdkClient | undefined): Effect.Effect<void> =>
    held === undefined ? Effect.void : Effect.ignore(call("Closing", "other", () => held.close(atOnce)))
  yield* Effect.addFinalizer(() =>
    Effect.forEach([...channels.values(), ...clients.values()], close, { discard: true })
  )

  const clientOf = Effect.fnUntraced(function*(table: ObjectName) {
    const name = sqlName(table)
    const held = clients.get(name)
    if (held !== undefined) return held
    const made = yield* call(`Preparing to stream into ${table.name}`, "open", () =>
      sdk.createClient({
        clientName,
        dbName: table.database,
        schemaName: table.schema,
        pipeName: `${table.name}-STREAMING`,
        properties
      }))
    clients.set(name, made)
    return made
  })

  const statusOf = (what: string, status: unknown): Effect.Effect<ChannelStatus, StreamingFailure> =>
    Effect.map(
      Effect.mapError(Schema.decodeUnknownEffect(Status)(status), () => unexpected(what)),
      (decoded) => ({
        code: decoded.statusCode,
        committed: decoded.latestCommittedOffsetToken ?? undefined,
        errors: Number(decoded.rowsErrorCount ?? 0),
        lastError: undefined
      })
    )

  return {
    login: rest.login,
    drop: (table, channel) =>
      Effect.suspend(() => {
        const key = keyOf(table, channel)
        const held = channels.get(key)
        channels.delete(key)
        return Effect.andThen(close(held), rest.drop(table, channel))
      }),
    open: Effect.fn("SdkStreamingClient.open")(function*(table, channel, options) {
      const what = `Opening the channel ${channel} of ${table.name}`
      const key = keyOf(table, channel)
      yield* close(channels.get(key))
      channels.delete(key)
      yield* rest.open(table, channel, options)
      const once = Effect.gen(function*() {
        const client = yield* clientOf(table)
        return yield* call(what, "open", () => client.openChannel({ name: channel })).pipe(
          // A client may be of no use any more; another one is made for the next attempt.
          Effect.tapError(() => {
            clients.delete(sqlName(table))
            return close(client)
          })
        )
      })
      const opened = yield* Effect.retry(once, patience)
      channels.set(key, opened.channel)
      return { continuationToken: "", status: yield* statusOf(what, opened.status) }
    }),
    append: Effect.fn("SdkStreamingClient.append")(function*(table, channel, append) {
      const what = `Appending rows to ${table.name}`
      const held = channels.get(keyOf(table, channel))
      const rows = rowsOf(append.body)
      if (held === undefined) return yield* failureOf(what, "append")({ errorCode: "ClosedChannelError" })
      if (rows === undefined) return yield* failureOf(what, "append")({ errorCode: "InvalidArgument" })
      const once = Effect.andThen(
        append.before,
        call(what, "append", () => held.appendRows(rows, append.startOffset, append.endOffset))
      )
      yield* Effect.retry(once, patience)
      return ""
    }),
    statuses: Effect.fn("SdkStreamingClient.statuses")(function*(table, names) {
      const what = `Asking for the channel status of ${table.name}`
      const found = yield* Effect.forEach(names, (name) =>
        Effect.gen(function*() {
          const held = channels.get(keyOf(table, name))
          if (held === undefined) return []
          const status = yield* Effect.retry(call(what, "other", () => held.getChannelStatus()), patience)
          return [[name, yield* statusOf(what, status)] as const]
        }), { concurrency: 4 })
      return new Map(found.flat())
    })
  }
})

/** The client that the options ask for. */
export const choose = Effect.fnUntraced(function*(
  rest: StreamingClient,
  config: Config,
  credentials: Credentials,
  { clientName, directory }: { readonly clientName: string; readonly directory: string }
): Effect.fn.Return<
  { readonly client: StreamingClient; readonly kind: "rest" | "sdk" },
  ConnectorError.ConnectorError,
  Scope.Scope
> {
  const wanted = config.streaming.client
  const sdk = wanted === "rest" ? undefined : yield* StreamingSdk.load(directory)
  if (sdk === undefined) {
    if (wanted === "sdk") return yield* StreamingSdk.notInstalled
    return { client: rest, kind: "rest" }
  }
  return { client: yield* make(sdk, rest, config, credentials, clientName), kind: "sdk" }
})
