/**
 * Random changes of a source's place, the same in every run: what the subject can do, to rows that are there.
 */
import type { TableName } from "@etl-stream/core/TableSchema"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type { Ability, Change, Row, World } from "../SourceSubject.ts"
import { type Random, seeded } from "./random.ts"

/** In every note of the kit: what no error and no line of a log may hold. */
export const mark = "kit-row-value"

/** Long enough to be stored beside its row where a place does such a thing, and not to be compressed much. */
const long = (random: Random): string =>
  Array.from({ length: 400 }, () => random.below(0x1_0000_0000).toString(36)).join("")

export class Workload {
  private readonly world: World
  private readonly can: (ability: Ability) => boolean
  private readonly random: Random
  private readonly live = new Map<string, Set<number>>()
  /** Values of the columns that were added, by table, column and id; and the names of those that are there no more. */
  private readonly added = new Map<string, Map<string, Map<number, string>>>()
  private readonly gone = new Map<string, Set<string>>()
  private next = 1
  private named = 0

  constructor(world: World, can: (ability: Ability) => boolean, seed: number) {
    this.world = world
    this.can = can
    this.random = seeded(seed)
  }

  private ids(table: TableName): Set<number> {
    const id = tableId(table)
    const ids = this.live.get(id) ?? new Set()
    this.live.set(id, ids)
    return ids
  }

  /** Columns of the table that were added, with the values that they have in some of its rows. */
  columns(table: TableName): Map<string, Map<number, string>> {
    const id = tableId(table)
    const columns = this.added.get(id) ?? new Map()
    this.added.set(id, columns)
    return columns
  }

  /** Names that columns of the table had, and have no more. */
  former(table: TableName): Set<string> {
    const id = tableId(table)
    const names = this.gone.get(id) ?? new Set()
    this.gone.set(id, names)
    return names
  }

  note(): string | null {
    const { random } = this
    const kind = random.below(10)
    return kind === 0
      ? null
      : kind === 1
      ? ""
      : kind < 4
      ? `${mark} ${long(random)}`
      : `${mark} ${random.below(1_000_000)}`
  }

  /** New rows, not inserted yet. */
  fresh(count: number, note: () => string | null = () => this.note()): ReadonlyArray<Row> {
    return Array.from({ length: count }, () => ({ id: this.next++, note: note() }))
  }

  change(table: TableName, changes: ReadonlyArray<Change>): Effect.Effect<void, unknown> {
    const ids = this.ids(table)
    const columns = this.columns(table)
    const former = this.former(table)
    for (const change of changes) {
      switch (change._tag) {
        case "Insert":
          for (const { id } of change.rows) ids.add(id)
          break
        case "Delete":
          for (const id of change.ids) {
            ids.delete(id)
            for (const values of columns.values()) values.delete(id)
          }
          break
        case "Rekey":
          ids.delete(change.from)
          ids.add(change.to)
          for (const values of columns.values()) {
            const value = values.get(change.from)
            if (value !== undefined) values.set(change.to, value)
            values.delete(change.from)
          }
          break
        case "Truncate":
          ids.clear()
          for (const values of columns.values()) values.clear()
          break
        case "AddColumn":
          columns.set(change.name, new Map())
          break
        case "SetColumn":
          for (const { id, value } of change.rows) columns.get(change.name)?.set(id, value)
          break
        case "RenameColumn":
          columns.set(change.to, columns.get(change.from) ?? new Map())
          columns.delete(change.from)
          former.add(change.from)
          break
        case "DropColumn":
          columns.delete(change.name)
          former.add(change.name)
          break
        case "Update":
        case "Touch":
          break
      }
    }
    return this.world.change(table, changes)
  }

  insert(table: TableName, count: number): Effect.Effect<void, unknown> {
    return this.change(table, [{ _tag: "Insert", rows: this.fresh(count) }])
  }

  /** Adds a column, and a row that has it; gives its name. */
  addColumn(table: TableName): Effect.Effect<string, unknown> {
    return Effect.suspend(() => {
      const name = `extra_${++this.named}`
      return Effect.as(
        Effect.andThen(this.change(table, [{ _tag: "AddColumn", name }]), Effect.suspend(() => this.insert(table, 1))),
        name
      )
    })
  }

  /** Gives a column that was added values in all rows. */
  setColumn(table: TableName, name: string): Effect.Effect<void, unknown> {
    return Effect.suspend(() => {
      const rows = [...this.ids(table)].map((id) => ({ id, value: `${mark} ${name} ${id}` }))
      return this.change(table, [{ _tag: "SetColumn", name, rows }])
    })
  }

  /** Gives a column that was added another name; gives that. */
  renameColumn(table: TableName, from: string): Effect.Effect<string, unknown> {
    return Effect.suspend(() => {
      const to = `extra_${++this.named}`
      return Effect.as(this.change(table, [{ _tag: "RenameColumn", from, to }]), to)
    })
  }

  /** Inserts a row, and gives its id: when it has come, so has everything before. */
  tail(table: TableName): Effect.Effect<number, unknown> {
    const rows = this.fresh(1, () => `${mark} tail`)
    return Effect.as(this.change(table, [{ _tag: "Insert", rows }]), rows[0]?.id ?? 0)
  }

  /** One transaction of a few changes of one of the tables. */
  step(table: TableName = this.random.of(this.world.tables)): Effect.Effect<void, unknown> {
    return Effect.suspend(() => {
      const { random } = this
      const present = new Set(this.ids(table))
      const changes: Array<Change> = []
      const pick = (): number => random.of([...present])
      for (let count = 1 + random.below(4); count > 0; count--) {
        const kinds = (["Update", "Touch", "Rekey", "Delete"] as const).filter((kind) => this.can(kind))
        const kind = present.size === 0 || kinds.length === 0 || random.below(3) === 0 ? "Insert" : random.of(kinds)
        switch (kind) {
          case "Insert": {
            const rows = this.fresh(1 + random.below(3))
            for (const { id } of rows) present.add(id)
            changes.push({ _tag: "Insert", rows })
            break
          }
          case "Update":
            changes.push({ _tag: "Update", rows: [{ id: pick(), note: this.note() }] })
            break
          case "Touch":
            changes.push({ _tag: "Touch", ids: [pick()] })
            break
          case "Rekey": {
            const from = pick()
            const to = this.next++
            present.delete(from)
            present.add(to)
            changes.push({ _tag: "Rekey", from, to })
            break
          }
          case "Delete": {
            const id = pick()
            present.delete(id)
            changes.push({ _tag: "Delete", ids: [id] })
            break
          }
        }
      }
      if (this.can("Truncate") && random.below(12) === 0) {
        changes.splice(random.below(changes.length + 1), changes.length, { _tag: "Truncate" })
      }
      return this.change(table, changes)
    })
  }

  steps(count: number): Effect.Effect<void, unknown> {
    return Effect.forEach(Array.from({ length: count }), () => this.step(), { discard: true })
  }
}
