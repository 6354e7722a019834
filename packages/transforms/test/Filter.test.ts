import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { plugins } from "../src/index.ts"
import * as Fixture from "./Fixture.ts"

/** A generator of numbers below a limit, the same for a seed. */
const chanceOf = (seed: number) => {
  let state = seed * 2_654_435_761 + 1
  return (limit: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor(state / 2 ** 32 * limit)
  }
}

interface Held {
  readonly id: bigint
  readonly n: number | null
}

const text = ({ id, n }: Held): string => `${id} ${n}`

const conditions: ReadonlyArray<readonly [where: string, holds: (row: Held) => boolean]> = [
  ["n > 4", ({ n }) => n !== null && n > 4],
  ["id % 2 == 0", ({ id }) => id % 2n === 0n],
  ["n == null || id > 3", ({ id, n }) => n === null || id > 3n]
]

describe("filter", () => {
  for (const identity of ["key", "full"] as const) {
    it.effect(`leaves at a target just the rows that match, whatever side they change to: identity ${identity}`, () =>
      Effect.gen(function*() {
        const table = Fixture.table({ id: "int64", n: "int32" }, identity === "key" ? ["id"] : "full")
        for (let seed = 0; seed < 60; seed++) {
          const chance = chanceOf(seed)
          const [where, holds] = conditions[seed % conditions.length] ?? ["true", () => true]
          const transform = yield* Fixture.make(plugins.filter, { where })
          const source = new Map<bigint, Held>()
          const target: Array<Held> = []
          const remove = (row: Held): void => {
            const at = target.findIndex((held) => identity === "key" ? held.id === row.id : text(held) === text(row))
            if (at >= 0) target.splice(at, 1)
          }
          for (let round = 0; round < 12; round++) {
            const rows: Array<Fixture.Row> = []
            for (let change = chance(8); change >= 0; change--) {
              const old: Held | undefined = source.get(BigInt(chance(8)))
              const fresh: Held = { id: BigInt(chance(8)), n: chance(5) === 0 ? null : chance(10) }
              if (old === undefined) {
                if (source.has(fresh.id)) continue
                source.set(fresh.id, fresh)
                rows.push({ op: "Insert", values: { ...fresh } })
              } else if (chance(4) === 0) {
                source.delete(old.id)
                rows.push({ op: "Delete", values: identity === "key" ? { id: old.id } : { ...old } })
              } else {
                const isRekeyed = chance(2) === 0 && !source.has(fresh.id)
                const next = isRekeyed ? fresh : { ...fresh, id: old.id }
                source.delete(old.id)
                source.set(next.id, next)
                if (identity === "key" && next.id === old.id) rows.push({ op: "Update", values: { ...next } })
                else {
                  rows.push(
                    { op: "KeyChangeOld", values: identity === "key" ? { id: old.id } : { ...old } },
                    { op: "KeyChangeNew", values: { ...next } }
                  )
                }
              }
            }
            if (rows.length === 0) continue
            for (const { op, values } of (yield* Fixture.through(transform, table, rows)).rows) {
              const row = values as unknown as Held // as they were given
              if (op === "Delete" || op === "KeyChangeOld") remove(row)
              else {
                if (identity === "key") remove(row)
                target.push(row)
              }
            }
            assert.deepStrictEqual(
              target.map(text).sort(),
              [...source.values()].filter(holds).map(text).sort(),
              `${where}, seed ${seed}`
            )
          }
        }
      }))
  }
})
