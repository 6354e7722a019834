import { assert, describe, it } from "@effect/vitest"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { TableView, View } from "@etl-stream/core/Progress"
import * as LiveView from "@etl-stream/runner/LiveView"
import * as ProgressLog from "@etl-stream/runner/ProgressLog"
import { Rates } from "@etl-stream/runner/Rates"
import * as Screen from "@etl-stream/runner/Screen"
import * as TextWidth from "@etl-stream/runner/TextWidth"
import * as Effect from "effect/Effect"

const now = 1_700_000_000_000

const table = (name: string, fields: Partial<TableView> = {}): TableView => ({
  table: name,
  phase: "streaming",
  quarantine: undefined,
  snapshotRows: 0,
  snapshotBytes: 0,
  estimatedRows: undefined,
  estimatedBytes: undefined,
  startedAt: undefined,
  copiedAt: undefined,
  changes: 0,
  bytes: 0,
  skipped: 0,
  dropped: 0,
  lastSequence: undefined,
  durableSequence: undefined,
  ...fields
})

const view = (fields: Partial<View> = {}): View => ({
  pipeline: "shop",
  phase: "streaming",
  run: 1,
  startedAt: now,
  tables: [],
  receivedPosition: 0n,
  acknowledgedPosition: 0n,
  conditions: [],
  receivedCommitTime: undefined,
  durableCommitTime: undefined,
  receivedAt: undefined,
  freshness: undefined,
  messages: 0,
  memory: 0,
  lastError: undefined,
  ...fields
})

const tables: ReadonlyArray<TableView> = [
  table("public.customers", {
    phase: "streaming",
    snapshotRows: 5000,
    startedAt: now - 4000,
    copiedAt: now - 2000,
    changes: 1234
  }),
  table("public.orders", { phase: "copying", snapshotRows: 204_000, estimatedRows: 300_000, startedAt: now - 4000 }),
  table("public.notes", { phase: "copying", snapshotRows: 77 }),
  table("public.items", { phase: "waiting" }),
  table("public.events", { phase: "opening" })
]

const rates = {
  snapshot: 45_678,
  changes: 123.4,
  tables: new Map([["public.orders", { snapshot: 45_600, changes: 0 }], ["public.customers", {
    snapshot: 0,
    changes: 123.4
  }]])
}

const model = (fields: Partial<View> = {}, retryAt?: number): LiveView.Model => ({
  now,
  startedAt: now - 83_000,
  memory: { used: 12 * 1024 * 1024, capacity: 256 * 1024 * 1024 },
  draining: false,
  pipelines: [{
    view: view({ phase: "snapshot", tables, freshness: 400, receivedPosition: 4096n, ...fields }),
    rates,
    retryAt
  }]
})

const look = (width: number, fields: Partial<LiveView.Look> = {}): LiveView.Look => ({
  width,
  height: 40,
  color: false,
  unicode: true,
  ...fields
})

