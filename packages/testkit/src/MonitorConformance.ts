/**
 * The contract of a `Monitor` as a conformance suite.
 *
 * The subject makes a place that the monitor watches, and says how it comes to what the monitor is to tell of, how that ends, and how the place can't be looked at for a while.
 * The kit has the rest: conditions, a state store, a pipeline that takes requests or refuses them, restarts of the monitor and of its process.
 */
import type { Plugin } from "@etl-stream/core/Plugin"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import type { Case, Suite } from "./Conformance.ts"
import { type Run, start } from "./internal/monitorRun.ts"
import { Pipelines, type Request, State, Told } from "./internal/monitorSurroundings.ts"
import * as Refused from "./internal/refusedOptions.ts"
import { interrupted } from "./internal/waiting.ts"
import type * as PluginOptions from "./PluginOptions.ts"
import * as ResourceCensus from "./ResourceCensus.ts"
import * as Secrecy from "./Secrecy.ts"

/** One case's place, at which nothing is wrong yet. */
export interface Place {
  /** Options for it, by which the monitor looks several times a second and tells within a second. */
  readonly options: PluginOptions.Options
  /** Relative paths in options are relative to it. Default: the current folder. */
  readonly directory?: string
  /** The monitor's name. Default: `conformance`, which is also the name of the pipeline that there is. */
  readonly name?: string
  /** Brings about what the monitor is to tell of. */
  readonly worsen: Effect.Effect<unknown, unknown>
  /** Ends that. */
  readonly mend: Effect.Effect<unknown, unknown>
  /** The place can't be looked at from now on, and `back`: it can again, and is as it was. Needed unless the subject says by `cannot` that there is no such thing. */
  readonly gone?: Effect.Effect<unknown, unknown>
  readonly back?: Effect.Effect<unknown, unknown>
}

export interface Subject<A> {
  readonly plugin: Plugin<"monitor", A>
  readonly prepare: Effect.Effect<Place, unknown, Scope.Scope>
  /** Name of the condition that `worsen` leads to. */
  readonly raises: string
  /** What it asks of the pipeline then. All but a quarantine it takes back in the end, unless that was in place before. Needed unless the subject says by `cannot` that it asks nothing. */
  readonly asks?: ReadonlyArray<Request>
  /** `gone`: its place can always be looked at; `act`: it asks nothing of pipelines. Each with the reason. */
  readonly cannot?: Readonly<Partial<Record<"gone" | "act", string>>>
  /** Options that decode. */
  readonly valid: PluginOptions.Options
  readonly refused: ReadonlyArray<PluginOptions.RefusedOptions>
  /** Passwords, keys and such of the options: nothing that the monitor tells may hold one. */
  readonly secrets?: ReadonlyArray<string>
  /** How soon things must be told, an interrupted run be over. Default: 20 seconds. */
  readonly patience?: Duration.Input
  /** How long a case may take. Default: 1 minute. */
  readonly timeout?: Duration.Input
}

type Scoped<A> = Effect.Effect<A, unknown, Scope.Scope>

interface World {
  readonly place: Place
  readonly told: Told
  readonly state: State
  readonly pipelines: Pipelines
  /** Makes and runs the monitor as the runner does. `told`: for another process, in which nothing is raised. */
  readonly start: (told?: Told) => Scoped<Run>
  /** Waits until it has raised what is wrong, or that is over. */
  readonly raised: (run: Run) => Effect.Effect<void>
  readonly over: (run: Run) => Effect.Effect<void>
  readonly anew: () => Told
  readonly gone: Effect.Effect<unknown, unknown>
  readonly back: Effect.Effect<unknown, unknown>
}

