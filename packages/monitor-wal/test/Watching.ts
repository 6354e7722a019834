/**
 * The plugin as the runner has it, on a real server and in real time.
 */
import * as Condition from "@etl-stream/core/Condition"
import type { MonitoredPipeline } from "@etl-stream/core/Monitor"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { tmpdir } from "node:os"
import { plugin } from "../src/index.ts"
import { memory } from "./Scripted.ts"

/** Parts of a status that tests look at. */
const Status = Schema.Struct({
  problem: Schema.NullOr(Schema.String),
  server: Schema.optionalKey(Schema.Struct({ version: Schema.String, standby: Schema.Boolean })),
  directory: Schema.optionalKey(Schema.Struct({ bytes: Schema.Finite, estimated: Schema.Boolean })),
  slots: Schema.optionalKey(Schema.Array(Schema.Struct({
    slot: Schema.String,
    present: Schema.Boolean,
    active: Schema.optionalKey(Schema.Boolean),
    walStatus: Schema.optionalKey(Schema.NullOr(Schema.String)),
    retainedBytes: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
    remainingBytes: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
    inactiveSince: Schema.optionalKey(Schema.NullOr(Schema.String)),
    decoded: Schema.optionalKey(Schema.NullOr(Schema.Struct({ totalTransactions: Schema.Finite })))
  })))
})
const decodeStatus = Schema.decodeUnknownSync(Status)
const decodeConfig = Schema.decodeUnknownSync(Schema.toCodecJson(plugin.config))

/** Runs a monitor until the scope ends. */
export const start = Effect.fnUntraced(function*(
  options: Record<string, unknown>,
  more: {
    readonly name?: string
    readonly state?: StateStoreShape
    readonly pipelines?: ReadonlyArray<{ readonly monitored: () => MonitoredPipeline }>
  } = {}
) {
  const name = more.name ?? "pg"
  const holder: Condition.Holder = { conditions: new Map() }
  const config = decodeConfig({ every: "200 millis", drift: "200 millis", ...options }, { onExcessProperty: "error" })
  const monitor = yield* plugin.make(config, { pipeline: name, directory: tmpdir() })
  yield* Effect.forkScoped(monitor.run({
    conditions: Condition.makeMonitor(name, holder),
    state: more.state ?? memory(),
    pipelines: () => (more.pipelines ?? []).map((pipeline) => pipeline.monitored())
  }))
  return {
    status: () => decodeStatus(monitor.status()),
    conditions: () => [...holder.conditions.values()],
    raised: () =>
      [...holder.conditions.values()].map(({ name, subject, table }) =>
        [name, subject, table].filter((part) => part !== undefined).join(" ")
      )
  }
})

/** Waits until `holds`, looking often; fails with what `state` says when that takes too long. */
export const until = (
  holds: () => boolean,
  state: () => unknown,
  each: Effect.Effect<unknown, unknown> = Effect.void
) =>
  Effect.gen(function*() {
    while (!holds()) {
      yield* each
      yield* Effect.sleep("20 millis")
    }
  }).pipe(
    Effect.timeoutOrElse({
      duration: "90 seconds",
      orElse: () => Effect.die(new Error(`It never came to that: ${JSON.stringify(state())}`))
    })
  )
