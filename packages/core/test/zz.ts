import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Cause from "effect/Cause"
const s = Stream.unwrap(Effect.gen(function*() {
  yield* Effect.addFinalizer(() => Effect.sync(() => console.log("closed")))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sync(() => console.log("tick")), Effect.sleep(1))))
  return Stream.concat(Stream.fromIterable([1, 2, 3], { chunkSize: 1 }), Stream.never)
}))
const p = Effect.gen(function*() {
  const scope = yield* Scope.make()
  const handoff = yield* Queue.make<number, Cause.Done>({ capacity: 0 })
  yield* Effect.gen(function*() {
    const pull = yield* Stream.toPull(s)
    while(true) {
      for (const x of yield* pull) { console.log("pulled", x); yield* Queue.offer(handoff, x) }
    }
  }).pipe(Effect.scoped, Effect.forkIn(scope))
  for (let i = 0; i < 3; i++) { console.log(yield* Queue.take(handoff)) }
  yield* Effect.sleep(20)
  yield* Queue.end(handoff)
  yield* Effect.sleep(20)
}).pipe(Effect.scoped)
Effect.runPromise(p).then(console.log)