/** The suite for a monitor. */
export const make = <A>(subject: Subject<A>): Suite => {
  const { asks = [], cannot = {}, plugin, raises } = subject
  const patience = Duration.toMillis(Duration.fromInputUnsafe(subject.patience ?? "20 seconds"))

  const test = (
    name: string,
    body: (world: World) => Scoped<void>,
    skipped: string | undefined = undefined
  ): Case => ({
    name,
    skipped,
    run: Effect.gen(function*() {
      const secrets = (subject.secrets ?? []).map((secret, index) => [`secret ${index + 1}`, secret] as const)
      const secrecy = Secrecy.make(new Map(secrets))
      const tellers: Array<Told> = []
      const anew = (): Told => {
        const told = new Told(secrecy.heard)
        tellers.push(told)
        return told
      }
      const place = yield* subject.prepare
      const missing = (what: string) =>
        Effect.sync(() => assert.fail(`The place has no \`${what}\`, and \`cannot\` doesn't say why`))
      const world: World = {
        place,
        told: anew(),
        state: new State(),
        pipelines: new Pipelines(),
        anew,
        start: (told = world.told) => start({ plugin, place, around: { ...world, told }, secrecy, patience }),
        raised: (run) => run.until(`the condition ${raises}`, () => world.told.has(raises)),
        over: (run) => run.until(`the end of the condition ${raises}`, () => !world.told.has(raises)),
        gone: place.gone ?? missing("gone"),
        back: place.back ?? missing("back")
      }
      yield* Effect.scoped(secrecy.listening(body(world)))
      assert.deepEqual(tellers.flatMap(({ problems }) => problems), [])
      assert.deepEqual(secrecy.found(), [])
    })
  })

  /** What is wrong is told, and that it is over. */
  const watches = (world: World, run: Run): Effect.Effect<void, unknown> =>
    Effect.gen(function*() {
      yield* world.place.worsen
      yield* world.raised(run)
      yield* world.place.mend
      yield* world.over(run)
    })

  const isRefusable = asks.some((request) => request !== "pauseCopies")

  const closed = (world: World) =>
    Effect.gen(function*() {
      for (let round = 0; round < 2; round++) {
        const run = yield* world.start()
        yield* run.until("a look", () => run.status() !== run.before)
        yield* run.stop
      }
      // What is being closed is gone soon; what is made for good stays.
      yield* Effect.sleep(100)
      return yield* ResourceCensus.take
    })

  const nothingLeft = (before: ResourceCensus.Census, when: string) =>
    Effect.map(
      ResourceCensus.released(before, patience),
      (left) => assert.deepEqual(left, [], `Left open after ${when}`)
    )

  return {
    kind: "monitor",
    plugin: plugin.name,
    timeout: Duration.fromInputUnsafe(subject.timeout ?? "1 minute"),
    cases: [
      ...Refused.cases(plugin, subject.refused, subject.valid),

      test("tells by its status what it saw, and raises and asks nothing while all is well", (world) =>
        Effect.gen(function*() {
          const run = yield* world.start()
          yield* run.until("a status of what was seen", () => run.status() !== run.before)
          yield* run.lasting()
          assert.deepEqual(world.told.names, [])
          for (const request of ["pauseCopies", "spool", "quarantine"] as const) {
            assert.ok(!world.pipelines.does(request), `It asked for ${request}`)
          }
          yield* run.stop
        })),

      test("raises a condition when something is wrong, clears it when that is over, and does so again", (world) =>
        Effect.gen(function*() {
          const run = yield* world.start()
          yield* watches(world, run)
          yield* watches(world, run)
          yield* run.stop
        })),

      test("leaves raised what lasts, as one condition", (world) =>
        Effect.gen(function*() {
          const run = yield* world.start()
          yield* world.place.worsen
          yield* world.raised(run)
          yield* run.lasting(() => assert.ok(world.told.has(raises), `${raises} is told to be over, and isn't`))
          assert.equal(world.told.ended.get(raises), undefined, `${raises} was told to be over, and wasn't`)
          assert.equal(world.told.begun.get(raises), 1, `how often ${raises} was raised`)
          yield* run.stop
        })),

      test(
        "asks of the pipeline what is to be asked, and takes it back when that is over",
        (world) =>
          Effect.gen(function*() {
            assert.ok(asks.length > 0, "The subject has no `asks`, and `cannot` doesn't say why")
            const run = yield* world.start()
            yield* world.place.worsen
            for (const request of asks) yield* run.until(`the request ${request}`, () => world.pipelines.does(request))
            yield* world.place.mend
            yield* world.over(run)
            for (const request of asks.filter((request) => request !== "quarantine")) {
              yield* run.until(`the end of the request ${request}`, () => !world.pipelines.does(request))
            }
            yield* run.stop
          }),
        cannot.act
      ),

      test(
        "leaves to others what they asked of the pipeline, when its own is over and when it ends",
        (world) =>
          Effect.gen(function*() {
            const { pipelines, place } = world
            const inPlace = () => {
              assert.ok(pipelines.paused, "Copies go on, which somebody else had asked to pause")
              assert.ok(pipelines.spooling, "Changes aren't kept on disk any more, which somebody else had asked for")
            }
            pipelines.paused = true
            pipelines.spooling = true
            const run = yield* world.start()
            yield* place.worsen
            yield* world.raised(run)
            yield* run.lasting(inPlace)
            yield* place.mend
            yield* world.over(run)
            yield* run.lasting(inPlace)
            yield* run.stop
            inPlace()
          }),
        cannot.act
      ),

      test(
        "goes on when the pipeline refuses what is asked, and asks again",
        (world) =>
          Effect.gen(function*() {
            world.pipelines.refuses = true
            const run = yield* world.start()
            yield* world.place.worsen
            yield* run.until("a request that is refused", () => world.pipelines.refused > 0)
            world.pipelines.refuses = false
            for (const request of asks) yield* run.until(`the request ${request}`, () => world.pipelines.does(request))
            yield* world.place.mend
            yield* world.over(run)
            yield* run.stop
          }),
        cannot.act ?? (isRefusable || asks.length === 0 ? undefined : "it asks nothing that a pipeline can refuse")
      ),

      test("watches when the pipeline isn't there, too", (world) =>
        Effect.gen(function*() {
          world.pipelines.present = false
          const run = yield* world.start()
          yield* watches(world, run)
          yield* run.stop
        })),

      test("watches when the state store doesn't answer, too", (world) =>
        Effect.gen(function*() {
          world.state.answers = false
          const run = yield* world.start()
          yield* watches(world, run)
          yield* run.stop
        })),

      test(
        "says that it can't look, takes nothing for over meanwhile, and goes on when it can",
        (world) =>
          Effect.gen(function*() {
            const run = yield* world.start()
            yield* world.place.worsen
            yield* world.raised(run)
            const known = new Set(world.told.names)
            const news = () => world.told.names.filter((name) => !known.has(name))
            yield* world.gone
            yield* run.until("a condition that tells that it can't look", () => news().length > 0)
            yield* run.lasting()
            assert.equal(
              world.told.ended.get(raises),
              undefined,
              `${raises} was told to be over when nobody could look`
            )
            yield* world.back
            yield* run.until(`the end of ${news().join(", ")}`, () => news().length === 0)
            yield* world.place.mend
            yield* world.over(run)
            yield* run.stop
          }),
        cannot.gone
      ),

      test(
        "begins when it can't look yet",
        (world) =>
          Effect.gen(function*() {
            yield* world.gone
            const run = yield* world.start()
            yield* run.until("a condition that tells that it can't look", () => world.told.names.length > 0)
            yield* world.back
            yield* run.until(`the end of ${world.told.names.join(", ")}`, () => world.told.names.length === 0)
            yield* watches(world, run)
            yield* run.stop
          }),
        cannot.gone
      ),

      test("raises again after a restart of the process what is still so", (world) =>
        Effect.gen(function*() {
          const first = yield* world.start()
          yield* world.place.worsen
          yield* world.raised(first)
          yield* first.stop
          const told = world.anew()
          const second = yield* world.start(told)
          yield* second.until(`the condition ${raises} after a restart`, () => told.has(raises))
          yield* second.stop
        })),

      test("clears what an earlier run raised and is over by now", (world) =>
        Effect.gen(function*() {
          const first = yield* world.start()
          yield* world.place.worsen
          yield* world.raised(first)
          yield* first.stop
          yield* world.place.mend
          const second = yield* world.start()
          yield* world.over(second)
          yield* second.stop
        })),

      test("is over soon when it is interrupted at any point, and leaves nothing open", (world) =>
        Effect.gen(function*() {
          const before = yield* closed(world)
          for (const turns of [0, 1, 3, 10, 30, 100, 300]) {
            const fiber = yield* Effect.forkDetach(
              Effect.scoped(Effect.andThen(world.start(), Effect.never)),
              { startImmediately: true }
            )
            for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
            yield* interrupted(`The run, interrupted after ${turns} turns,`, fiber, patience)
            yield* nothingLeft(before, `a run was interrupted after ${turns} turns`)
          }
          const run = yield* world.start()
          yield* world.place.worsen
          yield* world.raised(run)
          yield* run.stop
          yield* nothingLeft(before, "a run that had raised something")
          if (cannot.gone !== undefined) return
          const known = new Set(world.told.names)
          const blind = yield* world.start()
          yield* world.gone
          yield* blind.until(
            "a condition that tells that it can't look",
            () => world.told.names.some((name) => !known.has(name))
          )
          yield* blind.stop
          yield* world.back
          yield* nothingLeft(before, "a run that couldn't look")
        })),

      test("holds no more after many runs than after one", (world) =>
        Effect.gen(function*() {
          const before = yield* closed(world)
          const held = ResourceCensus.memory()
          const runs = 10
          for (let count = 0; count < runs; count++) {
            const run = yield* world.start()
            yield* run.until("a look", () => run.status() !== run.before)
            yield* run.stop
          }
          yield* nothingLeft(before, `${runs} runs`)
          const allowed = runs << 20
          const grown = (yield* ResourceCensus.memoryBelow(held + allowed, patience)) - held
          assert.ok(grown <= allowed, `${grown} bytes more are held after ${runs} runs`)
        }))
    ]
  }
}
