/**
 * A monitor of something in memory, which is bad or not and can be out of sight.
 *
 * Each defect breaks one promise of monitors, so that the suite can be seen to notice it.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Monitor, MonitorContext } from "@etl-stream/core/Monitor"
import * as Plugin from "@etl-stream/core/Plugin"
import type { Place, Subject } from "@etl-stream/testkit/MonitorConformance"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

export type Defect =
  | "says nothing"
  | "raises when all is well"
  | "never says that it is over"
  | "tells it anew at each look"
  | "has no hint"
  | "has a name that alerts don't match"
  | "tells a secret"
  | "shows no status"
  | "shows what is no JSON"
  | "asks too early"
  | "never takes back what it asked"
  | "takes back what others asked"
  | "asks only once"
  | "ends when a pipeline refuses"
  | "ends without pipelines"
  | "ends without the state store"
  | "ends when it can't look"
  | "doesn't say that it can't look"
  | "takes for over what it can't see"
  | "begins only when it can look"
  | "tells only what is new since it was kept"
  | "forgets what an earlier run raised"
  | "hangs on interruption"
  | "leaks a timer"

interface Thing {
  bad: boolean
  seen: boolean
}

const things = new Map<string, Thing>()
let made = 0

const fail = (message: string) =>
  new ConnectorError({ reason: "Unreachable", plugin: "watched-thing", message, hint: "It is a test." })

const Options = Schema.Struct({
  thing: Schema.NonEmptyString,
  password: Schema.RedactedFromValue(Schema.String),
  every: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0)))
})

const key = "watched-thing"

const monitor = (thing: Thing, defect: Defect | undefined): Monitor => {
  let status: Schema.Json = { looks: 0 }
  const blind = {
    name: "thing-out-of-sight",
    severity: "warning",
    message: "The thing can't be looked at",
    hint: "Put it back."
  } as const
  const condition = {
    name: defect === "has a name that alerts don't match" ? "Thing Bad" : "thing-bad",
    severity: "critical",
    message: defect === "tells a secret" ? "The thing of hunter2 is bad" : "The thing is bad",
    hint: defect === "has no hint" ? "" : "Make it good."
  } as const

  const run = ({ conditions, pipelines, state }: MonitorContext) =>
    Effect.gen(function*() {
      if (defect === "leaks a timer") setInterval(() => {}, 3_600_000)
      if (defect === "begins only when it can look" && !thing.seen) return yield* fail("The thing is out of sight")
      const told = yield* state.get(key).pipe(
        Effect.map(Option.isSome),
        Effect.catch((error) => defect === "ends without the state store" ? Effect.fail(error) : Effect.succeed(false))
      )
      let raised = told && defect === "tells only what is new since it was kept"
      let asked = false
      /** What wasn't in place when it asked. */
      const mine = new Set<"pauseCopies" | "spool">()
      const look = Effect.gen(function*() {
        if (!thing.seen) {
          if (defect === "ends when it can't look") return yield* fail("The thing is out of sight")
          if (defect === "takes for over what it can't see") yield* conditions.clear(condition.name)
          if (defect !== "doesn't say that it can't look") yield* conditions.raise(blind)
          return
        }
        yield* conditions.clear(blind.name)
        const { bad } = thing
        if (defect !== "shows no status") {
          status = defect === "shows what is no JSON"
            ? JSON.parse("{\"looks\": 1}", (_key, value: unknown) => typeof value === "number" ? new Date() : value)
            : { looks: ++made }
        }
        const [pipeline] = pipelines()
        if (pipeline === undefined && defect === "ends without pipelines") return yield* fail("There is no pipeline")
        const wanted = bad || defect === "asks too early"
        if (pipeline !== undefined && wanted !== asked && (wanted || defect !== "never takes back what it asked")) {
          const { control } = pipeline
          if (wanted) {
            const all = defect === "takes back what others asked"
            if (all || !control.copiesPaused()) mine.add("pauseCopies")
            if (all || !control.isSpooling()) mine.add("spool")
          }
          if (mine.has("pauseCopies")) yield* control.pauseCopies(wanted)
          const spooled = mine.has("spool") ? yield* Effect.result(control.spool(wanted)) : Result.void
          if (spooled._tag === "Failure" && defect === "ends when a pipeline refuses") return yield* spooled.failure
          if (spooled._tag === "Success" || defect === "asks only once") asked = wanted
          if (!wanted && !asked) mine.clear()
        }
        if (bad || defect === "raises when all is well") {
          if (defect === "says nothing") return
          if (defect === "tells it anew at each look") yield* conditions.clear(condition.name)
          if (defect === "tells only what is new since it was kept" && raised) return
          raised = true
          yield* conditions.raise(condition)
          if (!told) yield* Effect.ignore(state.compareAndSet(key, "told", undefined))
        } else if (defect !== "never says that it is over") {
          if (defect === "forgets what an earlier run raised" && !raised) return
          raised = false
          yield* conditions.clear(condition.name)
        }
      })
      for (;;) {
        yield* look
        yield* defect === "hangs on interruption" ? Effect.uninterruptible(Effect.sleep(60_000)) : Effect.sleep(5)
      }
    })
  return { run, status: () => status }
}

const plugin = (defect: Defect | undefined) =>
  Plugin.monitor({
    name: "watched-thing",
    version: "1.0.0",
    summary: "Watches something in memory",
    config: Options,
    make: ({ thing }) =>
      Effect.suspend(() => {
        const known = things.get(thing)
        return known === undefined
          ? Effect.fail(fail("There is no such thing"))
          : Effect.succeed(monitor(known, defect))
      })
  })

/** The monitor on things of its own. */
export const subject = (defect?: Defect): Subject<typeof Options.Type> => ({
  plugin: plugin(defect),
  prepare: Effect.sync((): Place => {
    const thing: Thing = { bad: false, seen: true }
    const name = `thing ${made++}`
    things.set(name, thing)
    const set = (change: Partial<Thing>) => Effect.sync(() => void Object.assign(thing, change))
    return {
      options: { thing: name, password: "hunter2" },
      worsen: set({ bad: true }),
      mend: set({ bad: false }),
      gone: set({ seen: false }),
      back: set({ seen: true })
    }
  }),
  raises: "thing-bad",
  asks: ["pauseCopies", "spool"],
  valid: { thing: "thing", password: "hunter2" },
  refused: [{ what: "a thing without a name", options: { thing: "", password: "hunter2" }, path: "thing" }],
  secrets: ["hunter2"],
  patience: "3 seconds"
})
