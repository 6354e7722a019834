/**
 * What becomes of a log that grows, goes on in new files, and of everything that may happen to its files.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { deepStrictEqual, match, ok, strictEqual } from "node:assert/strict"
import { readdirSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { gzipSync } from "node:zlib"
import { describe, it } from "vitest"
import * as Position from "../src/Position.ts"
import * as Log from "./Log.ts"

const scenario = (title: string, test: (log: Log.Log) => Effect.Effect<void, unknown, Scope.Scope>): void => {
  it(title, () => Effect.runPromise(Effect.scoped(Effect.flatMap(Log.make, test))))
}

const line = (id: number, note: string | null = null): string => `${JSON.stringify({ id, note })}\n`

describe("a log of NDJSON files", () => {
  scenario("is read in the order of the files' numbers, and followed", (log) =>
    Effect.gen(function*() {
      log.append("orders-2.ndjson", line(3))
      log.append("orders-1.ndjson", line(1) + line(2))
      const reading = yield* Log.read(log)
      deepStrictEqual(yield* reading.ids(3), [1, 2, 3])
      log.append("orders-2.ndjson", line(4))
      deepStrictEqual(yield* reading.ids(1), [4])
      log.append("orders-10.ndjson", `\n${line(5)}`)
      deepStrictEqual(yield* reading.ids(1), [5])
    }))

  scenario(
    "gives a line the same position whenever it is read: its file's number and where it ends",
    (log) =>
      Effect.gen(function*() {
        log.append("orders-2026-11-26.ndjson", line(1) + line(2))
        const first = yield* Effect.flatMap(Log.read(log), ({ take }) => take(2))
        const [one, two] = first.map(({ position }) => position)
        deepStrictEqual(one, Position.pack(20261126, line(1).length))
        log.append("orders-2026-11-27.ndjson", line(3))
        const again = yield* Log.read(log, {}, { "shop.orders": two ?? 0n })
        // The last line comes again, since a sink may have a part of what has its position.
        deepStrictEqual((yield* again.take(2)).map(({ position }) => position), [
          two,
          Position.pack(20261127, line(3).length)
        ])
      })
  )

  scenario("waits for the end of a last line, however it is cut", (log) =>
    Effect.gen(function*() {
      const text = Buffer.from(line(1, "ä🌊"))
      log.append("orders-1.ndjson", line(0))
      const reading = yield* Log.read(log)
      deepStrictEqual(yield* reading.ids(1), [0])
      for (const byte of text) {
        writeFileSync(log.path("orders-1.ndjson"), Buffer.from([byte]), { flag: "a" })
        yield* Effect.sleep("3 millis")
      }
      deepStrictEqual((yield* reading.take(1)).map(({ row }) => row["note"]), ["ä🌊"])
      // In a file that isn't the last any more it is whole as it is.
      log.append("orders-1.ndjson", line(2).trimEnd())
      log.append("orders-2.ndjson", line(3))
      deepStrictEqual(yield* reading.ids(2), [2, 3])
    }))

  scenario("goes on in a file that was compressed meanwhile, from where it was", (log) =>
    Effect.gen(function*() {
      const text = line(1) + line(2) + line(3)
      log.append("orders-1.ndjson", text)
      const position = Position.pack(1, (line(1) + line(2)).length)
      writeFileSync(log.path("orders-1.ndjson.gz"), gzipSync(text))
      rmSync(log.path("orders-1.ndjson"))
      log.append("orders-2.ndjson", line(4))
      const reading = yield* Log.read(log, {}, { "shop.orders": position })
      deepStrictEqual(yield* reading.ids(3), [2, 3, 4])
    }))

  scenario(
    "says that a file was cut, written anew, replaced or removed, and which one",
    (log) =>
      Effect.gen(function*() {
        const harm: Readonly<Record<string, (path: string) => void>> = {
          "became shorter": (path) => truncateSync(path, 5),
          "was written anew": (path) => writeFileSync(path, line(9).repeat(20)),
          "was replaced by another one": (path) => {
            writeFileSync(`${path}.new`, readFileSync(path))
            renameSync(`${path}.new`, path)
          },
          "was removed or renamed": (path) => rmSync(path)
        }
        let number = 1
        for (const [what, does] of Object.entries(harm)) {
          const name = `orders-${++number}.ndjson`
          log.append(name, line(1) + line(2))
          const reading = yield* Log.read(log, {}, { "shop.orders": Position.pack(number, 1) })
          deepStrictEqual(yield* reading.ids(2), [1, 2])
          does(log.path(name))
          const error = yield* reading.failure
          strictEqual("reason" in error ? error.reason : error._tag, "Lost", what)
          match(error.message, new RegExp(`${name} ${what}`))
        }
      })
  )

  scenario(
    "says that lines are missing when the file that was read last is shorter, other or gone at the next start",
    (log) =>
      Effect.gen(function*() {
        log.append("orders-1.ndjson", line(1) + line(2))
        const behind = Position.pack(1, 500)
        match(
          (yield* Effect.flatMap(Log.read(log, {}, { "shop.orders": behind }), ({ failure }) => failure)).message,
          /became shorter/
        )
        log.append("orders-1.ndjson", line(3).repeat(50))
        const inside = Position.pack(1, 110)
        match(
          (yield* Effect.flatMap(Log.read(log, {}, { "shop.orders": inside }), ({ failure }) => failure)).message,
          /was written anew/
        )
        rmSync(log.path("orders-1.ndjson"))
        log.append("orders-2.ndjson", line(4))
        match(
          (yield* Effect.flatMap(Log.read(log, {}, { "shop.orders": behind }), ({ failure }) => failure)).message,
          /isn't there any more/
        )
        const reading = yield* Log.read(log, { removedFiles: "skip" }, { "shop.orders": behind })
        deepStrictEqual(yield* reading.ids(1), [4])
      })
  )

  scenario("says that a file grew although there is a newer one, or came too late", (log) =>
    Effect.gen(function*() {
      log.append("orders-1.ndjson", line(1))
      log.append("orders-3.ndjson", line(3))
      const reading = yield* Log.read(log)
      deepStrictEqual(yield* reading.ids(2), [1, 3])
      log.append("orders-1.ndjson", line(2))
      match((yield* reading.failure).message, /orders-1.ndjson grew after a newer one was there/)
      const other = yield* Log.read(log)
      deepStrictEqual(yield* other.ids(3), [1, 2, 3])
      log.append("orders-2.ndjson", line(2))
      match((yield* other.failure).message, /orders-2.ndjson came after one with a higher number/)
    }))

  scenario(
    "stops the table of a bad line, naming file, line and column but no value, and goes on with the others",
    (log) =>
      Effect.gen(function*() {
        const customers = { files: "customers-*.ndjson", columns: { id: "int64" } }
        const bad: Readonly<Record<string, RegExp>> = {
          "{\"id\":1,\"note\":\"secret\"": /line 2 is no JSON/,
          "{\"id\":1,\"note\":7777}": /line 2 has something else in the column note than a text/,
          "{\"id\":null}": /line 2 has no value in the column id/,
          "{\"id\":7777.5}": /line 2 has something else in the column id than a whole number of 64 bits/,
          "{\"id\":1,\"secret\":1}": /line 2 has a field that isn't among the table's columns/,
          "[7777]": /line 2 is no JSON object/
        }
        let number = 10
        for (const [text, message] of Object.entries(bad)) {
          number += 2
          log.append(`orders-${number}.ndjson`, `${line(1)}${text}\n${line(2)}`)
          log.append(`customers-${number + 1}.ndjson`, line(number).replace(",\"note\":null", ""))
          const from = Position.pack(number, 1)
          const reading = yield* Log.read(
            log,
            { tables: { "shop.orders": Log.orders, "shop.customers": customers } },
            { "shop.orders": from, "shop.customers": from }
          )
          const error = yield* reading.failure
          match(error.message, new RegExp(`^orders-${number}.ndjson: `))
          match(error.message, message)
          ok(!/7777|secret/.test(error.message.replace("column", "")), error.message)
          deepStrictEqual((yield* reading.take(1)).map(({ row, table }) => [table, row["id"]]), [[
            "customers",
            BigInt(number)
          ]])
        }
      })
  )

  scenario("stops at a line that is longer than it may be, without holding it", (log) =>
    Effect.gen(function*() {
      log.append("orders-1.ndjson", line(1) + line(2, "x".repeat(3_000_000)))
      const reading = yield* Log.read(log, { maxLineBytes: "1MB" })
      match((yield* reading.failure).message, /orders-1.ndjson: line 2 is longer than 1000000 bytes/)
    }))

  scenario("keeps bad lines aside where that is wanted, each once, and says so", (log) =>
    Effect.gen(function*() {
      log.append("orders-1.ndjson", `${line(1)}oops\n${line(2)}{}\n${line(3)}`)
      const options = { badLines: { directory: "./bad", atMost: 2 } }
      const reading = yield* Log.read(log, options)
      deepStrictEqual(yield* reading.ids(3), [1, 2, 3])
      match(reading.conditions.at(-1)?.message ?? "", /^2 lines of shop.orders can't be read/)
      deepStrictEqual(yield* Effect.flatMap(Log.read(log, options), ({ ids }) => ids(3)), [1, 2, 3])
      const kept = readdirSync(log.path("bad"))
      strictEqual(kept.length, 2)
      // They hold values of rows.
      deepStrictEqual(kept.map((name) => statSync(log.path(`bad/${name}`)).mode & 0o777), [0o600, 0o600])
      const first = JSON.parse(readFileSync(log.path(`bad/orders-1.ndjson@${line(1).length + 5}.json`), "utf8")) as {
        line: string
      }
      strictEqual(Buffer.from(first.line, "base64").toString(), "oops")
      log.append("orders-1.ndjson", "more\n")
      match((yield* reading.failure).message, /orders-1.ndjson: line 6 is no JSON/)
    }))

  scenario("refuses files whose lines have no order", (log) =>
    Effect.gen(function*() {
      log.append("orders-1.ndjson", "")
      log.append("orders-01.ndjson", "")
      match(
        (yield* Effect.flatMap(Log.read(log), ({ source }) => Effect.flip(source.tables))).message,
        /have the same number/
      )
      rmSync(log.path("orders-01.ndjson"))
      log.append("orders-next.ndjson", "")
      match(
        (yield* Effect.flatMap(Log.read(log), ({ source }) => Effect.flip(source.tables))).message,
        /orders-next.ndjson .* has no number/
      )
    }))
})
