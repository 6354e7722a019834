/**
 * Plugins without a server, for tests: a source that counts, a sink that writes lines to a file, and a state store in memory.
 *
 * Tests copy this file into a folder of their own and name it in configurations as a local plugin.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { ChangeBatchBuilder } from "@etl-stream/core/ChangeBatchBuilder"
import { Int64Column } from "@etl-stream/core/ColumnBuilder"
import { ConnectorError, Reason } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Plugin from "@etl-stream/core/Plugin"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableElement } from "@etl-stream/core/Sink"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import { resolve } from "node:path"

const tableOf = (name: string): TableSchema => ({
  table: { schema: "public", name },
  version: 1,
  columns: [{ name: "n", type: { _tag: "Int64" }, sourceType: "bigint", nullable: false }],
  identity: { _tag: "Key", columns: [0] }
})

const batch = (
  table: TableSchema,
  op: ChangeBatch.Operation,
  commit: number,
  ordinal: number,
  from: number,
  count: number
): ChangeBatch.ChangeBatch => {
  const builder = new ChangeBatchBuilder(table)
  for (let n = from; n < from + count; n++) {
    builder.begin(op, 0, commit, ordinal, 0, 0)
    const column = builder.columns[0]
    if (column instanceof Int64Column) column.appendNumber(n)
  }
  return builder.finish()
}

const fails = (reason: Reason, plugin: string, cause?: Error) =>
  new ConnectorError({
    reason,
    plugin,
    message: "it does not work",
    hint: "Mend it.",
    ...(cause === undefined ? {} : { cause })
  })

/**
 * Copies `rows` rows of each table at position 1, then makes one change of the first table per commit from position 2 to `changes` + 1; then
 * ends, or waits for ever. Copies a table again on request.
 */
export const counter = Plugin.source({
  name: "counter",
  version: "1.2.3",
  summary: "Counts",
  config: Schema.Struct({
    rows: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 })).pipe(
      Schema.withDecodingDefaultKey(Effect.succeed(3))
    ).annotateKey({
      description: "Rows of the copy."
    }),
    tables: Schema.Array(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed(["numbers"]))),
    changes: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(5))),
    ends: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(true))),
    mode: Schema.Literals(["steady", "bursts"]).pipe(Schema.withDecodingDefaultKey(Effect.succeed("steady" as const))),
    every: Schema.DurationFromString.pipe(Schema.withDecodingDefaultKey(Effect.succeed("1 milli"))),
    password: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
    secret: Schema.optionalKey(Schema.Redacted(Schema.String)),
    /** What goes wrong, and where. */
    fails: Schema.optionalKey(
      Schema.Struct({ at: Schema.Literals(["make", "tables", "stream", "defect", "leak"]), reason: Reason })
    )
  }),
  claims: () => [],
  make: (config) =>
    Effect.gen(function*() {
      const broken = (at: string) =>
        config.fails?.at === at ? Effect.fail(fails(config.fails.reason, "counter")) : Effect.void
      yield* broken("make")
      if (config.fails?.at === "leak") {
        const secrets = [config.password, config.secret].map((secret) =>
          secret === undefined ? "" : Redacted.value(secret)
        ).join(" ")
        yield* Effect.logInfo(`logging in with ${secrets}`)
        return yield* new ConnectorError({
          reason: "Unauthorized",
          plugin: "counter",
          message: `refused: ${secrets}`,
          hint: "Mend it."
        })
      }
      const tables = config.tables.map(tableOf)
      const asked = yield* Queue.make<TableSchema>()
      let position = 1n
      const beginning = (table: TableSchema): Element => ({
        _tag: "SnapshotBegin",
        table,
        position,
        plan: undefined,
        resumed: false,
        estimatedRows: config.rows,
        estimatedBytes: undefined
      })
      const copy = (table: TableSchema): ReadonlyArray<Element> => {
        const rows: Element = {
          _tag: "SnapshotRows",
          batch: batch(table, ChangeBatch.Operation.Read, Number(position), 0, 0, config.rows),
          position,
          chunk: 0
        }
        return [
          beginning(table),
          ...(config.rows === 0 ? [] : [rows]),
          { _tag: "SnapshotChunk", table, position, chunk: 0, rows: config.rows },
          { _tag: "SnapshotEnd", table, position, chunks: 1, settled: position }
        ]
      }
      return {
        tables: Effect.as(broken("tables"), tables),
        resync: (id) =>
          Effect.gen(function*() {
            const table = tables.find(({ table }) => tableId(table) === id)
            if (table === undefined) return yield* fails("Missing", "counter")
            yield* Queue.offer(asked, table)
          }),
        stream: ({ positions }) => {
          const missing = tables.filter(({ table }) => positions.get(tableId(table))?.copied === undefined)
          const first: ReadonlyArray<Element> = missing.flatMap(copy)
          const again = Stream.fromQueue(asked).pipe(
            Stream.flatMap((table) => Stream.fromIterable(copy(table)))
          )
          const [counted = tableOf("numbers")] = tables
          const changes = Stream.range(2, config.changes + 1).pipe(
            Stream.rechunk(1),
            Stream.tap(() => Effect.sleep(config.every)),
            Stream.tap((commit) =>
              Effect.sync(() => {
                position = BigInt(commit)
              })
            ),
            Stream.flatMap((commit): Stream.Stream<Element> =>
              Stream.fromIterable<Element>([
                { _tag: "Rows", batch: batch(counted, ChangeBatch.Operation.Insert, commit, 1, 1000 + commit, 1) },
                { _tag: "Watermark", position: BigInt(commit), commitTime: BigInt(Date.now()) * 1000n }
              ])
            )
          )
          const failing = Stream.fromEffectDrain(
            config.fails?.at === "defect" ? Effect.die(new TypeError("row value 4711")) : broken("stream")
          )
          const later = changes.pipe(
            Stream.concat(failing),
            Stream.concat(config.ends ? Stream.empty : Stream.never)
          )
          return Stream.concat(Stream.fromIterable(first), Stream.merge(later, again, { haltStrategy: "left" }))
        }
      }
    })
})