describe("the live view", () => {
  it("shows everything where there is room", () => {
    assert.deepStrictEqual(LiveView.render(model(), look(120)), [
      "etl-stream  up 1 m 23 s  memory 12 MiB of 256 MiB",
      "shop  snapshot  1/5 tables in step  copy 45.7k rows/s  123 changes/s  lag 0.4 s  4 KiB behind",
      "  public.orders     ████████████████▎░░░░░░░   68%  204,000/~300,000 rows  45.6k/s  ETA 2.1 s",
      "  public.notes      copying  77 rows  0/s",
      "  public.items      waiting to be copied",
      "  public.events     opening",
      "  public.customers  in step  1,234 changes  123/s  copied 5,000 rows in 2.0 s"
    ])
  })

  it("drops bars, then ETA, rates and counts as the terminal gets narrower, and never the names or the percentage", () => {
    const orders = (width: number): string => LiveView.render(model(), look(width))[2] ?? ""
    assert.strictEqual(
      orders(90),
      "  public.orders     ██████████▉░░░░░   68%  204,000/~300,000 rows  45.6k/s  ETA 2.1 s"
    )
    assert.strictEqual(orders(70), "  public.orders      68%  204,000/~300,000 rows  45.6k/s  ETA 2.1 s")
    assert.strictEqual(orders(58), "  public.orders      68%  204,000/~300,000 rows  45.6k/s")
    assert.strictEqual(orders(40), "  public.orders      68%")
    assert.strictEqual(orders(20), "  public.or…   68%")
  })

  for (const width of [1, 2, 5, 10, 20, 33, 40, 59, 60, 79, 80, 100, 110, 200]) {
    it(`fits into ${width} columns, with and without colour`, () => {
      const hostile = [
        ...tables,
        table("public.\x1b[2Jevil\n表格テーブル👩‍👩‍👧‍👧".repeat(3), { phase: "copying", snapshotRows: 1, estimatedRows: 2 })
      ]
      for (const color of [false, true]) {
        for (const unicode of [false, true]) {
          for (const line of LiveView.render(model({ tables: hostile }), look(width, { color, unicode }))) {
            // Our own colours are the only escape sequences.
            const plain = line.replace(/\x1b\[\d+m/g, "")
            assert.notMatch(plain, /[\x00-\x1f\x7f]/)
            assert.isAtMost(TextWidth.width(plain), width)
            if (!color) assert.strictEqual(plain, line)
          }
        }
      }
    })
  }

  it("uses ASCII where the terminal can't show blocks, and no escape sequences without colour", () => {
    const lines = LiveView.render(model(), look(120, { unicode: false }))
    assert.include(lines[2], "################--------")
    assert.notInclude(lines.join(), "\x1b")
    assert.include(LiveView.render(model(), look(120, { color: true })).join(), "\x1b[36m")
  })

  it("never says that a copy is complete before it is, however low the estimate", () => {
    const copying = table("t", { phase: "copying", snapshotRows: 900, estimatedRows: 300 })
    assert.include(LiveView.render(model({ tables: [copying] }), look(100))[2], " 99%  900/~300 rows")
  })

  it("fits into the terminal's height, counts what it leaves out and shows copies first", () => {
    const many = Array.from({ length: 30 }, (_, n) => table(`t${n}`, { phase: n === 29 ? "copying" : "streaming" }))
    const lines = LiveView.render(model({ tables: many }), look(80, { height: 8 }))
    assert.isAtMost(lines.length, 7)
    assert.include(lines[2], "t29")
    assert.match(lines.at(-1) ?? "", /and \d+ more/)
    const pipelines = Array.from({ length: 50 }, () => ({ view: view({ tables: many }), rates, retryAt: undefined }))
    for (const height of [1, 2, 3, 10, 49]) {
      assert.isAtMost(LiveView.render({ ...model(), pipelines }, look(80, { height })).length, Math.max(1, height - 1))
    }
  })

  it("shows what needs somebody below its pipeline; so do progress lines, by name and table", () => {
    const conditions = [
      { name: "late", severity: "warning", message: "The heartbeat is late", hint: "", since: now },
      { name: "gone", severity: "critical", table: "public.a", message: "a left the publication", hint: "", since: now }
    ] as const
    const lines = LiveView.render(model({ conditions, tables: [] }), look(120, { color: true }))
    assert.deepStrictEqual(lines.slice(2), [
      "\x1b[33m  The heartbeat is late\x1b[0m",
      "\x1b[31m  a left the publication\x1b[0m"
    ])
    const told = ProgressLog.describe(view({ conditions }), rates)
    assert.deepStrictEqual(told["conditions"], ["late", "gone public.a"])
    assert.notProperty(ProgressLog.describe(view(), rates), "conditions")
  })

  it("shows monitors that have something to say, below the pipelines", () => {
    const raised = {
      name: "slot-wal-danger",
      severity: "critical",
      subject: "shop",
      hint: "Look.",
      since: now
    } as const
    const monitors = [
      { name: "pg-main", conditions: [{ ...raised, message: "The slot shop keeps 12 GiB of WAL" }] },
      { name: "quiet", conditions: [] }
    ]
    const lines = LiveView.render({ ...model({ tables: [] }), monitors }, look(100))
    assert.deepStrictEqual(lines.slice(2), ["pg-main  monitor", "  The slot shop keeps 12 GiB of WAL"])
    for (let height = 2; height < 8; height++) {
      assert.isBelow(LiveView.render({ ...model(), monitors }, { ...look(100), height }).length, height)
    }
  })

  it("shows why and until when a failed pipeline waits", () => {
    const error = new ConnectorError({
      reason: "Unreachable",
      plugin: "p",
      message: "the server is away",
      hint: "Start it."
    })
    const lines = LiveView.render(
      model({ phase: "failed", lastError: error, run: 3, tables: [] }, now + 4000),
      look(100)
    )
    assert.include(lines[1], "shop  retrying in 4.0 s")
    assert.include(lines[1], "run 3")
    assert.include(lines[2], "the server is away")
    assert.include(LiveView.render({ ...model(), draining: true }, look(120))[0], "stopping")
  })
})

describe("rates", () => {
  it("are averages over the last seconds, and begin anew with a run", () => {
    const rates = new Rates()
    const at = (second: number, changes: number, run = 1) =>
      rates.record(view({ run, tables: [table("t", { changes, snapshotRows: changes * 2 })] }), now + second * 1000)
    assert.strictEqual(at(0, 100).changes, 0)
    assert.strictEqual(at(1, 200).changes, 100)
    assert.strictEqual(at(2, 500).changes, 200)
    assert.strictEqual(at(2, 500).tables.get("t")?.snapshot, 400)
    for (let second = 3; second <= 20; second++) at(second, 500)
    assert.strictEqual(at(21, 500).changes, 0)
    assert.strictEqual(at(22, 0, 2).changes, 0)
    assert.strictEqual(at(23, 50, 2).changes, 50)
  })
})

describe("the screen", () => {
  it.live("redraws in place, lets log lines pass above the view, and gives the cursor back", () =>
    Effect.gen(function*() {
      let written = ""
      const write = (text: string) => {
        written += text
      }
      yield* Effect.scoped(
        Effect.gen(function*() {
          const screen = yield* Screen.make({ write, columns: 80, rows: 24 })
          assert.strictEqual(written, "\x1b[?25l")
          screen.draw(["one", "two"])
          written = ""
          screen.draw(["three"])
          assert.strictEqual(written, "\r\x1b[2A\x1b[2Kthree\n\x1b[0J")
          written = ""
          screen.print("a log line", write)
          assert.strictEqual(written, "\r\x1b[1A\x1b[0Ja log line\nthree\n")
        })
      )
      assert.isTrue(written.endsWith("\x1b[?25h"))
    }))
})
