/**
 * A `StateStore` in Redis: one hash per namespace, whose fields are the documents.
 *
 * One key is in one hash slot, so a cluster executes everything on one node in one step, a list never goes through anybody else's keys, and all of it is
 * there or nothing, whatever Redis evicts. Versions are random, so one from before a flush or from an old copy never fits what is there now. A
 * write whose answer was lost is looked for by its version: it is reported as made, as not made, or, when neither is certain, as an error.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Entry, StateStoreShape } from "@etl-stream/core/StateStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import type { Config } from "./Config.ts"
import * as Endpoint from "./Endpoint.ts"
import * as RedisConnection from "./RedisConnection.ts"
import * as RedisFailure from "./RedisFailure.ts"
import * as Script from "./Script.ts"

/** The hash that a namespace's documents are in. What is in braces decides on the hash slot. */
export const keyOf = (namespace: string): string => `{${namespace}}:state`

const decodeDocument = Schema.decodeUnknownEffect(Schema.NullOr(Schema.String))
const decodeVerdict = Schema.decodeUnknownEffect(Schema.Literals([0, 1]))
const decodeList = Schema.decodeUnknownEffect(Schema.Array(Schema.String))
const decodeTime = Schema.decodeUnknownEffect(Schema.Tuple([Schema.NumberFromString, Schema.NumberFromString]))

/** A document as it is kept: version, space, value. One that somebody else wrote is an entry too, and can be replaced. */
const entryOf = (document: string): Entry => {
  const space = document.indexOf(" ")
  return space < 0
    ? { version: document, value: "" }
    : { version: document.slice(0, space), value: document.slice(space + 1) }
}

/** By their UTF-8 bytes, as Redis and SQLite order text. */
const byKey = ([a]: readonly [string, Entry], [b]: readonly [string, Entry]): number =>
  Buffer.compare(Buffer.from(a), Buffer.from(b))

const toError = ({ error }: RedisFailure.RedisFailure): ConnectorError => error

/** The store that decoded options name. Fails when Redis can't be reached, or doesn't allow what is needed. */
export const make = Effect.fn("RedisStateStore.make")(function*(
  config: Config
): Effect.fn.Return<StateStoreShape, ConnectorError, Scope.Scope> {
  const endpoint = Endpoint.make(config)
  const redis = yield* RedisConnection.open(endpoint, keyOf(config.namespace))
  const { context, deadline, evaluate, patiently } = redis

  const unreadable = () => RedisFailure.unreadable(context())

  const read = Effect.fnUntraced(function*(key: string, until: RedisConnection.Deadline) {
    const { reply } = yield* patiently(redis.read(key), until, true)
    const document = yield* Effect.mapError(decodeDocument(reply), unreadable)
    return document === null ? undefined : entryOf(document)
  })

  const verdict = Effect.fnUntraced(
    function*(
      script: Script.Script,
      args: ReadonlyArray<string>,
      until: RedisConnection.Deadline,
      repeatable: boolean
    ) {
      const { again, reply } = yield* patiently(evaluate(script, args), until, repeatable)
      return { done: (yield* Effect.mapError(decodeVerdict(reply), unreadable)) === 1, again }
    }
  )

  const compareAndSet = Effect.fnUntraced(function*(key: string, value: string, expected: string | undefined) {
    const until = yield* deadline()
    const version = randomUUID()
    // Creating twice would bring back what somebody removed in between.
    const repeatable = expected !== undefined
    return yield* verdict(Script.compareAndSet, [key, value, expected ?? "", version], until, repeatable).pipe(
      Effect.flatMap(({ again, done }) => {
        if (done) return Effect.succeedSome(version)
        // It may have been made, and changed since.
        return again ? Effect.fail(RedisFailure.uncertain(context())) : Effect.succeedNone
      }),
      Effect.catchIf(({ executed }) => executed === "unknown", (failure) =>
        Effect.flatMap(
          Effect.mapError(read(key, until), () => failure),
          (entry) =>
            entry?.version === version
              ? Effect.succeedSome(version)
              : Effect.fail(RedisFailure.uncertain(context()))
        ))
    )
  })

  const remove = Effect.fnUntraced(function*(key: string) {
    const until = yield* deadline()
    for (;;) {
      const entry = yield* read(key, until)
      if (entry === undefined) return
      const { again, done } = yield* verdict(Script.removeVersion, [key, entry.version], until, true)
      if (done) return
      // It may have been removed, and something new written since: that isn't to be removed.
      if (again && (yield* read(key, until)) !== undefined) return yield* RedisFailure.uncertain(context())
    }
  })

  const list = Effect.fnUntraced(function*(prefix: string) {
    const { reply } = yield* patiently(evaluate(Script.list, [prefix]), yield* deadline(), true)
    const flat = yield* Effect.mapError(decodeList(reply), unreadable)
    const found: Array<readonly [string, Entry]> = []
    for (let index = 0; index + 1 < flat.length; index += 2) {
      found.push([flat[index] ?? "", entryOf(flat[index + 1] ?? "")])
    }
    return found.sort(byKey)
  })

  const now = Effect.gen(function*() {
    const { reply } = yield* patiently(evaluate(Script.now, []), yield* deadline(), true)
    const [seconds, micros] = yield* Effect.mapError(decodeTime(reply), unreadable)
    return seconds * 1000 + Math.floor(micros / 1000)
  })

  // A new connection has the time to be made; after it nothing else should stand in the way of the first write.
  const first = yield* deadline(Math.max(endpoint.connectTimeout, endpoint.timeout))
  yield* patiently(evaluate(Script.now, []), first, true).pipe(
    Effect.andThen(patiently(evaluate(Script.probe, [`probe ${randomUUID()}`]), first, true)),
    Effect.mapError(toError)
  )

  return {
    get: (key) =>
      Effect.flatMap(deadline(), (until) => read(key, until)).pipe(
        Effect.map(Option.fromUndefinedOr),
        Effect.mapError(toError)
      ),
    list: (prefix) => Effect.mapError(list(prefix), toError),
    compareAndSet: (key, value, expected) => Effect.mapError(compareAndSet(key, value, expected), toError),
    remove: (key) => Effect.mapError(remove(key), toError),
    now: Effect.mapError(now, toError)
  }
})
