import { assert, describe, it, layer } from "@effect/vitest"
import { yamlOf } from "@etl-stream/runner/commands/Export"
import * as Apply from "@etl-stream/runner/database/Apply"
import * as Documents from "@etl-stream/runner/database/Documents"
import * as Rows from "@etl-stream/runner/database/Rows"
import * as Tables from "@etl-stream/runner/database/Tables"
import * as YamlDocument from "@etl-stream/runner/YamlDocument"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import * as Database from "./DatabaseFixture.ts"

/** What a database may hold as text: no NUL, no half of a surrogate pair. */
const text = fc.string({ unit: "grapheme", maxLength: 12 }).filter((text) =>
  !text.includes("\0") && text.isWellFormed()
)

const awkward = fc.constantFrom(
  "",
  " ",
  "~",
  "null",
  "yes",
  "0x1F",
  "1e3",
  "2026-01-01",
  "<<",
  "*a",
  "&a",
  "!tag",
  "- a",
  "a: b",
  "# c",
  "${env:NAME}",
  "$${",
  "${file:./secret}",
  "'",
  "\"",
  "\\",
  "line\nline\n",
  "\t",
  "{}",
  "[]",
  "|",
  ">",
  "%",
  "@",
  "`",
  "__proto__",
  "=",
  "\u2028",
  "\ufeff",
  "\u0085",
  "é",
  "😀",
  "constructor"
)

const name = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_-]{0,8}$/)

const json: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    text,
    awkward,
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number === 0 ? 0 : number),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.array(fc.tuple(fc.oneof(text, awkward), tie("value")), { maxLength: 3 }).map(Object.fromEntries)
  )
})).value

const options = fc.array(fc.tuple(fc.oneof(name, text, awkward), json), { maxLength: 4 }).map((entries) =>
  Object.fromEntries(entries)
)

const stage = fc.record({ plugin: fc.oneof(name, awkward.filter((text) => text !== "")), options })

const transform = fc.tuple(
  stage,
  fc.array(fc.constantFrom("public.users", "sales.*", "\"Odd\".\"a.b\""), { maxLength: 2 })
).map((
  [stage, tables]
) => tables.length === 0 ? stage : { ...stage, tables })

const sinkStage = fc.record({ plugin: name, options, batch: fc.record({ rows: fc.integer({ min: 1, max: 100 }) }) }, {
  requiredKeys: ["plugin", "options"]
})

/** A document as decoding lets it through: what plugins say of options doesn't matter here. */
const document = fc.record({
  sources: fc.dictionary(name, stage, { maxKeys: 3 }),
  sinks: fc.dictionary(name, sinkStage, { maxKeys: 3 }),
  monitors: fc.dictionary(name, stage, { maxKeys: 2 }),
  settings: fc.record({ memory: fc.constant("64MiB"), telemetry: options, state: stage }, { requiredKeys: [] }),
  pipelines: fc.dictionary(
    name,
    fc.record({
      source: fc.oneof(stage, fc.nat(2)),
      sink: fc.oneof(sinkStage, fc.nat(2)),
      transforms: fc.array(transform, { maxLength: 2 }),
      status: fc.constantFrom("running", "paused"),
      onTableError: fc.constantFrom("stop", "quarantine")
    }, { requiredKeys: ["source", "sink"] }),
    { maxKeys: 4 }
  )
}).map(({ monitors, pipelines, settings, sinks, sources }) => {
  // A number picks one of the named ones; a name that a pipeline's own stage would take is left out.
  const named = (stages: Record<string, unknown>, kind: "source" | "sink") =>
    Object.fromEntries(
      Object.entries(stages).filter(([name]) =>
        !Object.hasOwn(pipelines, name) || typeof pipelines[name]?.[kind] === "number"
      )
    )
  const [ownSources, ownSinks] = [named(sources, "source"), named(sinks, "sink")]
  const pick = (stage: unknown, known: Record<string, unknown>, kind: string) => {
    if (typeof stage !== "number") return stage
    const names = Object.keys(known)
    return names[stage % names.length] ?? { plugin: kind, options: {} }
  }
  return {
    apiVersion: 1,
    ...settings,
    sources: ownSources,
    sinks: ownSinks,
    monitors,
    pipelines: Object.fromEntries(
      Object.entries(pipelines).map(([name, pipeline]) => [name, {
        ...pipeline,
        source: pick(pipeline.source, ownSources, "source"),
        sink: pick(pipeline.sink, ownSinks, "sink")
      }])
    )
  }
})

