/**
 * The moments at which the demo kills: conditions that are looked for, not times that are waited.
 */
import type { ChildProcess } from "@etl-stream/testkit/ChildProcess"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import type { SnowflakeSessionError } from "@etl-stream/testkit/SnowflakeSession"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

export class KillsError extends Schema.TaggedError<KillsError>("@etl-stream/demo/KillsError")("KillsError", {
  message: Schema.String
}) {}

/** How many of the tables are copied. */
export interface Copies {
  readonly copied: number
  readonly tables: number
}

const copies = (mirror: MirrorState.Mirror): Effect.Effect<Copies, SnowflakeSessionError> =>
  Effect.map(MirrorState.tables(mirror), (states) => ({
    copied: states.filter(({ copied }) => copied !== null).length,
    tables: states.length
  }))

/** Looks every few milliseconds until `probe` finds something; fails when the runner ends or two minutes pass first. */
const until = <A, E>(runner: ChildProcess, what: string, millis: number, probe: Effect.Effect<A | undefined, E>) =>
  Effect.gen(function*() {
    for (;;) {
      const found = yield* probe
      if (found !== undefined) return found
      if (!runner.isRunning()) {
        const { code, signal } = yield* runner.ended()
        return yield* new KillsError({
          message: `the runner ended (${signal ?? `exit code ${code}`}) while the demo waited ${what}:\n${
            runner.output().slice(-3000)
          }`
        })
      }
      yield* Effect.sleep(millis)
    }
  }).pipe(
    Effect.timeoutOrElse({
      duration: "2 minutes",
      orElse: () => Effect.fail(new KillsError({ message: `the demo waited two minutes ${what}` }))
    })
  )

/** Some tables are copied and some are not. */
export const midSnapshot = (runner: ChildProcess, mirror: MirrorState.Mirror, tables: number) =>
  until(
    runner,
    "for the copy to be under way",
    50,
    Effect.map(copies(mirror), (state) => state.copied > 0 && state.copied < tables ? state : undefined)
  )

/** All tables are copied. */
export const copied = (runner: ChildProcess, mirror: MirrorState.Mirror, tables: number) =>
  until(
    runner,
    "for the copy to be complete",
    100,
    Effect.map(copies(mirror), (state) => state.copied === tables ? state : undefined)
  )

/** Every merge position, as one text. */
const positions = (mirror: MirrorState.Mirror) =>
  Effect.map(MirrorState.tables(mirror), (states) => states.map(({ merged }) => merged ?? "").join(" "))

/** Changes are being merged: the positions have moved `times` times since the call. */
export const midStream = (runner: ChildProcess, mirror: MirrorState.Mirror, times: number) =>
  Effect.gen(function*() {
    let before = yield* positions(mirror)
    for (let moved = 0; moved < times; moved++) {
      before = yield* until(
        runner,
        "for changes to be merged",
        50,
        Effect.map(positions(mirror), (now) => now === before ? undefined : now)
      )
    }
  })