interface Line {
  readonly kind: "begin" | "copied" | "read" | "change" | "settled"
  readonly table?: string
  readonly n?: string
  readonly sequence?: string
}

/** Appends a line to `file` for each row, durable at once. `trips` names a file: the first write of a change while it is absent makes it and fails. */
export const lines = Plugin.sink({
  name: "lines",
  version: "1.2.3",
  summary: "Writes lines",
  config: Schema.Struct({
    file: Schema.String,
    trips: Schema.optionalKey(Schema.Struct({ file: Schema.String, reason: Reason })),
    /** Rows take this long to become durable. */
    slow: Schema.DurationFromString.pipe(Schema.withDecodingDefaultKey(Effect.succeed("0 millis")))
  }),
  claims: ({ file }, { directory }) => [resolve(directory, file)],
  make: (config, { directory }) =>
    Effect.sync(() => {
      const file = resolve(directory, config.file)
      const append = (...added: ReadonlyArray<Line>) =>
        Fs.appendFileSync(file, added.map((line) => `${JSON.stringify(line)}\n`).join(""))
      const held = (): ReadonlyArray<Line> =>
        Fs.existsSync(file)
          ? Fs.readFileSync(file, "utf8").trim().split("\n").filter((line) => line !== "").map((line) =>
            JSON.parse(line) as Line
          )
          : [] // our own lines
      const rows = (
        kind: "read" | "change",
        table: string,
        changes: ChangeBatch.ChangeBatch
      ): ReadonlyArray<Line> =>
        Array.from({ length: changes.rows }, (_, row) => ({
          kind,
          table,
          n: String(changes.records.getChildAt(ChangeBatch.metadataColumns)?.get(row)),
          sequence: Sequence.format(ChangeBatch.sequenceAt(changes.records, row))
        }))
      const trip = Effect.suspend(() => {
        if (config.trips === undefined) return Effect.void
        const mark = resolve(directory, config.trips.file)
        if (Fs.existsSync(mark)) return Effect.void
        Fs.writeFileSync(mark, "")
        return Effect.fail(fails(config.trips.reason, "lines"))
      })
      const write = (table: string, element: TableElement): Effect.Effect<void, ConnectorError> =>
        Effect.gen(function*() {
          if (element._tag === "SnapshotBegin") append({ kind: "begin", table })
          else if (element._tag === "SnapshotRows") append(...rows("read", table, element.batch))
          else if (element._tag === "SnapshotEnd") append({ kind: "copied", table })
          else if (element._tag === "Rows") {
            yield* trip
            yield* Effect.sleep(config.slow)
            append(...rows("change", table, element.batch))
          }
        })
      return {
        begin: () => Effect.void,
        open: (schema, durable) =>
          Effect.sync(() => {
            const table = schema.table.name
            const own = held().filter((line) => line.table === table)
            const last = own.findLast(({ kind }) => kind === "change")?.sequence
            return {
              position: {
                copied: own.findLast(({ kind }) => kind === "copied" || kind === "begin")?.kind === "copied"
                  ? 1n
                  : undefined,
                committed: last === undefined ? undefined : Sequence.parse(last)
              },
              write: (element) =>
                Effect.andThen(
                  write(table, element),
                  element._tag === "Rows" ? durable(element.batch.last) : Effect.void
                )
            }
          }),
        run: Effect.never,
        settle: Effect.sync(() => append({ kind: "settled" }))
      }
    })
})

