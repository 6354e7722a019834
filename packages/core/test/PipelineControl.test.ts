import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { Acknowledgement } from "../src/Acknowledgement.ts"
import type { ConnectorError } from "../src/ConnectorError.ts"
import type { Element } from "../src/Element.ts"
import * as MemoryBudget from "../src/MemoryBudget.ts"
import * as Pipeline from "../src/Pipeline.ts"
import * as PipelineControl from "../src/PipelineControl.ts"
import * as Progress from "../src/Progress.ts"
import * as Sequence from "../src/Sequence.ts"
import type { SourceContext } from "../src/Source.ts"
import type { TableSchema } from "../src/TableSchema.ts"
import { MemoryState } from "./doubles/MemoryState.ts"
import { PrefixSink } from "./doubles/PrefixSink.ts"
import { batch, plain } from "./doubles/Tables.ts"

const tables = [plain("a"), plain("b")] as const
const [a, b] = tables
const why = { reason: "Lost", message: "It holds the log back", hint: "Give it time." } as const

const rows = (table: TableSchema, commit: number): Element => ({
  _tag: "Rows",
  batch: batch(table, [{ commit: BigInt(commit), ordinal: 1n, values: [commit, "x"] }])
})
const mark = (position: number): Element => ({ _tag: "Watermark", position: BigInt(position), commitTime: 1_000_000n })

const eventually = (condition: () => boolean) =>
  Effect.gen(function*() {
    while (!condition()) yield* Effect.sleep(1)
  }).pipe(Effect.timeout("5 seconds"), Effect.orDie)

/** Runs a pipeline whose source emits what a test says. */
const start = Effect.fnUntraced(function*(
  control: PipelineControl.OwnedControl,
  sink: PrefixSink,
  parts: Partial<Pipeline.Options> = {}
) {
  const queue = yield* Queue.unbounded<Element>()
  const stop = yield* Deferred.make<void>()
  const progress = Progress.make("shop")
  let context: SourceContext | undefined
  const fiber = yield* Pipeline.run({
    name: "shop",
    source: {
      tables: Effect.succeed(tables),
      stream: (given) => {
        context = given
        return Stream.fromQueue(queue)
      }
    },
    sink: sink.sink,
    transforms: [],
    batch: { rows: 20, bytes: 1 << 20, every: "2 millis" },
    progress,
    state: new MemoryState(),
    control,
    stop: Deferred.await(stop),
    drain: "1 second",
    ...parts
  }).pipe(Effect.provide([MemoryBudget.MemoryBudget.layer(), Logger.layer([])]), Effect.exit, Effect.forkChild)
  yield* eventually(() => context !== undefined || fiber.pollUnsafe() !== undefined)
  return {
    progress,
    emit: (...elements: ReadonlyArray<Element>) => Queue.offerAll(queue, elements),
    context: () => context ?? assert.fail("the stream didn't begin"),
    ended: Fiber.join(fiber),
    stop: Effect.andThen(Deferred.succeed(stop, undefined), Fiber.join(fiber)),
    kill: Fiber.interrupt(fiber)
  }
})

const silent = Effect.provide(Logger.layer([]))

