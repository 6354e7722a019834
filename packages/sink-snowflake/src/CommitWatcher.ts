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

const minMillis = 50
const maxMillis = 1000
const stallMillis = 600_000

export class CommitWatcher {
  private readonly client: StreamingClient
  private readonly channels = new Set<Channel>()
  /** Open while some channel may have rows in flight. */
  readonly activity = Latch.makeUnsafe(false)

  constructor(client: StreamingClient) {
    this.client = client
  }

  add(channel: Channel): void {
    this.channels.add(channel)
  }

  remove(channel: Channel): void {
    this.channels.delete(channel)
  }

  /** Runs until a channel fails. */
  get run(): Effect.Effect<never, ConnectorError.ConnectorError> {
    return Effect.gen({ self: this }, function*() {
      let pause = minMillis
      for (;;) {
        yield* this.activity.await
        const progressed = yield* this.poll
        if (![...this.channels].some((channel) => channel.inFlight)) yield* this.activity.close
        // A row that went in flight between the two lines above opened the latch before it was closed.
        if ([...this.channels].some((channel) => channel.inFlight)) yield* this.activity.open
        pause = progressed ? minMillis : Math.min(maxMillis, pause * 1.5)
        yield* Effect.sleep(pause)
      }
    })
  }

  /** Asks once for every channel with rows in flight; true when any of them got further. */
  private get poll(): Effect.Effect<boolean, ConnectorError.ConnectorError> {
    return Effect.gen({ self: this }, function*() {
      const waiting = [...this.channels].filter((channel) => channel.inFlight)
      const results = yield* Effect.forEach(waiting, (channel) => this.ask(channel), { concurrency: 8 })
      return results.includes(true)
    })
  }

  private ask(channel: Channel): Effect.Effect<boolean, ConnectorError.ConnectorError> {
    return Effect.gen({ self: this }, function*() {
      const before = channel.committed
      const statuses = yield* this.client.statuses(channel.layout.journal, [channel.name]).pipe(
        Effect.mapError((failure) => channel.failed(failure))
      )
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
      return channel.committed !== before
    })
  }
}