/** Keeps entries in memory. */
export const memory = Plugin.state({
  name: "memory",
  version: "1.2.3",
  summary: "Forgets",
  config: Schema.Struct({}),
  make: () =>
    Effect.sync(() => ({
      get: () => Effect.succeed(Option.none()),
      list: () => Effect.succeed([]),
      compareAndSet: () => Effect.succeed(Option.some("1")),
      remove: () => Effect.void,
      now: Clock.currentTimeMillis
    }))
})

/**
 * Raises `condition`, pauses the copies of each pipeline that it sees, and waits; or fails as it is told. `runs` names a file: each run appends a line.
 */
export const watcher = Plugin.monitor({
  name: "watcher",
  version: "1.2.3",
  summary: "Watches",
  config: Schema.Struct({
    condition: Schema.optionalKey(Schema.String),
    password: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
    fails: Schema.optionalKey(
      Schema.Struct({ at: Schema.Literals(["make", "run", "defect"]), times: Schema.Int, reason: Reason })
    ),
    runs: Schema.optionalKey(Schema.String)
  }),
  make: ({ condition, fails: failing, password, runs }, { directory, pipeline: name }) =>
    Effect.gen(function*() {
      const file = resolve(directory, runs ?? `${name}.runs`)
      Fs.appendFileSync(file, "run\n")
      const nth = Fs.readFileSync(file, "utf8").split("\n").length - 1
      const broken = (at: string) =>
        failing?.at === at && nth <= failing.times ? Effect.fail(fails(failing.reason, "watcher")) : Effect.void
      yield* broken("make")
      return {
        status: () => ({ nth }),
        run: ({ conditions, pipelines }) =>
          Effect.gen(function*() {
            if (condition !== undefined) {
              yield* conditions.raise({
                name: condition,
                subject: "all",
                severity: "warning",
                message: `Something is the matter${password === undefined ? "" : ` with ${Redacted.value(password)}`}`,
                hint: "Look."
              })
            }
            yield* Effect.forEach(pipelines(), ({ control }) => control.pauseCopies(true))
            yield* broken("run")
            if (failing?.at === "defect" && nth <= failing.times) {
              return yield* Effect.die(new TypeError("row value 4711"))
            }
            return yield* Effect.never
          })
      }
    })
})

/** Of another version of the contracts. */
export const ancient = { ...memory, name: "ancient", apiVersion: 0 }

/** A source that is only there to be checked: its findings are configured, and it logs. */
export const examined = Plugin.source({
  name: "examined",
  version: "1.2.3",
  summary: "Is looked at",
  config: Schema.Struct({
    password: Schema.RedactedFromValue(Schema.String),
    severity: Schema.Literals(["ok", "info", "warning", "critical"]),
    breaks: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
    hangs: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false)))
  }),
  make: () => Effect.succeed({ tables: Effect.succeed([]), stream: () => Stream.empty }),
  check: ({ breaks, hangs, password, severity }, { pipeline }) =>
    Effect.gen(function*() {
      // Not even to be stopped, like a library that doesn't know how.
      if (hangs) return yield* Effect.uninterruptible(Effect.never)
      const secret = Redacted.value(password)
      yield* Effect.logWarning(`looking with ${secret}`)
      if (breaks) return yield* Effect.die(new TypeError("row value 4711"))
      return [{
        check: "the-check",
        severity,
        message: `${pipeline} found ${secret}`,
        remedy: `forget ${secret}`,
        sql: [`SELECT '${secret}';`]
      }]
    })
})

/** A notifier that rings, or breaks. */
export const bell = Plugin.notifier({
  name: "bell",
  version: "1.2.3",
  summary: "Rings",
  config: Schema.Struct({
    password: Schema.RedactedFromValue(Schema.String),
    breaks: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false)))
  }),
  make: ({ breaks, password }) =>
    Effect.succeed({
      notify: ({ title }) =>
        breaks
          ? Effect.die(new TypeError(`it broke with ${Redacted.value(password)}`))
          : Effect.logInfo(`${title} with ${Redacted.value(password)}`)
    })
})
