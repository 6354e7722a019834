/**
 * The contract of a `DeadLetterStore` as a conformance suite.
 *
 * The store is opened several times within a case and must reach the same letters each time: that is how the suite sees what is durable, and what two processes
 * would see. Where the subject names its module, other processes open it, too, and are killed in the middle of their work.
 */
import type { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { DeadLetterStore } from "@etl-stream/core/DeadLetterStore"
import type { Plugin } from "@etl-stream/core/Plugin"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import type { Case, Suite } from "./Conformance.ts"
import * as LetterProcesses from "./internal/letterProcesses.ts"
import { holds, letter, listed, marker, pipeline } from "./internal/letters.ts"
import * as Memory from "./internal/memory.ts"
import * as Refused from "./internal/refusedOptions.ts"
import * as PluginOptions from "./PluginOptions.ts"

/** A place for letters that nobody else uses. */
export interface Place {
  /** Options with room for some thousand letters of a table. */
  readonly options: PluginOptions.Options
  /** Relative paths in options are relative to it. Default: the current folder. */
  readonly directory?: string
  /** Options for the same place with room for so many letters of a table; undefined: the store has no limit. */
  readonly limited?: (letters: number) => PluginOptions.Options
  /** Makes the place unreachable (its server ends, its folder is a file …); undefined: it can't be. The place isn't used after that. */
  readonly gone?: Effect.Effect<void, unknown>
}

export interface Subject<A> {
  readonly plugin: Plugin<"deadLetters", A>
  readonly prepare: Effect.Effect<Place, unknown, Scope.Scope>
  /**
   * URL of the plugin's module (`import.meta.resolve("my-plugin")`), with which other processes open the store by the same options, JSON as they are; undefined:
   * they can't, and nobody is killed.
   */
  readonly module?: string
  /** What it can't do, each with the reason: have a `limit`, be `gone`, show that its lists are `bounded` (its server being in this process, say). */
  readonly cannot?: Readonly<Partial<Record<"limit" | "gone" | "bounded", string>>>
  /** Options that decode. */
  readonly valid: PluginOptions.Options
  readonly refused: ReadonlyArray<PluginOptions.RefusedOptions>
  /** How much is put to see that a list needs no more memory for it, in bytes. Default: 48 MiB, a third of which it may take. */
  readonly volume?: number
  /** The longest that an operation may take when the place is gone. Default: 30 seconds. */
  readonly patience?: Duration.Input
  /** How long a case may take. Default: 1 minute. */
  readonly timeout?: Duration.Input
}

type Scoped<A> = Effect.Effect<A, unknown, Scope.Scope>

/** A case's place, and its store, opened anew each time. */
interface Opening {
  readonly place: Place
  readonly directory: string
  readonly open: Scoped<DeadLetterStore>
  readonly openWith: (options: PluginOptions.Options) => Scoped<DeadLetterStore>
}

/** Names that a store may stumble over, if it makes parts of files, keys or statements of them. */
const oddNames = [
  "a.b",
  "../../up",
  "a/b\\c",
  "%2F",
  "_",
  "A",
  "a",
  "'; DROP TABLE letters; --",
  "\"quoted\"",
  "Ünïcode 🌊",
  "new\nline\u2028",
  "n".repeat(300),
  `${"n".repeat(299)}m`,
  " ",
  "CON",
  "__proto__"
]

const oddTables: ReadonlyArray<string> = [
  ...oddNames.map((name) => tableId({ schema: "public", name })),
  tableId({ schema: "a.b", name: "c" }),
  tableId({ schema: "a", name: "b.c" })
]

/** Values of every kind: whatever a source writes as text. */
const everyKind = (ordinal: number): DeadLetter =>
  letter({
    ordinal,
    values: {
      none: null,
      empty: "",
      text: "line\nend\r\n\u2028\u2029\u0085 \"quoted\" 'single' \\ \u0000 \u001b 😀 \ufeff \u{10ffff}",
      number: "-12345678901234567890.123456789000",
      json: "{\"a\": [1, \"\\u0000\", null], \"letter\": {\"id\": 1}}",
      binary: "\\x00ff5c",
      time: "0044-03-15 BC",
      infinity: "-Infinity",
      array: "{NULL,\"NULL\",\"a,b\",{}}",
      "odd \"name\".\n": "value",
      long: "x".repeat(100_000),
      ...Object.fromEntries([["__proto__", "own"], ["constructor", null]])
    }
  })

/** The suite for a dead-letter store. */
export const make = <A>(subject: Subject<A>): Suite => {
  const { cannot = {}, module, patience = "30 seconds", plugin, volume = 48 * 1024 * 1024 } = subject

  const opening = Effect.map(subject.prepare, (place): Opening => {
    const { directory = PluginOptions.context.directory } = place
    const openWith = (options: PluginOptions.Options) =>
      PluginOptions.make(plugin, options, { ...PluginOptions.context, directory })
    return { place, directory, openWith, open: openWith(place.options) }
  })

  const test = (
    name: string,
    run: (opening: Opening) => Scoped<void>,
    skipped: string | undefined = undefined
  ): Case => ({
    name,
    skipped,
    run: Effect.flatMap(opening, run)
  })

  const noModule = module === undefined ? "the subject names no `module` for other processes" : undefined

  const taskOf = ({ directory, place }: Opening) => ({
    module: module ?? "",
    plugin: plugin.name,
    options: place.options,
    directory
  })

  /** The error of an operation, as it has to be, in time. */
  const refusal = Effect.fnUntraced(function*<B>(operation: Effect.Effect<B, unknown>, what: string) {
    const result = yield* operation.pipe(
      Effect.result,
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () => Effect.die(new assert.AssertionError({ message: `${what} wasn't over in time` }))
      })
    )
    if (result._tag === "Success") return assert.fail(`${what} completed`)
    const error = result.failure
    if (typeof error !== "object" || error === null || !("_tag" in error) || error._tag !== "ConnectorError") {
      return assert.fail(`${what} failed with something that is no ConnectorError: ${String(error)}`)
    }
    const { hint, message, table } = { hint: "", message: "", table: undefined, ...error } as { // a ConnectorError by its tag
      readonly hint: string
      readonly message: string
      readonly table: string | undefined
    }
    assert.notEqual(hint, "", `${what} failed without a hint what to do: ${message}`)
    assert.ok(!`${message} ${hint}`.includes(marker), `${what} failed with an error that has a value in it: ${message}`)
    return { message, table }
  })

  return {
    kind: "deadLetters",
    plugin: plugin.name,
    timeout: Duration.fromInputUnsafe(subject.timeout ?? "1 minute"),
    cases: [
      ...Refused.cases(plugin, subject.refused, subject.valid),
      test("has no letters where none were put", ({ open }) =>
        Effect.gen(function*() {
          const store = yield* open
          yield* holds(store, [])
          yield* holds(store, [], { table: "public.a", column: "c" })
          assert.equal(yield* store.get(pipeline, letter().id), undefined)
          assert.equal(yield* store.put([]), 0)
          yield* store.remove([letter()])
        })),
      test("gives back every letter as it was put, to whoever opens it next", ({ open }) =>
        Effect.gen(function*() {
          const letters = [everyKind(1), everyKind(2), letter({ ordinal: 3, table: "public.b" })]
          assert.equal(yield* Effect.scoped(Effect.flatMap(open, (store) => store.put(letters))), letters.length)
          const again = yield* open
          yield* holds(again, letters)
          for (const each of letters) assert.deepEqual(yield* again.get(pipeline, each.id), each)
        })),
      test("keeps a letter once, however often and by whomever it is put", ({ open }) =>
        Effect.gen(function*() {
          const [one, other] = [yield* open, yield* open]
          const letters = [letter({ ordinal: 1 }), letter({ ordinal: 2 })]
          assert.equal(yield* one.put([...letters, ...letters]), 2, "letters that are new, counted")
          assert.equal(yield* one.put(letters), 0, "letters that are new, when they are put again")
          assert.equal(
            yield* other.put([...letters, letter({ ordinal: 3 })]),
            1,
            "letters that are new, put by another"
          )
          yield* holds(one, [...letters, letter({ ordinal: 3 })])
          assert.equal(yield* (yield* open).put(letters), 0, "letters that are new, after it was opened again")
        })),
      test("forgets what is removed, by whomever, and nothing else; put again it is kept again", ({ open }) =>
        Effect.gen(function*() {
          const [one, other] = [yield* open, yield* open]
          const letters = [1, 2, 3].map((ordinal) => letter({ ordinal }))
          const [first = letter(), ...rest] = letters
          yield* one.put(letters)
          yield* other.remove([first])
          yield* holds(one, rest)
          yield* holds(other, rest)
          assert.equal(yield* one.get(pipeline, first.id), undefined)
          yield* other.remove([first, letter({ ordinal: 99 }), letter({ table: "public.never" })])
          yield* holds(yield* open, rest)
          assert.equal(yield* (yield* open).put([first]), 1)
          yield* holds(yield* open, letters)
          yield* other.remove([first])
          assert.equal(yield* one.put([first]), 1, "a letter that is put again by whom it was put before")
          yield* holds(yield* open, letters)
          yield* (yield* open).remove(letters)
          yield* holds(yield* open, [])
        })),
      test("tells pipelines, tables and columns apart, whatever their names", ({ open }) =>
        Effect.gen(function*() {
          const store = yield* open
          const letters = [
            ...oddTables.map((table) => letter({ table })),
            ...oddNames.map((column) => letter({ table: "public.columns", column }))
          ]
          const elsewhere = [letter({ pipeline: "conformance-2" }), letter({ pipeline: "Conformance" })]
          yield* store.put([...letters, ...elsewhere])
          const again = yield* open
          yield* holds(again, letters)
          for (const table of oddTables) yield* holds(again, [letter({ table })], { table })
          for (const column of oddNames) {
            const selected = [letter({ table: "public.columns", column })]
            yield* holds(again, selected, { table: "public.columns", column })
            yield* holds(again, selected, { column })
          }
          for (const other of elsewhere) {
            yield* holds(again, [other], { pipeline: other.pipeline })
            assert.equal(yield* again.get(pipeline, other.id), undefined, "a letter of another pipeline")
            assert.deepEqual(yield* again.get(other.pipeline, other.id), other)
          }
          yield* again.remove(letters)
          yield* holds(yield* open, [])
          for (const other of elsewhere) yield* holds(yield* open, [other], { pipeline: other.pipeline })
        })),
      test(
        "takes so many letters of a table and no more, until some are removed",
        ({ openWith, place }) =>
          Effect.gen(function*() {
            if (place.limited === undefined) {
              return assert.fail("the place has no `limited`; say why among what the subject `cannot`")
            }
            const open = openWith(place.limited(3))
            const store = yield* open
            const letters = [1, 2, 3].map((ordinal) => letter({ ordinal }))
            const [first = letter()] = letters
            yield* store.put(letters)
            assert.equal(yield* store.put(letters), 0, "letters that it has don't count against the limit")
            const error = yield* refusal(store.put([letter({ ordinal: 4 })]), "`put` of one letter too many")
            assert.equal(error.table, "public.a", "the error's table")
            yield* store.put([letter({ table: "public.b" })])
            yield* refusal(
              (yield* open).put([letter({ ordinal: 5 })]),
              "`put` of one letter too many, after it was opened again"
            )
            const left = (yield* listed(yield* open, { table: "public.a" })).filter(({ id }) =>
              letters.some((each) => each.id === id)
            )
            assert.equal(left.length, 3, "letters that were there before")
            const another = yield* open
            yield* another.remove(yield* listed(another, { table: "public.a" }))
            assert.equal(
              yield* store.put([first]),
              1,
              "letters that are new, after another has removed what was too much"
            )
            yield* another.remove([first])
            assert.equal(yield* another.put([first]), 1)
          }),
        cannot.limit
      ),
      test("serves several at once", ({ open }) =>
        Effect.gen(function*() {
          const stores = [yield* open, yield* open]
          const letters = Array.from(
            { length: 60 },
            (_, ordinal) => letter({ ordinal, table: `public.t${ordinal % 3}` })
          )
          const gone = letters.slice(0, 10)
          yield* Effect.forEach(stores, (store) => store.put(gone), { concurrency: "unbounded" })
          yield* Effect.forEach(
            [
              ...letters.map((each, index) =>
                Effect.asVoid(
                  (stores[index % 2] ?? stores[0])?.put([each, ...letters.slice(index, index + 3)]) ?? Effect.void
                )
              ),
              ...stores.map((store) => Effect.asVoid(listed(store)))
            ],
            (operation) => operation,
            { concurrency: "unbounded" }
          )
          yield* holds(yield* open, letters)
          yield* Effect.forEach(gone, (each, index) => stores[index % 2]?.remove([each]) ?? Effect.void, {
            concurrency: "unbounded"
          })
          yield* holds(yield* open, letters.slice(10))
        })),
      test("forgets what several forget at once, each its own", ({ open }) =>
        Effect.gen(function*() {
          const stores = [yield* open, yield* open, yield* open]
          for (let round = 0; round < 4; round++) {
            const letters = Array.from({ length: 9 }, (_, ordinal) => letter({ ordinal: 100 * round + ordinal }))
            const kept = letters.slice(stores.length)
            yield* (yield* open).put(letters)
            yield* Effect.forEach(stores, (store, index) => store.remove(letters.slice(index, index + 1)), {
              concurrency: "unbounded"
            })
            yield* holds(yield* open, kept)
            yield* (yield* open).remove(kept)
            yield* holds(yield* open, [])
          }
        })),
      test("keeps large letters", ({ open }) =>
        Effect.gen(function*() {
          const large = letter({ values: { long: "ä\n\"".repeat(400_000) } })
          yield* (yield* open).put([large, letter({ ordinal: 1 })])
          yield* holds(yield* open, [large, letter({ ordinal: 1 })])
        })),
      test("lists without holding it all, and stops when nobody asks for more", ({ open }) =>
        Effect.gen(function*() {
          const store = yield* open
          const length = 100_000
          const count = Math.ceil(volume / length)
          for (let ordinal = 0; ordinal < count; ordinal += 10) {
            yield* store.put(Array.from({ length: Math.min(10, count - ordinal) }, (_, index) =>
              letter({ ordinal: ordinal + index, values: { long: "y".repeat(length) } })))
          }
          const again = yield* open
          const before = yield* Effect.promise(Memory.held)
          let seen = 0
          let most = 0
          yield* Stream.runForEach(again.list({ pipeline }), () =>
            Effect.gen(function*() {
              seen++
              if (seen % Math.ceil(count / 8) === 0) {
                most = Math.max(most, yield* Effect.promise(Memory.held))
              }
            }))
          assert.equal(seen, count)
          const grown = most - before
          assert.ok(
            grown < volume / 3,
            `while ${Math.round(volume / 1024)} KiB were listed, ${Math.round(grown / 1024)} KiB more were held`
          )
          assert.equal((yield* Stream.runCollect(Stream.take(again.list({ pipeline }), 1))).length, 1)
        }), cannot.bounded),
      test(
        "has what it said it has when its process is killed in the midst of a `put`, and goes on",
        (opening) => LetterProcesses.killed(opening, taskOf(opening)),
        noModule
      ),
      test("serves two processes at once", (opening) => LetterProcesses.together(opening, taskOf(opening)), noModule),
      test(
        "answers in time when its place is gone, without a value in the error",
        ({ open, place }) =>
          Effect.gen(function*() {
            if (place.gone === undefined) {
              return assert.fail("the place has no `gone`; say why among what the subject `cannot`")
            }
            const store = yield* open
            yield* store.put([letter({ ordinal: 1 })])
            yield* place.gone
            yield* refusal(store.put([letter({ ordinal: 2 }), letter({ ordinal: 3, table: "public.b" })]), "`put`")
            yield* refusal(Effect.scoped(Stream.runDrain(store.list({ pipeline }))), "`list`")
            yield* refusal(store.get(pipeline, letter({ ordinal: 1 }).id), "`get`")
            yield* refusal(store.remove([letter({ ordinal: 1 })]), "`remove`")
          }),
        cannot.gone
      )
    ]
  }
}