describe("a pipeline's control", () => {
  it.live("holds copies up until they may go on, over runs", () =>
    Effect.gen(function*() {
      const control = PipelineControl.make({ pipeline: "shop", spool: false })
      assert.isFalse(control.copiesPaused())
      yield* control.pauseCopies(true)
      assert.isTrue(control.copiesPaused())
      const first = yield* start(control, new PrefixSink())
      const waiting = yield* Effect.forkChild(first.context().copiesGoOn ?? assert.fail("copies are never held up"))
      yield* Effect.sleep(20)
      assert.isUndefined(waiting.pollUnsafe())
      yield* first.kill
      const second = yield* start(control, new PrefixSink())
      const again = yield* Effect.forkChild(second.context().copiesGoOn ?? assert.fail("copies are never held up"))
      yield* Effect.sleep(20)
      assert.isUndefined(again.pollUnsafe())
      yield* control.pauseCopies(false)
      yield* Fiber.join(again)
      yield* Fiber.join(waiting)
      // Held up for the engine's own reason, whatever is asked.
      control.holdCopies(true)
      yield* control.pauseCopies(true)
      yield* control.pauseCopies(false)
      const held = yield* Effect.forkChild(control.copiesGoOn)
      yield* Effect.sleep(20)
      assert.isUndefined(held.pollUnsafe())
      yield* second.kill
      // A run that is over holds nothing up.
      yield* Fiber.join(held)
    }).pipe(silent))

  it.live("refuses to spool without a spool, and says what to do", () =>
    Effect.gen(function*() {
      const control = PipelineControl.make({ pipeline: "shop", spool: false })
      const error = yield* Effect.flip(control.spool(true))
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.hint, "spool")
      yield* control.spool(false)
      assert.isFalse(control.isSpooling())
    }).pipe(silent))

  it.live("ends a run with a spool whose source can't tell whether that is lost", () =>
    Effect.gen(function*() {
      const control = PipelineControl.make({ pipeline: "shop", spool: true })
      const run = yield* start(control, new PrefixSink(), {
        spool: { directory: "/nonexistent", maxBytes: 1, when: "asked", after: 1 }
      })
      const exit = yield* run.ended
      const error = Exit.isFailure(exit)
        ? exit.cause.reasons.find((reason) => reason._tag === "Fail")?.error
        : undefined
      assert.strictEqual(error?.reason, "Misconfigured")
    }).pipe(silent))

  it.live("sets a table aside durably with its reason, so that the others' changes are acknowledged", () =>
    Effect.gen(function*() {
      const control = PipelineControl.make({ pipeline: "shop", spool: false })
      const sink = new PrefixSink()
      sink.held("public.a").copied = 1n
      sink.held("public.b").copied = 1n
      let stalled = true
      sink.at = (point, table) => point === "write" && table === "public.a" && stalled ? Effect.never : Effect.void
      const run = yield* start(control, sink, { onTableError: "stop" })
      yield* run.emit(rows(a, 10), rows(b, 11), mark(20))
      yield* eventually(() => run.progress.snapshot(0).receivedPosition === 20n)
      yield* eventually(() => control.blocking().length === 1)
      assert.deepStrictEqual(control.blocking(), ["public.a"])
      assert.strictEqual(run.context().acknowledged(), 0n)
      yield* control.quarantine("public.a", why)
      assert.include(sink.held("public.a").quarantined ?? {}, why)
      assert.strictEqual(run.context().acknowledged(), 20n)
      assert.deepStrictEqual(control.blocking(), [])
      assert.strictEqual(
        run.progress.snapshot(0).tables.find(({ table }) => table === "public.a")?.phase,
        "quarantined"
      )
      // Once more changes nothing.
      yield* control.quarantine("public.a", { ...why, message: "another reason" })
      assert.include(sink.held("public.a").quarantined ?? {}, why)
      stalled = false
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(sink.breaches, [])
    }).pipe(silent))

  it.live("fails to set aside what isn't there, what a sink can't remember, and what a run's end comes before", () =>
    Effect.gen(function*() {
      const control = PipelineControl.make({ pipeline: "shop", spool: false })
      const reasonOf = (effect: Effect.Effect<void, ConnectorError>) =>
        Effect.map(Effect.flip(effect), ({ reason }) => reason)
      assert.strictEqual(yield* reasonOf(control.quarantine("public.a", why)), "Missing")
      const sink = new PrefixSink()
      const first = yield* start(control, sink)
      assert.strictEqual(yield* reasonOf(control.quarantine("public.z", why)), "Missing")
      sink.at = (point) => point === "quarantine" ? Effect.never : Effect.void
      const asked = yield* Effect.forkChild(Effect.flip(control.quarantine("public.a", why)))
      yield* eventually(() => first.context().quarantined("public.a") !== undefined)
      yield* first.kill
      assert.strictEqual((yield* Fiber.join(asked)).reason, "Unreachable")

      const forgetful = new PrefixSink()
      const { quarantine: _, ...rest } = forgetful.sink
      const second = yield* start(control, forgetful, { sink: rest })
      assert.strictEqual(yield* reasonOf(control.quarantine("public.a", why)), "Unsupported")
      yield* second.kill
      assert.deepStrictEqual(control.blocking(), [])
    }).pipe(silent))
})

describe("tables that hold the acknowledged position back", () => {
  it("come in the order of the watermark that each of them keeps from counting", () => {
    const acknowledgement = new Acknowledgement()
    const at = (commit: bigint) => Sequence.make(commit, 1n)
    acknowledgement.emitted("b", at(10n))
    acknowledgement.watermark(11n)
    acknowledgement.emitted("a", at(20n))
    acknowledgement.emitted("b", at(21n))
    acknowledgement.emitted("c", at(22n))
    acknowledgement.watermark(30n)
    assert.deepStrictEqual(acknowledgement.blockingTables(), ["b", "a", "c"])
    acknowledgement.durable("b", at(10n))
    assert.deepStrictEqual(acknowledgement.blockingTables(), ["a", "b", "c"])
    acknowledgement.durable("a", at(20n))
    acknowledgement.hold("a")
    acknowledgement.watermark(40n)
    acknowledgement.durable("b", at(21n))
    acknowledgement.durable("c", at(22n))
    assert.deepStrictEqual(acknowledgement.blockingTables(), ["a"])
    acknowledgement.release("a")
    assert.deepStrictEqual(acknowledgement.blockingTables(), [])
  })
})
