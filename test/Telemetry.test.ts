/**
 * What a collector gets of a real run: PostgreSQL to a local Snowflake, watched by a strict receiver of OTLP.
 */
import { assert, it } from "@effect/vitest"
import type { Definition } from "@etl-stream/core/MetricDefinition"
import * as Telemetry from "@etl-stream/core/Telemetry"
import { metrics as monitorMetrics } from "@etl-stream/monitor-wal/Metrics"
import { metrics as alertMetrics } from "@etl-stream/runner/alerts/AlertMetrics"
import { dropped } from "@etl-stream/runner/TelemetryDelivery"
import { metrics as postgresMetrics } from "@etl-stream/source-postgres/Metrics"
import * as OtlpReceiver from "@etl-stream/testkit/OtlpReceiver"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Landscape from "./Landscape.ts"

const definitions = new Map<string, Definition>(
  [...Telemetry.metrics, ...postgresMetrics, ...monitorMetrics, ...alertMetrics, dropped].map((
    { definition }
  ) => [definition.name, definition])
)

const pointsOf = ({ gauge, histogram, sum }: OtlpReceiver.Metric) =>
  [...gauge?.dataPoints ?? [], ...histogram?.dataPoints ?? [], ...sum?.dataPoints ?? []].map((point) => ({
    attributes: OtlpReceiver.record(point.attributes),
    value: "asDouble" in point ? point.asDouble : "count" in point ? Number(point.count) : undefined
  }))

it.live(
  "a run's metrics are those that are documented, and a merge leads back to the commits in it",
  () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      const { postgres } = landscape
      const receiver = yield* OtlpReceiver.start()
      yield* postgres.query(
        `CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders SELECT i, 'row-value-' || i FROM generate_series(1, 500) i`
      )
      const runner = yield* landscape.run(landscape.write({
        ...landscape.configuration(),
        telemetry: { otlp: { endpoint: receiver.endpoint, interval: "300 millis" } }
      }))
      const mirror = yield* landscape.mirror
      yield* runner.waitFor(/The copy of a table is complete/)
      for (let i = 1; i <= 5; i++) {
        yield* postgres.query(`UPDATE orders SET note = 'row-value-again' WHERE id % 5 = ${i - 1}`)
      }
      yield* Landscape.caughtUp(landscape, mirror, ["orders"])

      const pointsNamed = (name: string) =>
        receiver.metrics().filter((metric) => metric.name === name).flatMap(pointsOf)
      const statesOf = (name: string) =>
        pointsNamed(name).filter(({ value }) => value !== 0).map((
          { attributes, value }
        ) => [attributes["state"], value])
      // While it runs: at the end nothing is in any state.
      yield* Effect.repeat(Effect.sync(() => statesOf(Telemetry.Names.tableStatus)), {
        schedule: Schedule.spaced("50 millis"),
        until: (states) => JSON.stringify(states) === JSON.stringify([["streaming", 1]])
      }).pipe(Effect.timeout("30 seconds"))
      assert.deepStrictEqual(statesOf(Telemetry.Names.pipelineStatus), [["streaming", 1]])
      const ended = yield* runner.kill("SIGTERM")
      assert.strictEqual(ended.code, 0, runner.output())

      assert.deepStrictEqual(receiver.problems, [])
      assert.deepStrictEqual([statesOf(Telemetry.Names.tableStatus), statesOf(Telemetry.Names.pipelineStatus)], [
        [],
        []
      ])
      for (const metric of receiver.metrics()) {
        const definition = definitions.get(metric.name)
        assert.isDefined(definition, metric.name)
        assert.strictEqual(metric.unit, definition?.unit)
        for (const { attributes } of pointsOf(metric)) {
          for (const key of Object.keys(attributes)) assert.include(definition?.attributes ?? [], key, metric.name)
        }
      }
      assert.isAbove(pointsNamed(Telemetry.Names.freshness)[0]?.value ?? 0, 0)
      const systems = new Set(
        pointsNamed(Telemetry.Names.databaseDuration).map(({ attributes }) => attributes["db.system.name"])
      )
      assert.deepStrictEqual(systems, new Set(["postgresql", "snowflake"]))
      const merges = pointsNamed(Telemetry.Names.databaseDuration).filter(({ attributes }) =>
        attributes["db.operation.name"] === "MERGE"
      )
      assert.isAbove(merges.length, 0)

      const spans = new Map(receiver.spans.map((span) => [span.spanId, span]))
      const linked = (span: OtlpReceiver.Span) => span.links.map(({ spanId }) => spans.get(spanId))
      const merged = receiver.spans.filter(({ name }) => name === "etl_stream.snowflake.merge").flatMap(linked)
      assert.isAbove(merged.length, 0)
      for (const write of merged) {
        assert.strictEqual(write?.name, Telemetry.Spans.write)
        const received = write === undefined ? [] : linked(write)
        assert.isAbove(received.length, 0)
        for (const receipt of received) assert.strictEqual(receipt?.name, Telemetry.Spans.receive)
      }
      const told = receiver.requests.map(({ text }) => text).join("\n")
      assert.notMatch(told, /row-value/)
      assert.notInclude(told, new URL(postgres.url).password || "no password")
    }),
  120_000
)
