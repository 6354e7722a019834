/**
 * What every case of a source has at hand: a place, changes to it, an ideal sink, and the judgement in the end.
 */
import { ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import type { Source } from "@etl-stream/core/Source"
import { tableId, type TableName } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import type { Case } from "../Conformance.ts"
import type { ElementRules } from "../ElementRules.ts"
import * as Secrecy from "../Secrecy.ts"
import type { Ability, Subject, World } from "../SourceSubject.ts"
import { IdealSink } from "./idealSink.ts"
import * as Opening from "./opening.ts"
import { type Run, type RunOptions, start } from "./sourceRun.ts"
import { mark, Workload } from "./workload.ts"

export interface Kit {
  readonly world: World
  readonly sink: IdealSink
  readonly workload: Workload
  /** Opens the source anew, as a restart does. */
  readonly open: Effect.Effect<Source, ConnectorError, Scope.Scope>
  /** Milliseconds. */
  readonly patience: number
  readonly restarts: number
  readonly can: (ability: Ability) => boolean
  /** The first table of the place. */
  readonly first: TableName
  /** The judges of all runs. */
  readonly rules: Array<ElementRules>
  readonly heard: (error: unknown) => void
  readonly start: (options?: RunOptions) => Effect.Effect<Run, ConnectorError, Scope.Scope>
  /** Writes a row, and waits until it has come by the run and all before it, copies included. */
  readonly caughtUp: (run: Run) => Effect.Effect<void, unknown>
  /** The same of a source that may end its run by something that passes, such as another shape of a table: then it is started again. */
  readonly persist: (run: Run) => Effect.Effect<void, unknown, Scope.Scope>
  /** Makes random changes while something else is done. They may have to wait for what is being read, so that is over first; the changes are there afterwards. */
  readonly beside: <A, E, R>(changes: number, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, unknown, R>
  /** Runs until everything has come, and stops. */
  readonly catchUp: (options?: RunOptions) => Effect.Effect<void, unknown, Scope.Scope>
  /** Fails when a run broke a rule, or the sink has other rows than the place. */
  readonly judge: Effect.Effect<void, unknown>
}

const shown = 10

const patienceOf = <A>({ patience }: Subject<A>): number =>
  Duration.toMillis(Duration.fromInputUnsafe(patience ?? "20 seconds"))

/** A kit on a new place. */
export const prepare = <A>(
  subject: Subject<A>,
  heard: (error: unknown) => void,
  seed: number
): Effect.Effect<Kit, unknown, Scope.Scope> =>
  Effect.map(subject.prepare, (world) => {
    const can = (ability: Ability): boolean => subject.cannot?.[ability] === undefined
    const [first] = world.tables
    assert.ok(first !== undefined, "The subject's place has no table")
    const sink = new IdealSink()
    const workload = new Workload(world, can, seed)
    const rules: Array<ElementRules> = []
    const kit: Kit = {
      world,
      sink,
      workload,
      first,
      rules,
      can,
      heard,
      open: Opening.open(subject.plugin, world),
      patience: patienceOf(subject),
      restarts: subject.restarts ?? 30,
      start: (options) => start(kit, options),
      caughtUp: (run) =>
        Effect.gen(function*() {
          const tail = yield* workload.tail(first)
          yield* run.until(`the last row of ${tableId(first)}, a watermark after it, and the end of every copy`, () => {
            const commit = run.at(first, tail)
            const mark = run.watermark()
            return commit !== undefined && mark !== undefined && mark >= commit &&
              (!sink.prompt || !sink.mirror.copying)
          })
        }),
      persist: (run) =>
        Effect.gen(function*() {
          let current = run
          for (let attempt = 0;; attempt++) {
            const done = yield* Effect.result(kit.caughtUp(current))
            yield* current.stop
            if (done._tag === "Success") return
            const { failure } = done
            if (attempt === 5 || !(failure instanceof ConnectorError) || !isRetryable(failure)) {
              return yield* Effect.fail(failure)
            }
            current = yield* kit.start()
          }
        }),
      beside: (changes, effect) =>
        Effect.gen(function*() {
          const busy = yield* Effect.forkDetach(workload.steps(changes), { startImmediately: true })
          yield* Effect.raceFirst(Effect.exit(Fiber.join(busy)), Effect.sleep(250))
          const answer = yield* effect
          yield* Fiber.join(busy)
          return answer
        }),
      catchUp: (options) =>
        Effect.gen(function*() {
          const run = yield* kit.start(options)
          yield* kit.caughtUp(run)
          yield* run.stop
        }),
      judge: Effect.gen(function*() {
        const problems = [...rules.flatMap(({ problems }) => problems), ...sink.mirror.problems]
        for (const table of world.tables) {
          problems.push(...differences(table, yield* world.rows(table), sink.mirror.rows(table)))
          problems.push(...addedDifferences(table, workload, sink))
        }
        assert.deepEqual(problems.slice(0, shown), [])
      })
    }
    return kit
  })

/** What is wrong with columns that were added, renamed or dropped. */
const addedDifferences = (table: TableName, workload: Workload, { mirror }: IdealSink): ReadonlyArray<string> => {
  const shape = new Set(mirror.shape(table)?.columns.map(({ name }) => name.toLowerCase()))
  const say = (column: string, text: string): string => `${tableId(table)}: the column ${column} ${text}`
  return [
    ...[...workload.former(table)].filter((name) => shape.has(name)).map((name) =>
      say(name, "is still there for the source")
    ),
    ...[...workload.columns(table)].flatMap(([name, values]) => {
      if (!shape.has(name)) return [say(name, "didn't come")]
      const wrong = mirror.rows(table).filter((record) => {
        const cell = (column: string): string | null =>
          Object.entries(record).find(([key]) => key.toLowerCase() === column)?.[1] ?? null
        return cell(name) !== (values.get(Number(cell("id"))) ?? null)
      })
      return wrong.length === 0 ? [] : [say(name, `has other values in ${wrong.length} rows`)]
    })
  ]
}

/** A row as text, by the two columns that the kit knows. */
const line = (record: Readonly<Record<string, string | null>>): string => {
  const entries = Object.entries(record)
  const [id, note] = ["id", "note"].map((name) => entries.find(([key]) => key.toLowerCase() === name)?.[1])
  return JSON.stringify([id === null || id === undefined ? id : String(Number(id)), note])
}

const differences = (
  table: TableName,
  there: ReadonlyArray<{ readonly id: number; readonly note: string | null }>,
  mirrored: ReadonlyArray<Readonly<Record<string, string | null>>>
): ReadonlyArray<string> => {
  const left = new Map<string, number>()
  for (const { id, note } of there) {
    const text = JSON.stringify([String(id), note])
    left.set(text, (left.get(text) ?? 0) + 1)
  }
  const problems: Array<string> = []
  const short = (text: string): string => text.slice(0, 100)
  for (const record of mirrored) {
    const text = line(record)
    const count = left.get(text) ?? 0
    if (count === 0) problems.push(`${tableId(table)}: ${short(text)} came and isn't there`)
    else left.set(text, count - 1)
  }
  for (const [text, count] of left) {
    if (count > 0) problems.push(`${tableId(table)}: ${short(text)} is there and didn't come`)
  }
  return problems
}

/** Why a case that needs all of these can't be tried. */
const lacking = <A>(subject: Subject<A>, needs: ReadonlyArray<Ability>): string | undefined =>
  needs.map((ability) => subject.cannot?.[ability]).find((why) => why !== undefined)

/** A case whose log and errors are looked through. */
export const judged = <A>(
  subject: Subject<A>,
  name: string,
  body: (secrecy: Secrecy.Secrecy) => Effect.Effect<void, unknown, Scope.Scope>,
  ...needs: ReadonlyArray<Ability>
): Case => ({
  name,
  skipped: lacking(subject, needs),
  run: Effect.gen(function*() {
    const secrets = (subject.secrets ?? []).map((secret, index) => [`secret ${index + 1}`, secret] as const)
    const secrecy = Secrecy.make(new Map([["a row's value", mark], ...secrets]))
    yield* Effect.scoped(secrecy.listening(body(secrecy)))
    assert.deepEqual(secrecy.found(), [])
  })
})

/** A case on a place of its own. */
export const scenario = <A>(
  subject: Subject<A>,
  name: string,
  body: (kit: Kit) => Effect.Effect<void, unknown, Scope.Scope>,
  ...needs: ReadonlyArray<Ability>
): Case => judged(subject, name, ({ heard }) => Effect.flatMap(prepare(subject, heard, 1), body), ...needs)
