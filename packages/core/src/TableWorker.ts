/**
 * The last stretch of one table's way: an `ArrowBatcher` and the fiber that gives the table's writer one element at a time.
 *
 * `offer` never waits: what a table may have under way is bounded by the memory account that was charged before. The fiber
 * writes what is ready, waits for more or for the oldest rows to come of age, and returns memory when the sink has accepted.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { AnySpan } from "effect/Tracer"
import * as ArrowBatcher from "./ArrowBatcher.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import type { Account } from "./MemoryBudget.ts"
import type { TableElement, TableWriter } from "./Sink.ts"
import type { SpanLinks } from "./SpanLinks.ts"
import type { TableId } from "./TableSchema.ts"

export interface TableWorker {
  /** Takes an element for which `held` bytes were reserved; `span` is the one in which it was received, if that is sampled. */
  readonly offer: (element: TableElement, held: number, now: number, span?: AnySpan) => void
  /** Writes what has gathered without waiting for more. */
  readonly flush: () => void
  /** Whether everything offered was accepted by the sink. */
  readonly idle: () => boolean
  /** Whether every change offered was: nothing but a barrier may be under way. */
  readonly given: () => boolean
}

export interface Options {
  readonly table: TableId
  readonly writer: TableWriter
  readonly limits: ArrowBatcher.Limits
  readonly account: Account
  /** Called when the sink has accepted an element; `seconds` is how long that took. */
  readonly accepted: (element: TableElement, seconds: number) => Effect.Effect<void>
  /** Wraps each write, for a span; `received` are those in which the element's batches were received. */
  readonly traced: (
    element: TableElement,
    received: SpanLinks | undefined,
    write: Effect.Effect<void, ConnectorError>
  ) => Effect.Effect<void, ConnectorError>
  /** Called with what ended the worker. */
  readonly failed: (cause: Cause.Cause<ConnectorError>) => Effect.Effect<void>
}

/** A worker whose fiber runs in the scope. When that closes, what wasn't accepted is dropped and its memory returned. */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<TableWorker, never, Scope.Scope> {
  const { account, limits, writer } = options
  const batcher = new ArrowBatcher.ArrowBatcher(
    limits,
    (bytes) => bytes < 0 ? account.release(-bytes) : account.grow(bytes)
  )
  const signal = Latch.makeUnsafe(false)
  let writing: TableElement | undefined
  let written = 0

  const next = (): ArrowBatcher.Batched | undefined => {
    const batched = batcher.take()
    writing = batched?.element
    written = batched?.held ?? 0
    return batched
  }

  const write = Effect.fnUntraced(function*({ element, held, received }: ArrowBatcher.Batched) {
    const before = yield* Clock.currentTimeMillis
    yield* options.traced(element, received, writer.write(element))
    account.release(held)
    writing = undefined
    written = 0
    yield* options.accepted(element, ((yield* Clock.currentTimeMillis) - before) / 1000)
  })

  const loop = Effect.gen(function*() {
    while (true) {
      signal.closeUnsafe()
      const due = batcher.dueAt()
      if (due === undefined) {
        yield* signal.await
        continue
      }
      const wait = due - (yield* Clock.currentTimeMillis)
      if (wait > 0) {
        // A flush or a full batch ends the wait early.
        yield* Effect.timeoutOption(signal.await, wait)
        continue
      }
      const batched = next()
      if (batched !== undefined) yield* write(batched)
    }
  })

  // Before the fiber is forked, so that it has ended when memory is returned.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      const held = batcher.clear() + written
      writing = undefined
      written = 0
      account.release(held)
    })
  )
  yield* loop.pipe(Effect.catchCause(options.failed), Effect.forkScoped)

  return {
    offer: (element, held, now, span) => {
      const waited = batcher.dueAt()
      batcher.append(element, held, now, span)
      // Only what changes the writer's waiting wakes it: something where there was nothing, or something ready.
      if (waited === undefined || batcher.dueAt() !== waited) signal.openUnsafe()
    },
    flush: () => {
      batcher.flush()
      signal.openUnsafe()
    },
    idle: () => batcher.length === 0 && writing === undefined,
    given: () => batcher.length === 0 && writing?._tag !== "Rows" && writing?._tag !== "Truncate"
  }
})
