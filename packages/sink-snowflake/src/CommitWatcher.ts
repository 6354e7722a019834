/**
 * Watches what Snowflake has committed: asks for the status of every channel that has rows in flight, and nothing otherwise.
 *
 * It asks often while commits come in (every 50 ms) and less often while they don't (up to every second). A channel that stands still
 * for ten minutes with rows in flight ends the run.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Channel } from "./Channel.ts"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import type { StreamingClient } from "./StreamingClient.ts"
import { sqlName } from "./TableLayout.ts"

const minMillis = 50
const maxMillis = 1000
const stallMillis = 600_000

/** Channels per request; how many it may name isn't documented. */
const channelsPerRequest = 100

type Request = readonly [Channel, ...ReadonlyArray<Channel>]

/** One request for the channels of a table, or more when there are many. */
const requests = (channels: ReadonlyArray<Channel>): ReadonlyArray<Request> => {
  const found: Array<[Channel, ...Array<Channel>]> = []
  const open = new Map<string, [Channel, ...Array<Channel>]>()
  for (const channel of channels) {
    const journal = sqlName(channel.layout.journal)
    const request = open.get(journal)
    if (request !== undefined && request.length < channelsPerRequest) request.push(channel)
    else {
      const begun: [Channel] = [channel]
      open.set(journal, begun)
      found.push(begun)
    }
  }
  return found
}

export class CommitWatcher {
  private readonly client: StreamingClient
  /** Channels, each with whom to tell when it fails. */
  private readonly channels = new Map<Channel, (error: ConnectorError.ConnectorError) => Effect.Effect<void>>()
  /** Open while some channel may have rows in flight. */
  readonly activity = Latch.makeUnsafe(false)

  constructor(client: StreamingClient) {
    this.client = client
  }

  add(channel: Channel, failed: (error: ConnectorError.ConnectorError) => Effect.Effect<void>): void {
    this.channels.set(channel, failed)
  }

  remove(channel: Channel): void {
    this.channels.delete(channel)
  }

  /** Runs as long as it isn't interrupted. A channel that fails is watched no more. */
  get run(): Effect.Effect<never> {
    return Effect.gen({ self: this }, function*() {
      let pause = minMillis
      for (;;) {
        yield* this.activity.await
        const progressed = yield* this.poll
        if (![...this.channels.keys()].some((channel) => channel.inFlight)) yield* this.activity.close
        // A row that went in flight between the two lines above opened the latch before it was closed.
        if ([...this.channels.keys()].some((channel) => channel.inFlight)) yield* this.activity.open
        pause = progressed ? minMillis : Math.min(maxMillis, pause * 1.5)
        yield* Effect.sleep(pause)
      }
    })
  }

  /** Asks once for every channel with rows in flight; true when any of them got further. */
  private get poll(): Effect.Effect<boolean> {
    return Effect.gen({ self: this }, function*() {
      const waiting = [...this.channels.keys()].filter((channel) => channel.inFlight)
      const results = yield* Effect.forEach(
        requests(waiting),
        (channels) => this.ask(channels).pipe(Effect.catch((error) => this.failed(channels, error))),
        { concurrency: 8 }
      )
      return results.includes(true)
    })
  }

  /** Watches the channels of a table no more. */
  private failed(channels: Request, error: ConnectorError.ConnectorError): Effect.Effect<boolean> {
    const failed = channels.map((channel) => this.channels.get(channel)).find((failed) => failed !== undefined)
    for (const channel of channels) this.channels.delete(channel)
    return Effect.as(failed?.(error) ?? Effect.void, false)
  }

  /** Asks for channels of one table. */
  private ask(channels: Request): Effect.Effect<boolean, ConnectorError.ConnectorError> {
    return Effect.gen({ self: this }, function*() {
      const [first] = channels
      const statuses = yield* this.client.statuses(first.layout.journal, channels.map(({ name }) => name)).pipe(
        Effect.mapError((failure) => first.failed(failure))
      )
      let progressed = false
      for (const channel of channels) {
        const before = channel.committed
        yield* channel.observe(statuses.get(channel.name))
        const now = yield* Clock.currentTimeMillis
        if (channel.inFlight && now - channel.progressMillis > stallMillis) {
          return yield* ErrorPolicy.failure(
            "Fenced",
            `Rows of ${channel.layout.id} were accepted ten minutes ago and are still not committed`,
            "The pipeline reopens the channel and goes on after its committed offset. Look at Snowflake's status page.",
            { table: channel.layout.id }
          )
        }
        if (channel.committed !== before) progressed = true
      }
      return progressed
    })
  }
}