const wantedOf = (value: unknown): ReadonlyArray<Apply.Wanted> => {
  const { findings, rows } = Documents.rowsOf(value)
  assert.deepStrictEqual(findings, [])
  return rows.map((row) => ({ ...row, secrets: [] }))
}

const writing = { prune: true, dryRun: false, keys: undefined }

layer(Database.Server.layer, { excludeTestServices: true })("apply and export", (it) => {
  it.effect(
    "any document comes back as the same rows, by way of the database and of YAML",
    () =>
      Effect.gen(function*() {
        const database = yield* Database.prepared
        for (const value of fc.sample(document, { numRuns: 30, seed: 20260101 })) {
          yield* database.provide(Apply.apply(wantedOf(value), writing))
          // Once more is no change.
          const again = yield* database.provide(Apply.apply(wantedOf(value), writing))
          assert.deepStrictEqual(again.changes, [], JSON.stringify(value))
          const yaml = yamlOf(yield* database.provide(Rows.read))
          const parsed = YamlDocument.parse(yaml)
          assert.deepStrictEqual(parsed.problems, [], yaml)
          const back = yield* database.provide(Apply.apply(wantedOf(parsed.value), writing))
          assert.deepStrictEqual([back.changes, back.kept], [[], []], yaml)
          assert.strictEqual(back.unchanged.length, wantedOf(value).length)
          // And what comes out of that is the same text.
          assert.strictEqual(yamlOf(yield* database.provide(Rows.read)), yaml)
        }
      }),
    { timeout: 120_000 }
  )

  it.effect("tells what is different by row and key, changes nothing in a dry run, and removes only when told to", () =>
    Effect.gen(function*() {
      const database = yield* Database.empty
      const stages = (rows: number) => ({
        source: { plugin: "p", options: { rows } },
        sink: { plugin: "q", options: { file: "x" }, batch: { rows: 5 } }
      })
      const before = wantedOf({ apiVersion: 1, memory: "64MiB", pipelines: { shop: stages(1), old: stages(1) } })
      const dry = yield* database.provide(Apply.apply(before, { ...writing, dryRun: true }))
      assert.deepStrictEqual(dry.changes.map(({ kind, row }) => `${kind} ${row}`).sort(), [
        "added pipelines/old",
        "added pipelines/shop",
        "added settings/memory",
        "added sinks/old",
        "added sinks/shop",
        "added sources/old",
        "added sources/shop"
      ])
      const [there] = yield* database.query("SELECT to_regnamespace('etl_stream_config') IS NOT NULL AS there")
      assert.deepStrictEqual(there, { there: false })

      yield* database.provide(Tables.prepare)
      yield* database.provide(Apply.apply(before, writing))
      const after = wantedOf({
        apiVersion: 1,
        pipelines: { shop: { ...stages(2), onTableError: "stop" } }
      })
      const changed = [
        { kind: "changed", row: "sources/shop", keys: ["options"] },
        { kind: "changed", row: "pipelines/shop", keys: ["onTableError"] }
      ]
      const others = ["settings/memory", "sources/old", "sinks/old", "pipelines/old"]
      const kept = yield* database.provide(Apply.apply(after, { ...writing, prune: false }))
      assert.deepStrictEqual(kept, { changes: changed, unchanged: ["sinks/shop"], kept: others } as Apply.Applied) // as literals
      const pruned = yield* database.provide(Apply.apply(after, writing))
      assert.deepStrictEqual(pruned.changes.map(({ kind, row }) => `${kind} ${row}`), [
        "removed pipelines/old",
        "removed sinks/old",
        "removed sources/old",
        "removed settings/memory"
      ])
      const { rows } = yield* database.provide(Rows.read)
      assert.deepStrictEqual(rows.map(Rows.keyOf), ["sources/shop", "sinks/shop", "pipelines/shop"])
    }))

  it.effect("leaves a pipeline paused or running that the file says nothing about", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      const shop = { source: { plugin: "p" }, sink: { plugin: "q" } }
      const of = (pipeline: object) => wantedOf({ apiVersion: 1, pipelines: { shop: pipeline } })
      const status = Effect.map(
        database.query("SELECT status FROM etl_stream_config.pipelines"),
        ([row]) => row?.["status"]
      )
      yield* database.provide(Apply.apply(of(shop), writing))
      assert.strictEqual(yield* status, "START")
      yield* database.query("UPDATE etl_stream_config.pipelines SET status = 'PAUSE'")
      assert.deepStrictEqual((yield* database.provide(Apply.apply(of(shop), writing))).changes, [])
      assert.strictEqual(yield* status, "PAUSE")
      yield* database.provide(Apply.apply(of({ ...shop, status: "running" }), writing))
      assert.strictEqual(yield* status, "START")
    }))

  it.effect("writes all of it or nothing", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.query(
        "ALTER TABLE etl_stream_config.pipelines ADD CONSTRAINT refused CHECK (name <> 'refused')"
      )
      const pipeline = { source: { plugin: "p" }, sink: { plugin: "q" } }
      const wanted = wantedOf({ apiVersion: 1, pipelines: { accepted: pipeline, refused: pipeline } })
      yield* Effect.flip(database.provide(Apply.apply(wanted, writing)))
      assert.deepStrictEqual((yield* database.provide(Rows.read)).rows, [])
    }))

  it.effect("several at once come one after the other", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      const of = (number: number) =>
        wantedOf({
          apiVersion: 1,
          pipelines: {
            shop: { source: { plugin: "p", options: { number } }, sink: { plugin: "q", options: { number } } }
          }
        })
      const applied = yield* Effect.forEach(
        Array.from({ length: 8 }, (_, index) => index),
        (index) =>
          Effect.flatMap(database.client, (client) => Database.provideClient(client)(Apply.apply(of(index), writing))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(applied.filter(({ changes }) => changes.some(({ kind }) => kind === "added")).length, 1)
      const { rows } = yield* database.provide(Rows.read)
      const numbers = rows.filter(({ table }) => table !== "pipelines").map(({ value }) =>
        (value as { options: { number: number } }).options.number // as it was written
      )
      assert.strictEqual(new Set(numbers).size, 1)
    }))
})

describe("a document and rows", () => {
  it("are the same in both directions", () => {
    fc.assert(fc.property(document, (value) => {
      const { findings, rows } = Documents.rowsOf(value)
      assert.deepStrictEqual(findings, [])
      for (const row of rows) {
        const path = row.table === "settings" ? [row.name] : [row.table, row.name]
        assert.deepStrictEqual(Documents.rowAt(path), { table: row.table, name: row.name, path: [] })
      }
      const again = Documents.rowsOf(Documents.documentOf(rows))
      const sorted = (rows: ReadonlyArray<Rows.Content>) =>
        [...rows].sort((a, b) => Rows.keyOf(a) < Rows.keyOf(b) ? -1 : 1)
      assert.deepStrictEqual(sorted(again.rows), sorted(rows))
    }))
  })

  it("a stage that is spelled out can't have the name of another", () => {
    const shop = { plugin: "p" }
    const { findings } = Documents.rowsOf({ sources: { shop }, pipelines: { shop: { source: shop, sink: shop } } })
    assert.deepStrictEqual(findings.map(({ path }) => path), [["pipelines", "shop", "source"]])
  })
})
