/**
 * What happens to one table at its source: transactions made from a list of small commands, and what the table holds after each.
 *
 * A history is valid whatever the commands are (what is updated, deleted or moved exists, what is inserted doesn't), so that fast-check may leave out or shrink any
 * of them. What can't be done is left out.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as fc from "fast-check"
import * as Batches from "../Batches.ts"
import type { Shape } from "./Shapes.ts"
import * as Shapes from "./Shapes.ts"

export type Values = ReadonlyArray<Batches.Value>

export type Change = Batches.Row | { readonly truncate: Sequence.Sequence }

/** Changes that belong together: two rows for a change of key or of a whole row, else one. */
export interface Step {
  readonly changes: ReadonlyArray<Change>
  /** The moved row's values afterwards, for a change of key. */
  readonly moved?: Values
}

export interface Transaction {
  readonly commit: bigint
  /** Position of its end, which its watermark names. */
  readonly end: bigint
  readonly steps: ReadonlyArray<Step>
  /** Which of the shape's versions its rows have. */
  readonly version: number
  /** The table's rows afterwards. */
  readonly rows: ReadonlyArray<Values>
  /** Which keys it changed; of a table without a key none are known. */
  readonly touched: ReadonlyMap<number, Touched>
}

/** What a transaction left of a key. */
export interface Touched {
  readonly last: Sequence.Sequence
  /** The row afterwards; of one that is gone how it was before. */
  readonly values: Values
  readonly gone: boolean
}

const operations = [
  "insert",
  "update",
  "delete",
  "move",
  "swap",
  "reinsert",
  "rewrite",
  "truncate",
  "addColumn"
] as const
type Name = typeof operations[number]

export interface Command {
  readonly name: Name
  /** Choose among keys and values. */
  readonly a: number
  readonly b: number
  /** Whether the transaction ends after it. */
  readonly commits: boolean
}

const weights: Readonly<Record<Name, number>> = {
  insert: 6,
  update: 6,
  delete: 3,
  move: 5,
  swap: 2,
  reinsert: 2,
  rewrite: 2,
  truncate: 1,
  addColumn: 1
}

export const commands: fc.Arbitrary<ReadonlyArray<Command>> = fc.array(
  fc.record({
    name: fc.oneof(...operations.map((name) => ({ arbitrary: fc.constant(name), weight: weights[name] }))),
    a: fc.nat(1000),
    b: fc.nat(1000),
    commits: fc.oneof({ arbitrary: fc.constant(true), weight: 1 }, { arbitrary: fc.constant(false), weight: 2 })
  }),
  { minLength: 3, maxLength: 18, size: "max" }
)

/** The row after values were sent for it. */
const sentTo = (old: Values, sent: Values): Values =>
  sent.map((value, index) => value === Batches.unsent ? old[index] ?? null : value)

class Building {
  private readonly shape: Shape
  private readonly done: Array<Transaction> = []
  private steps: Array<Step> = []
  private version = 0
  private serial = 1
  private commit = 100n
  private ordinal = 0n
  /** Rows by key; of a table without a key by a number of their own. */
  private readonly rows = new Map<number, Values>()
  private touched = new Map<number, Touched>()
  private nextRow = 0

  constructor(shape: Shape) {
    this.shape = shape
  }

  private get keyed(): boolean {
    return this.shape.identity._tag === "Key"
  }

  private sequence(second: boolean): Sequence.Sequence {
    return Sequence.make(this.commit, 2n * this.ordinal + (second ? 1n : 0n))
  }

  private step(changes: ReadonlyArray<Change>, moved?: Values): void {
    this.steps.push(moved === undefined ? { changes } : { changes, moved })
    this.ordinal++
  }

  /** Ends the transaction, which may be empty of changes to the table. */
  end(): void {
    const { commit, steps, version } = this
    if (steps.length === 0) return
    this.done.push({ commit, end: commit + 5n, steps, version, rows: [...this.rows.values()], touched: this.touched })
    this.steps = []
    this.touched = new Map()
    this.commit += 10n
    this.ordinal = 0n
  }

  private touch(key: number, values: Values, gone: boolean, second = true): void {
    if (this.keyed) this.touched.set(key, { last: this.sequence(second), values, gone })
  }

  get transactions(): ReadonlyArray<Transaction> {
    return this.done
  }

