import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Acknowledgement } from "../src/Acknowledgement.ts"
import * as Sequence from "../src/Sequence.ts"

const at = (commit: number, ordinal = 1) => Sequence.make(BigInt(commit), BigInt(ordinal))

describe("Acknowledgement", () => {
  it("acknowledges nothing before the first watermark", () => {
    const ack = new Acknowledgement()
    ack.emitted("a", at(1))
    ack.durable("a", at(1))
    assert.strictEqual(ack.acknowledged(), 0n)
  })

  it("acknowledges a watermark at once when nothing is in flight", () => {
    const ack = new Acknowledgement()
    ack.watermark(7n, 70n)
    assert.strictEqual(ack.acknowledged(), 7n)
    assert.strictEqual(ack.acknowledgedTime(), 70n)
  })

  it("waits for every table that had changes before the watermark, and for no other", () => {
    const ack = new Acknowledgement()
    ack.emitted("a", at(1))
    ack.emitted("b", at(1, 3))
    ack.watermark(2n)
    ack.emitted("c", at(3))
    ack.watermark(4n)
    ack.durable("b", at(1, 3))
    assert.strictEqual(ack.acknowledged(), 0n)
    ack.durable("a", at(1))
    assert.strictEqual(ack.acknowledged(), 2n)
    assert.isFalse(ack.settled())
    assert.deepStrictEqual(ack.unsettledTables(), ["c"])
    ack.durable("c", at(3))
    assert.strictEqual(ack.acknowledged(), 4n)
    assert.isTrue(ack.settled())
  })

  it("passes nothing that comes after a table was held before it is released, and then all of it", () => {
    for (const waiting of [2, 1024]) {
      const ack = new Acknowledgement(waiting)
      ack.emitted("a", at(1))
      ack.watermark(2n)
      ack.durable("a", at(1))
      assert.strictEqual(ack.acknowledged(), 2n)
      ack.hold("a")
      assert.deepStrictEqual(ack.unsettledTables(), ["a"])
      for (let commit = 3; commit < 20; commit += 2) {
        ack.emitted("b", at(commit))
        ack.watermark(BigInt(commit + 1))
        ack.durable("b", at(commit))
        ack.durable("a", at(commit))
      }
      assert.strictEqual(ack.acknowledged(), 2n)
      assert.isFalse(ack.settled())
      ack.release("a")
      assert.strictEqual(ack.acknowledged(), 20n)
      assert.isTrue(ack.settled())
    }
  })

  it("begins a released table anew: nothing that was durable before counts for what comes", () => {
    const ack = new Acknowledgement()
    ack.emitted("a", at(5))
    ack.emitted("b", at(5))
    ack.watermark(6n)
    ack.hold("a")
    ack.release("a")
    assert.strictEqual(ack.acknowledged(), 0n)
    ack.durable("b", at(5))
    assert.strictEqual(ack.acknowledged(), 6n)
    ack.emitted("a", at(3))
    ack.watermark(7n)
    assert.strictEqual(ack.acknowledged(), 6n)
    ack.durable("a", at(3))
    assert.strictEqual(ack.acknowledged(), 7n)
    ack.release("never seen")
  })

  it("doesn't take a durable position within a batch for the whole batch", () => {
    const ack = new Acknowledgement()
    ack.emitted("a", at(1, 9))
    ack.watermark(2n)
    ack.durable("a", at(1, 7))
    assert.strictEqual(ack.acknowledged(), 0n)
    assert.deepStrictEqual(ack.lowestDurable(), at(1, 7))
  })

  it("keeps the lowest durable position of the tables that have changes under way", () => {
    const ack = new Acknowledgement()
    assert.isUndefined(ack.lowestDurable())
    ack.emitted("a", at(5))
    assert.deepStrictEqual(ack.lowestDurable(), Sequence.zero)
    ack.durable("a", at(5))
    assert.isUndefined(ack.lowestDurable())
    ack.emitted("a", at(9))
    ack.emitted("b", at(8))
    ack.durable("b", at(7))
    assert.deepStrictEqual(ack.lowestDurable(), at(5))
  })

  it("ignores durable positions and watermarks that go back", () => {
    const ack = new Acknowledgement()
    ack.emitted("a", at(3))
    ack.watermark(4n)
    ack.durable("a", at(3))
    ack.durable("a", at(1))
    ack.watermark(2n)
    assert.strictEqual(ack.acknowledged(), 4n)
    assert.deepStrictEqual(ack.table("a").durable, at(3))
  })

  it("refuses tickets out of order", () => {
    const ack = new Acknowledgement()
    ack.emitted("a", at(3))
    assert.throws(() => ack.emitted("a", at(2)), /out of order/)
  })

  it("keeps memory bounded when nothing becomes durable, and loses nothing by it", () => {
    const ack = new Acknowledgement(8)
    for (let i = 1; i <= 1000; i++) {
      ack.emitted(`t${i % 3}`, at(i))
      ack.watermark(BigInt(i))
    }
    assert.isAtMost(ack.waitingWatermarks(), 8)
    for (const table of ["t0", "t1"]) ack.durable(table, at(2000))
    // Nothing of t2 is durable, whose first change is the second.
    assert.isBelow(Number(ack.acknowledged()), 2)
    ack.durable("t2", at(999))
    assert.strictEqual(ack.acknowledged(), 1000n)
    assert.strictEqual(ack.waitingWatermarks(), 0)
  })

  /** A log of transactions, each the tables of its changes in order. Commits at 10, 20, …; ends 5 later. */
  const logs = fc.array(fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 5 }), {
    minLength: 1,
    maxLength: 30,
    size: "max"
  })
  const steps = fc.array(
    fc.oneof(
      { weight: 5, arbitrary: fc.record({ do: fc.constant("emit" as const), n: fc.integer({ min: 1, max: 6 }) }) },
      {
        weight: 5,
        arbitrary: fc.record({
          do: fc.constant("durable" as const),
          table: fc.integer({ min: 0, max: 3 }),
          n: fc.integer({ min: 1, max: 6 })
        })
      },
      { weight: 2, arbitrary: fc.record({ do: fc.constant("confirm" as const) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          do: fc.constant("crash" as const),
          unreported: fc.array(fc.nat(3), { minLength: 4, maxLength: 4 })
        })
      }
    ),
    { maxLength: 120, size: "max" }
  )
  const tables = ["t0", "t1", "t2", "t3"] as const

  it("never confirms a change that isn't durable, and a restart yields each change exactly once", () => {
    fc.assert(
      fc.property(logs, steps, fc.integer({ min: 2, max: 40 }), (log, steps, maxWaiting) => {
        const transactions = log.map((changes, i) => ({
          end: BigInt(i * 10 + 15),
          changes: changes.map((table, ordinal) => ({
            table: tables[table] ?? "t0",
            sequence: at(i * 10 + 10, ordinal * 2 + 1)
          }))
        }))
        // What survives crashes: the server's confirmed position and what the sink holds.
        let confirmed = 0n
        const held = new Map<string, Array<Sequence.Sequence>>(tables.map((table) => [table, []]))
        const last = (table: string) => held.get(table)?.at(-1)
        // What a run has.
        let ack = new Acknowledgement(maxWaiting)
        let committed = new Map<string, Sequence.Sequence | undefined>()
        let inFlight = new Map<string, Array<Sequence.Sequence>>()
        let transaction = 0
        let change = 0
        const restart = () => {
          ack = new Acknowledgement(maxWaiting)
          committed = new Map(tables.map((table) => [table, last(table)]))
          inFlight = new Map(tables.map((table) => [table, []]))
          transaction = transactions.findIndex(({ end }) => end > confirmed)
          if (transaction < 0) transaction = transactions.length
          change = 0
        }
        const emit = () => {
          const current = transactions[transaction]
          if (current === undefined) return false
          const next = current.changes[change]
          if (next === undefined) {
            ack.watermark(current.end)
            transaction++
            change = 0
            return true
          }
          change++
          const upTo = committed.get(next.table)
          if (upTo !== undefined && Sequence.compare(next.sequence, upTo) <= 0) return true
          ack.emitted(next.table, next.sequence)
          inFlight.get(next.table)?.push(next.sequence)
          return true
        }
        const hold = (table: string, n: number, report: boolean) => {
          const moved = inFlight.get(table)?.splice(0, n) ?? []
          held.get(table)?.push(...moved)
          const to = moved.at(-1)
          if (report && to !== undefined) ack.durable(table, to)
        }
        const check = () => {
          for (const { changes, end } of transactions) {
            if (end > ack.acknowledged()) break
            for (const { sequence, table } of changes) {
              const to = last(table)
              assert.isTrue(to !== undefined && Sequence.compare(to, sequence) >= 0, "acknowledged what isn't durable")
            }
          }
        }
        const confirm = () => {
          if (ack.acknowledged() > confirmed) confirmed = ack.acknowledged()
        }
        restart()
        for (const step of steps) {
          switch (step.do) {
            case "emit":
              for (let i = 0; i < step.n; i++) emit()
              break
            case "durable":
              hold(tables[step.table] ?? "t0", step.n, true)
              break
            case "confirm":
              confirm()
              break
            case "crash":
              // The sink may hold more than it could tell.
              tables.forEach((table, i) => hold(table, step.unreported[i] ?? 0, false))
              restart()
              break
          }
          check()
          assert.isAtMost(ack.waitingWatermarks(), maxWaiting)
        }
        while (emit());
        for (const table of tables) hold(table, Number.POSITIVE_INFINITY, true)
        check()
        confirm()
        assert.isTrue(ack.settled())
        assert.strictEqual(confirmed, transactions.at(-1)?.end)
        for (const table of tables) {
          const expected = transactions.flatMap(({ changes }) => changes.filter((change) => change.table === table))
          assert.deepStrictEqual(held.get(table), expected.map(({ sequence }) => sequence))
        }
      }),
      { numRuns: 300 }
    )
  })

  it("acknowledges as far as a naive account of every change allows, when nothing coalesces", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3), fc.boolean(), fc.nat(3), fc.nat(10)), { maxLength: 100 }), (events) => {
        const ack = new Acknowledgement(1000)
        const durable = new Map<number, number>()
        const emitted: Array<{ table: number; commit: number }> = []
        const marks: Array<{ position: number; before: number }> = []
        events.forEach(([table, mark, done, back], i) => {
          const commit = i + 1
          emitted.push({ table, commit })
          ack.emitted(`${table}`, at(commit))
          if (mark) {
            marks.push({ position: commit, before: emitted.length })
            ack.watermark(BigInt(commit))
          }
          const to = Math.max(durable.get(done) ?? 0, commit - back)
          durable.set(done, to)
          ack.durable(`${done}`, at(to))
          const allowed = marks.filter(({ before }) =>
            emitted.slice(0, before).every((change) => change.commit <= (durable.get(change.table) ?? 0))
          )
          assert.strictEqual(ack.acknowledged(), BigInt(allowed.at(-1)?.position ?? 0))
        })
      })
    )
  })
})
