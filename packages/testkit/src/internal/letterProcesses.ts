/**
 * What becomes of letters when other processes have the store open, and when they are killed in the middle of their work.
 */
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { DeadLetterStore } from "@etl-stream/core/DeadLetterStore"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { fileURLToPath } from "node:url"
import * as ChildProcess from "../ChildProcess.ts"
import type { Options } from "../PluginOptions.ts"
import { holds, letter, listed } from "./letters.ts"

interface Opening {
  readonly open: Effect.Effect<DeadLetterStore, unknown, Scope.Scope>
}

/** How another process opens the store. */
export interface Task {
  readonly module: string
  readonly plugin: string
  readonly options: Options
  readonly directory: string
}

const script = fileURLToPath(
  new URL(`./letterWriter${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url)
)

interface Letters {
  readonly table: string
  readonly first: number
  readonly count: number
  readonly each: number
  readonly length: number
  readonly waits?: boolean
}

const writer = (task: Task, letters: Letters) =>
  ChildProcess.start({
    name: "the process that puts letters",
    command: process.execPath,
    args: [script, JSON.stringify({ ...task, ...letters })]
  })

/** A letter as the other process makes it. */
const made = (table: string, ordinal: number, length: number): DeadLetter =>
  letter({ table, ordinal, values: { long: "x".repeat(length) } })

const rounds = 4
const length = 20_000

/** Letters of killed processes: those that were kept are there, and no others than those that were put. */
export const killed = Effect.fnUntraced(function*({ open }: Opening, task: Task) {
  const table = "public.killed"
  for (let round = 0; round < rounds; round++) {
    const first = round * 1000
    const child = yield* writer(task, { table, first, count: 1000, each: 3, length })
    yield* child.waitFor(new RegExp(`^kept ${3 * (2 + round * 3)}$`, "m"))
    // At another moment of its work each time.
    yield* Effect.sleep(round * 7)
    yield* child.kill()
    const said = Number([...child.output().matchAll(/^kept (\d+)$/gm)].at(-1)?.[1] ?? 0)
    assert.ok(said > 0)
    const store = yield* open
    const found = yield* listed(store, { table })
    const ids = new Set(found.map(({ id }) => id))
    for (let ordinal = first; ordinal < first + said; ordinal++) {
      assert.ok(
        ids.has(made(table, ordinal, length).id),
        `the letter ${ordinal - first + 1} of ${said} that were kept is gone`
      )
    }
    for (const one of found) {
      assert.deepEqual(one, made(table, Number(one.values["id"]), length), "a letter is there that was never put so")
    }
    const last = made(table, first + said - 1, length)
    assert.equal(yield* store.put([last]), 0, "a letter that is there was taken for a new one")
    assert.equal(yield* store.put([letter({ table: "public.after", ordinal: round })]), 1)
    assert.equal(
      yield* store.put([letter({ table, ordinal: 1_000_000 + round, values: { long: "x".repeat(length) } })]),
      1
    )
  }
  assert.equal((yield* listed(yield* open, { table: "public.after" })).length, rounds)
})

/** Letters of two processes that put some of the same. */
export const together = Effect.fnUntraced(function*({ open }: Opening, task: Task) {
  const table = "public.shared"
  const letters = { table, count: 150, each: 1, length: 3000, waits: true }
  const one = yield* writer(task, { ...letters, first: 0 })
  const other = yield* writer(task, { ...letters, first: 100 })
  // They begin at the same time, however long each took to start.
  for (const child of [one, other]) yield* child.waitFor(/^ready$/m)
  for (const child of [one, other]) yield* child.signal("SIGUSR2")
  for (const child of [one, other]) {
    const { code } = yield* child.ended()
    assert.equal(code, 0, child.output())
  }
  yield* holds(yield* open, Array.from({ length: 250 }, (_, ordinal) => made(table, ordinal, 3000)))
})
