/**
 * `etl-stream doctor` over a whole pipeline: before its first run, while it runs, and when both sides have something against it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as path from "node:path"
import * as Landscape from "./Landscape.ts"

const Side = Schema.Struct({
  findings: Schema.Array(
    Schema.Struct({ check: Schema.String, severity: Schema.String, sql: Schema.Array(Schema.String) })
  )
})
const Report = Schema.fromJsonString(
  Schema.Struct({
    ok: Schema.Boolean,
    unreachable: Schema.Number,
    pipelines: Schema.Array(Schema.Struct({ source: Side, sink: Side }))
  })
)

const doctor = (file: string) =>
  Effect.gen(function*() {
    const child = yield* ChildProcess.start({
      name: "doctor",
      command: process.execPath,
      args: [Landscape.command, "doctor", file, "--json"],
      cwd: path.dirname(file)
    })
    const { code } = yield* child.ended()
    const line = child.output().split("\n").find((text) => text.startsWith("{\"ok\"")) ?? ""
    const { pipelines: [pipeline], ...report } = yield* Schema.decodeUnknownEffect(Report)(line)
    const of = (findings: typeof Side.Type["findings"], severity: string) => [
      ...new Set(
        findings.filter((finding) => finding.severity === severity).map(({ check }) => check)
      )
    ]
    return {
      ...report,
      code,
      source: (severity: string) => of(pipeline?.source.findings ?? [], severity),
      sink: (severity: string) => of(pipeline?.sink.findings ?? [], severity),
      sql: (pipeline?.source.findings ?? []).filter(({ severity }) => severity === "critical").flatMap(({ sql }) => sql)
    }
  })

describe("doctor over a whole pipeline", () => {
  it.live(
    "asks both sides without leaving anything at either, and finds a running pipeline as it should be",
    () =>
      Effect.gen(function*() {
        const landscape = yield* Landscape.make()
        const { postgres } = landscape
        yield* postgres.query(
          "CREATE TABLE items (id int PRIMARY KEY, v text); ALTER TABLE items REPLICA IDENTITY NOTHING"
        )
        const file = landscape.write(landscape.configuration())
        const mirror = yield* landscape.mirror
        const schemas = mirror.session.query(`SHOW SCHEMAS IN DATABASE "${mirror.database}"`)
        const before = yield* schemas

        const ill = yield* doctor(file)
        assert.deepInclude(ill, { code: 2, ok: false, unreachable: 0 })
        assert.deepStrictEqual([ill.source("critical"), ill.sink("critical")], [["replica-identity"], []])
        for (const statement of ill.sql) yield* postgres.query(statement)
        const well = yield* doctor(file)
        assert.deepInclude(well, { code: 0, ok: true })
        assert.deepStrictEqual([well.sink("ok"), well.sink("info")], [["login", "streaming"], ["schemas"]])
        assert.deepStrictEqual(yield* schemas, before)
        assert.deepStrictEqual(yield* postgres.query("SELECT slot_name FROM pg_replication_slots"), [])

        yield* postgres.query("INSERT INTO items SELECT i, 'v' || i FROM generate_series(1, 100) i")
        const runner = yield* landscape.run(file)
        yield* Landscape.caughtUp(landscape, mirror, ["items"])
        const running = yield* doctor(file)
        assert.deepInclude(running, { code: 0, ok: true })
        assert.include(running.source("info"), "slot")
        assert.include(running.sink("ok"), "schemas")
        assert.isTrue(runner.isRunning())
        yield* postgres.query("UPDATE items SET v = 'w' WHERE id <= 10; DELETE FROM items WHERE id > 90")
        yield* Landscape.caughtUp(landscape, mirror, ["items"])
        yield* Landscape.assertSame(landscape, mirror, ["items"])
        assert.isTrue(runner.isRunning(), runner.output())
      }),
    120_000
  )
})