  private fresh(key: number, from?: Values): Values {
    const own = this.shape.key(key)
    return Shapes.columnsOf(this.shape, this.version).map((column, index) => {
      const value = own.get(index)
      if (value !== undefined) return value
      const serial = this.serial++
      if (from !== undefined && column.unsendable === true && serial % 2 === 0) return Batches.unsent
      return column.value?.(serial) ?? null
    })
  }

  /** What identifies a row in its deletion: the key's columns, or all of them. */
  private old(values: Values): Values {
    const { identity } = this.shape
    return identity._tag === "Key"
      ? values.map((value, index) => identity.columns.includes(index) ? value : null)
      : values
  }

  private get present(): ReadonlyArray<number> {
    return [...this.rows.keys()]
  }

  private get absent(): ReadonlyArray<number> {
    return Array.from({ length: Shapes.keys }, (_, key) => key).filter((key) => !this.rows.has(key))
  }

  private insert(key: number): void {
    const values = this.fresh(key)
    this.rows.set(key, values)
    this.touch(key, values, false)
    this.step([{ op: Operation.Insert, sequence: this.sequence(true), values }])
  }

  private remove(key: number): void {
    const values = this.rows.get(key) ?? []
    this.rows.delete(key)
    this.touch(key, values, true)
    this.step([{ op: Operation.Delete, sequence: this.sequence(true), values: this.old(values) }])
  }

  private update(key: number): void {
    const old = this.rows.get(key) ?? []
    // A row without a key is replaced as a whole.
    if (!this.keyed) return this.move(key, key)
    const sent = this.fresh(key, old)
    const values = sentTo(old, sent)
    this.rows.set(key, values)
    this.touch(key, values, false)
    this.step([{ op: Operation.Update, sequence: this.sequence(true), values: sent }])
  }

  private move(from: number, to: number): void {
    const old = this.rows.get(from) ?? []
    const sent = this.fresh(to, this.keyed ? old : undefined)
    const values = sentTo(old, sent)
    this.rows.delete(from)
    this.rows.set(to, values)
    this.touch(from, old, true, false)
    this.touch(to, values, false)
    this.step([
      { op: Operation.KeyChangeOld, sequence: this.sequence(false), values: this.old(old) },
      { op: Operation.KeyChangeNew, sequence: this.sequence(true), values: sent }
    ], values)
  }

  apply({ a, b, commits, name }: Command): void {
    const { absent, present } = this
    const some = (of: ReadonlyArray<number>, by: number): number | undefined => of[by % Math.max(1, of.length)]
    const one = some(present, a)
    const free = this.keyed ? some(absent, b) : this.nextRow++
    const changes = this.shape.identity._tag !== "None"
    if (name === "truncate") {
      for (const [key, values] of this.rows) this.touch(key, values, true)
      // What the transaction itself has removed before is touched by the truncate, too.
      for (const [key, { values }] of this.touched) this.touch(key, values, true)
      this.rows.clear()
      this.step([{ truncate: this.sequence(true) }])
    } else if (name === "addColumn") {
      if (this.version === 0) {
        // DDL has a transaction of its own here.
        this.end()
        this.version = 1
        for (const [key, values] of this.rows) this.rows.set(key, [...values, null])
      }
    } else if (name === "insert") {
      if (free !== undefined) this.insert(free)
    } else if (one !== undefined && changes) {
      if (name === "update") this.update(one)
      else if (name === "delete") this.remove(one)
      else if (name === "reinsert") {
        this.remove(one)
        this.insert(one)
      } else if (name === "rewrite") { for (let times = 0; times < 3; times++) this.update(one) }
      else if (name === "move") {
        if (free !== undefined) this.move(one, free)
      } else {
        const two = some(present.filter((key) => key !== one), b)
        if (two !== undefined && free !== undefined && this.keyed) {
          // A swap of keys goes through a third one.
          this.move(one, free)
          this.move(two, one)
          this.move(free, two)
        }
      }
    }
    if (commits) this.end()
  }
}

export const make = (shape: Shape, list: ReadonlyArray<Command>): ReadonlyArray<Transaction> => {
  const building = new Building(shape)
  for (const command of list) building.apply(command)
  building.end()
  return building.transactions
}

/** The table as a snapshot at `position` sees it. */
export const rowsAt = (history: ReadonlyArray<Transaction>, position: bigint): ReadonlyArray<Values> =>
  history.findLast(({ commit }) => commit < position)?.rows ?? []

/** When a transaction was made, in seconds: later than any copy, whose time is the clock's. */
export const timeOf = (commit: bigint): bigint => 4_000_000_000n + commit
