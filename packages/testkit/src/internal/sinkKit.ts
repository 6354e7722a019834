/**
 * What every case of a sink has at hand: an empty place, runs of the sink on it, what it promised, and the judgement in the end.
 */
import type { Operation } from "@etl-stream/core/ChangeBatch"
import { Operation as Operations } from "@etl-stream/core/ChangeBatch"
import { type ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Sink, TablePosition } from "@etl-stream/core/Sink"
import { type TableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import * as BatchOf from "../BatchOf.ts"
import * as CanonicalCell from "../CanonicalCell.ts"
import type { Case } from "../Conformance.ts"
import * as Secrecy from "../Secrecy.ts"
import type { Ability, HeldRow, Place, Subject } from "../SinkSubject.ts"
import * as Histories from "./history.ts"
import * as Opening from "./opening.ts"
import * as Script from "./script.ts"
import { giveAll, type Promised, type SinkRun, start } from "./sinkRun.ts"
import { mark } from "./workload.ts"

/** A table with its history, and what its runs have in common. */
export interface Play {
  readonly history: Histories.History
  readonly memory: Script.Memory
}

export interface Kit {
  readonly place: Place
  readonly mode: "mirror" | "append"
  readonly can: (ability: Ability) => boolean
  /** Opens the sink anew, as a restart does. */
  readonly open: Effect.Effect<Sink, ConnectorError, Scope.Scope>
  /** Milliseconds. */
  readonly patience: number
  readonly rounds: number
  /** What the sink did that it must not. */
  readonly problems: Array<string>
  readonly promised: (table: TableId) => Promised
  readonly heard: (error: unknown) => void
  readonly start: (tables: ReadonlyArray<TableSchema>) => Effect.Effect<SinkRun, ConnectorError, Scope.Scope>
  /** A table with a random history. */
  readonly play: (
    name: string,
    seed: number,
    options?: {
      readonly keyless?: boolean
      readonly transactions?: number
      /** The only change of shape that it has. */
      readonly shape?: "DropColumn" | "RenameColumn"
    }
  ) => Play
  /** What the source gives of it now: everything from its copy on, or, when the seed is odd, what isn't durable. */
  readonly items: (
    play: Play,
    table: { readonly position: TablePosition },
    seed: number,
    upTo?: number
  ) => Generator<Script.Item>
  /** The shape that a run opens the table in. */
  readonly shape: (play: Play) => TableSchema
  /** Gives all that is missing of the tables, waits until it is durable, settles and ends. */
  readonly complete: (plays: ReadonlyArray<Play>, seed: number) => Effect.Effect<void, ConnectorError, Scope.Scope>
  /** The same, and begins again as long as it fails by something that passes. */
  readonly persist: (plays: ReadonlyArray<Play>, seed: number) => Effect.Effect<void, ConnectorError, Scope.Scope>
  /** Fails when the sink broke a promise, or the place doesn't have what the histories come to. */
  readonly judge: (plays: ReadonlyArray<Play>) => Effect.Effect<void, unknown>
}

const shown = 10

/** What isn't done where a change of shape is to be seen: rows from before it have to be left. */
const others: ReadonlySet<Ability> = new Set(["AddColumn", "Widen", "DropColumn", "RenameColumn", "Truncate"])

export const prepare = <A>(
  subject: Subject<A>,
  heard: (error: unknown) => void
): Effect.Effect<Kit, unknown, Scope.Scope> =>
  Effect.map(subject.prepare, (place) => {
    const can = (ability: Ability): boolean => subject.cannot?.[ability] === undefined
    const promises = new Map<TableId, Promised>()
    const kit: Kit = {
      place,
      mode: subject.mode,
      can,
      open: Opening.open(subject.plugin, place),
      patience: Duration.toMillis(Duration.fromInputUnsafe(subject.patience ?? "20 seconds")),
      rounds: subject.rounds ?? 6,
      problems: [],
      heard,
      promised: (table) => {
        const known = promises.get(table) ?? { copied: undefined, durable: undefined, given: undefined }
        promises.set(table, known)
        return known
      },
      start: (tables) => start(kit, tables),
      play: (name, seed, { keyless, shape, transactions } = {}) => {
        const table = keyless === true
          ? Histories.keylessTable(name)
          : shape === undefined
          ? Histories.keyedTable(name)
          : Histories.wideTable(name)
        return {
          history: Histories.make(table, {
            can: (ability) => can(ability) && (shape === undefined || ability === shape || !others.has(ability)),
            seed,
            transactions: transactions ?? 14
          }),
          memory: Script.memory()
        }
      },
      items: ({ history, memory }, { position }, seed, upTo) =>
        Script.items(history, position, memory, {
          seed,
          resumable: can("Resume"),
          // Some sources begin behind what was acknowledged, others earlier.
          acknowledged: seed % 2 === 0 ? undefined : kit.promised(tableId(history.table.table)).durable,
          ...(upTo === undefined ? {} : { upTo })
        }),
      shape: ({ history, memory }) => Histories.shapeAfter(history, memory.read),
      complete: (plays, seed) =>
        Effect.gen(function*() {
          const run = yield* kit.start(plays.map(kit.shape))
          const tables = yield* Effect.forEach(plays, (play) => run.open(kit.shape(play)))
          yield* Effect.raceFirst(
            Effect.forEach(tables, (table, index) => {
              const play = plays[index]
              return play === undefined
                ? Effect.void
                : Effect.andThen(giveAll(table, kit.items(play, table, seed)), table.allDurable)
            }, { concurrency: 4, discard: true }),
            run.background
          ).pipe(Effect.tapError(() => run.crash))
          yield* run.finish.pipe(
            Effect.tapError((error) => Effect.andThen(Effect.sync(() => kit.heard(error)), run.crash))
          )
        }),
      persist: (plays, seed) =>
        Effect.gen(function*() {
          for (let attempt = 0;; attempt++) {
            const done = yield* Effect.result(Effect.scoped(kit.complete(plays, seed + attempt)))
            if (done._tag === "Success") return
            const { failure } = done
            assert.ok(isRetryable(failure), `${failure.reason} ends a run for good: ${failure.message}`)
            if (attempt === 9) return yield* failure
            yield* Effect.sleep(10 << attempt)
          }
        }),
      judge: (plays) =>
        Effect.gen(function*() {
          const problems = [...kit.problems]
          for (const play of plays) {
            const shape = Histories.shapeAfter(play.history, play.history.transactions.length)
            const held = yield* place.rows(shape)
            const expected = kit.mode === "mirror" ? mirrored(play, shape) : appended(play, shape)
            problems.push(...differences(shape, expected, held.map((row) => lineOf(kit.mode, shape, row))))
          }
          assert.deepEqual(problems.slice(0, shown), [])
        })
    }
    return kit
  })

/** A row of the place, by the columns of the shape. */
export const lineOf = (
  mode: Kit["mode"],
  shape: TableSchema,
  { cells, operation, sequence, unsent }: HeldRow
): string => {
  const values = shape.columns.map(({ name, type }) =>
    unsent?.includes(name) === true ? "(not sent)" : CanonicalCell.ofText(type, cells[name] ?? null)
  )
  return JSON.stringify(mode === "mirror" ? values : [sequence, operation, ...values])
}

const textOf = (shape: TableSchema, values: ReadonlyArray<BatchOf.Value>): ReadonlyArray<string | null> =>
  Histories.shaped(values, shape).map((value, index) =>
    Histories.cellOf(shape.columns[index]?.type ?? { _tag: "Other" }, value)
  )

const mirrored = ({ history }: Play, shape: TableSchema): ReadonlyArray<string> =>
  Histories.rowsAfter(history, history.transactions.length).map((values) => JSON.stringify(textOf(shape, values)))

const appended = ({ history, memory }: Play, shape: TableSchema): ReadonlyArray<string> => {
  const entry = (sequence: Sequence.Sequence, operation: Operation, values: ReadonlyArray<BatchOf.Value>): string =>
    JSON.stringify([
      Sequence.format(sequence),
      operation,
      ...textOf(shape, values).map((cell, index) =>
        Histories.shaped(values, shape)[index] === BatchOf.unsent ? "(not sent)" : cell
      )
    ])
  const copied = [...memory.copy?.chunks.values() ?? []].flat().map(({ position, values }) =>
    entry(Sequence.make(position, 0n), Operations.Read, values)
  )
  const base = memory.copy?.base ?? 0n
  const changes = history.transactions.filter(({ commit }) => commit >= base).flatMap(({ changes }) => changes)
  return [
    ...copied,
    ...changes.flatMap((change) =>
      change._tag === "Row" ? [entry(change.row.sequence, change.row.operation, change.row.values)] : []
    )
  ]
}

/** What is there too little or too much of, in a few words each. */
export const differences = (
  shape: TableSchema,
  expected: ReadonlyArray<string>,
  actual: ReadonlyArray<string>
): ReadonlyArray<string> => {
  const left = new Map<string, number>()
  for (const line of expected) left.set(line, (left.get(line) ?? 0) + 1)
  const problems: Array<string> = []
  for (const line of actual) {
    const count = left.get(line) ?? 0
    if (count === 0) problems.push(`${tableId(shape.table)} has ${line.slice(0, 200)}`)
    else left.set(line, count - 1)
  }
  for (const [line, count] of left) if (count > 0) problems.push(`${tableId(shape.table)} lacks ${line.slice(0, 200)}`)
  return problems
}

/** A case on a place of its own. What the sink says in it, in errors and its log, is looked through. */
export const scenario = <A>(
  subject: Subject<A>,
  name: string,
  body: (kit: Kit) => Effect.Effect<void, unknown, Scope.Scope>,
  needs?: Ability
): Case => ({
  name,
  skipped: needs === undefined ? undefined : subject.cannot?.[needs],
  run: Effect.gen(function*() {
    const secrets = (subject.secrets ?? []).map((secret, index) => [`secret ${index + 1}`, secret] as const)
    const secrecy = Secrecy.make(new Map([["a row's value", mark], ...secrets]))
    yield* Effect.scoped(secrecy.listening(Effect.flatMap(prepare(subject, secrecy.heard), body)))
    assert.deepEqual(secrecy.found(), [])
  })
})
