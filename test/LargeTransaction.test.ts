/**
 * The source's memory doesn't depend on the size of a transaction, whether the server keeps it until it commits or streams it while it
 * is in progress.
 *
 * `ETL_STREAM_TRANSACTION_ROWS` sets another size, for example 10000000.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { temporaryFolder } from "./Landscape.ts"

const rows = Number(process.env["ETL_STREAM_TRANSACTION_ROWS"] ?? 1_000_000)
/** As many as fill every buffer that doesn't depend on the size. */
const warmUp = 200_000
/** Of a row on the wire, with the headers of its message. */
const rowBytes = 200
const diskLimit = (rows + warmUp) * rowBytes

const mebibyte = 1024 * 1024
/** What the transaction may add to the memory of the process (less than it has on the wire), and the most that the process may have. */
const growth = 110 * mebibyte
const limit = 400 * mebibyte

/** Long enough for two cores that others use, too. */
const millis = 120_000 + rows / 5

const reader = fileURLToPath(new URL("readElements.ts", import.meta.url))

const bytesIn = (folder: string): number => {
  try {
    return fs.readdirSync(folder).reduce((sum, name) => sum + fs.statSync(path.join(folder, name)).size, 0)
  } catch {
    // Not made yet, or a file went in between.
    return 0
  }
}

describe("a large transaction", () => {
  it.live(
    `of ${rows} rows takes no more memory than a smaller one, and disk within its limit`,
    () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        const pg = yield* EmbeddedPostgres.start({ settings: { logical_decoding_work_mem: "4MB" } })
        yield* pg.query("CREATE TABLE loads (id bigint PRIMARY KEY, value int, note text)")
        const start = (pipeline: string, streaming: object | "off") =>
          ChildProcess.start({
            name: pipeline,
            command: process.execPath,
            args: [reader, pipeline, JSON.stringify({ url: pg.url, tables: ["public.loads"], streaming })]
          })
        const off = yield* start("off", "off")
        const on = yield* start("on", { directory: folder, diskLimit })
        const both = (pattern: RegExp) => Effect.all([off, on].map((child) => child.waitFor(pattern, millis)))
        yield* both(/streaming changes/)
        yield* pg.query(`INSERT INTO loads SELECT i, i, repeat('n', 100) FROM generate_series(1, ${warmUp}) i`)
        yield* both(new RegExp(`rows ${warmUp}\\n`))
        const before = [off.peakMemory(), on.peakMemory()]

        let spooled = 0
        const watch = yield* Effect.sync(() => {
          spooled = Math.max(spooled, bytesIn(path.join(folder, "on")))
        }).pipe(Effect.repeat(Schedule.spaced("50 millis")), Effect.forkChild)
        yield* pg.query(
          `INSERT INTO loads SELECT i, i, repeat('n', 100) FROM generate_series(${warmUp + 1}, ${warmUp + rows}) i`
        )
        yield* both(new RegExp(`rows ${warmUp + rows}\\n`))
        yield* Fiber.interrupt(watch)

        assert.isAbove(spooled, rows * 100, "the transaction was not streamed")
        assert.isAtMost(spooled, diskLimit)
        for (const [index, child] of [off, on].entries()) {
          const peak = child.peakMemory()
          const what = `${index === 0 ? "kept by the server" : "streamed"}: ${Math.round(peak / mebibyte)} MiB after ${
            Math.round((before[index] ?? 0) / mebibyte)
          } MiB`
          assert.isBelow(peak, limit, what)
          assert.isBelow(peak - (before[index] ?? 0), growth, what)
        }
      }),
    millis * 3
  )
})
