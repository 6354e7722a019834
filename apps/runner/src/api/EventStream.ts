/**
 * Server-sent events for one client: each item as `data:` with its type as `event:`, a note of what was lost, and comments that keep the connection alive.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Mailbox } from "./Mailbox.ts"
import { Unavailable } from "./Problems.ts"

/** So much waits for a client at most. */
export const capacity = 256

/** Without anything else to tell, a comment is sent this often: proxies cut connections that are silent. */
const heartbeatEvery = Duration.seconds(15)

interface Item {
  readonly type: string
}

const encoder = new TextEncoder()

const encode = (item: Item): string =>
  Sse.encoder.write({ _tag: "Event", event: item.type, id: undefined, data: JSON.stringify(item) })

/** What a client gets out of its mailbox, which is closed with the stream. */
export const of = <A extends Item>(mailbox: Mailbox<A>, left: Effect.Effect<void>): Stream.Stream<Uint8Array> => {
  const next = Effect.timeoutOption(mailbox.take, heartbeatEvery).pipe(
    Effect.flatMap(Option.match({
      onNone: () => Effect.succeed<string | undefined>(": still here\n\n"),
      onSome: (taken) =>
        taken === undefined
          ? Effect.undefined
          : Effect.map(Clock.currentTimeMillis, (now) => {
            const at = new Date(now).toISOString()
            const lost = taken.lost === 0 ? [] : [{ type: "lost", at, events: taken.lost }]
            return [...lost, ...taken.items].map(encode).join("")
          })
    }))
  )
  return Stream.concat(Stream.succeed(": etl-stream\n\n"), Stream.fromEffectRepeat(next)).pipe(
    Stream.takeWhile((text) => text !== undefined),
    Stream.map((text) => encoder.encode(text)),
    Stream.ensuring(left)
  )
}

export const response = <A extends Item>(mailbox: Mailbox<A>, left: Effect.Effect<void>) =>
  HttpServerResponse.stream(of(mailbox, left), {
    contentType: "text/event-stream",
    headers: { "cache-control": "no-store", "x-accel-buffering": "no" }
  })

/** Streams that are open at the same time. */
export interface Streams {
  /** Takes a place for one more; fails when there is none. */
  readonly enter: Effect.Effect<void, Unavailable>
  readonly leave: Effect.Effect<void>
}

/** At most this many streams at a time: each costs a connection and its mailbox. */
export const most = 64

export const streams = (limit = most): Streams => {
  let open = 0
  return {
    enter: Effect.suspend(() => {
      if (open >= limit) {
        return Effect.fail(
          new Unavailable({
            code: "TooManyStreams",
            detail: `There are ${limit} event streams open already`,
            hint: "Close some of them, or poll GET /v1/pipelines."
          })
        )
      }
      open++
      return Effect.void
    }),
    leave: Effect.sync(() => {
      open--
    })
  }
}
