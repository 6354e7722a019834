import { assert, layer } from "@effect/vitest"
import { type ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import { tableId } from "@etl-stream/core/TableSchema"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Client } from "pg"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

/**
 * Faults at named steps of a pipeline's life: at each one the source's sessions are ended, its walsender is ended, PostgreSQL
 * crashes, or the pipeline is cut off without a farewell. Rows change before, during and after; in the end every row is compared.
 *
 * A step is recognised by an element, which is then held until the fault has happened, or by what the server's catalogs show.
 */

/** Transactions of more than 64 kB are streamed by pipelines that ask for it. */
const Server = Layer.effect(
  SourceRun.Server,
  Effect.orDie(EmbeddedPostgres.start({ settings: { logical_decoding_work_mem: "64kB" } }))
)

const faults = ["sessions", "walsender", "crash", "cut"] as const
type Fault = typeof faults[number]

const titles: Readonly<Record<Fault, string>> = {
  sessions: "the source's sessions are ended",
  walsender: "the walsender is ended",
  crash: "PostgreSQL crashes",
  cut: "the pipeline is cut off"
}

interface Context {
  readonly pg: EmbeddedPostgres.EmbeddedPostgres
  readonly name: string
  readonly mirror: Mirror
  readonly write: (sql: string) => Effect.Effect<void>
  readonly run: SourceRun.Run
}

interface Step {
  readonly title: string
  /** Those that can happen there: each must hit a session, or the test fails. */
  readonly faults: ReadonlyArray<Fault>
  readonly options?: SourceRun.StartOptions
  /** The copy is cut off after some chunks, and the step is in the run that follows. */
  readonly resumed?: boolean
  /** Statements of a session whose transaction keeps the source at the step, run before it starts, or as the trigger. */
  readonly block?: string
  /** What leads to the step once the pipeline has caught up; without it the step is in the first copy. */
  readonly trigger?: (context: Context) => Effect.Effect<void, unknown>
  /** Whether the step is reached before `element` is taken. Called once per element. */
  readonly at?: () => (element: Element, mirror: Mirror) => boolean
  /** A query with a row once the step is reached. */
  readonly shown?: (name: string) => string
  /** The first copy's chunks wait until a change that was made beside them has been sent. */
  readonly beside?: boolean
  /** The fault that the run lives on through. */
  readonly survives?: Fault
  /** Tables are copied again for a reason. */
  readonly recopies?: boolean
}

const of = (element: Element, tag: Element["_tag"], name: string): boolean => {
  if (element._tag !== tag) return false
  if (element._tag === "Rows" || element._tag === "SnapshotRows") return element.batch.table.table.name === name
  return "table" in element && element.table.table.name === name
}

/** The `count`th element of a kind and table. */
const nth = (tag: Element["_tag"], name: string, count = 1) => () => {
  let seen = 0
  return (element: Element): boolean => of(element, tag, name) && ++seen === count
}

/** The element after the `count`th of a kind and table. */
const after = (tag: Element["_tag"], name: string, count = 1) => () => {
  let seen = 0
  return (element: Element): boolean => {
    if (seen === count) return true
    if (of(element, tag, name)) seen++
    return false
  }
}

/** The first watermark after rows of a table. */
const watermarkAfter = (name: string) => () => {
  let came = false
  return (element: Element): boolean => {
    if (of(element, "Rows", name)) came = true
    return came && element._tag === "Watermark"
  }
}

const lockWaits = () => "SELECT FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"
const slotWaits = () => "SELECT FROM pg_replication_slots WHERE confirmed_flush_lsn IS NULL"
/** A transaction that writes: a slot isn't ready before it ends. */
const writing = "CREATE TABLE unseen (id int); INSERT INTO unseen VALUES (1)"
const fresh =
  `CREATE TABLE fresh (id int PRIMARY KEY, v int, big text); ALTER TABLE fresh ALTER COLUMN big SET STORAGE EXTERNAL;
   INSERT INTO fresh SELECT i, 0, i || repeat('f', 3000) FROM generate_series(1, 30) i`
const large = "INSERT INTO wide SELECT i, repeat('w', 1500) FROM generate_series(1, 8000) i"
const joins: SourceRun.StartOptions = { publication: { check: "200 millis" } }
const create = ({ write }: Context) => write(fresh)

const steps: ReadonlyArray<Step> = [
  {
    title: "before the slot is created, while the publication is",
    faults: ["sessions", "crash", "cut"],
    block: "LOCK TABLE held IN SHARE UPDATE EXCLUSIVE MODE",
    shown: lockWaits
  },
  {
    title: "while the slot is being created",
    faults: ["walsender", "crash", "cut"],
    block: writing,
    shown: slotWaits
  },
  {
    title: "when the slot is created and the snapshot imported, before the first chunk",
    faults: ["sessions", "crash", "cut"],
    at: nth("SnapshotBegin", "t")
  },
  {
    title: "in the middle of a chunk",
    faults: ["sessions", "walsender", "crash", "cut"],
    at: () => {
      let rows = 0
      return (element) => {
        if (of(element, "SnapshotChunk", "t")) rows = 0
        return of(element, "SnapshotRows", "t") && ++rows === 2
      }
    },
    options: { snapshot: { chunkBytes: 16384, fetchRows: 2, parallel: 1 } }
  },
  {
    title: "before a chunk's end is taken",
    faults: ["sessions", "walsender", "crash", "cut"],
    at: nth("SnapshotChunk", "t", 3)
  },
  {
    title: "after a chunk's end",
    faults: ["sessions", "walsender", "crash", "cut"],
    at: after("SnapshotChunk", "t", 2)
  },
  {
    title: "in the middle of the copy of a table without a key",
    faults: ["sessions", "walsender", "crash", "cut"],
    at: nth("SnapshotChunk", "k", 2)
  },
  {
    title: "when changes come beside a copy",
    faults: ["sessions", "walsender", "crash", "cut"],
    beside: true,
    at: () => (element, mirror) => element._tag === "Rows" && [...mirror.tables.values()].some(({ copying }) => copying)
  },
  {
    title: "between the last chunk and the end of the copy",
    faults: ["walsender", "crash", "cut"],
    at: nth("SnapshotEnd", "t")
  },
  {
    title: "while the slot for the rest of a copy is being created",
    faults: ["walsender", "crash", "cut"],
    resumed: true,
    block: writing,
    shown: (name) => `${slotWaits()} AND slot_name <> '${name}'`
  },
  {
    title: "in the middle of the rest of a copy",
    faults: ["sessions", "walsender", "crash", "cut"],
    resumed: true,
    at: after("SnapshotChunk", "t", 2)
  },
  {
    title: "when a table joins, while the publication is altered",
    faults: ["sessions", "walsender", "crash", "cut"],
    // The next look at the publication tries again.
    survives: "sessions",
    options: joins,
    trigger: () => Effect.void,
    block: `${fresh}; COMMIT; BEGIN; LOCK TABLE fresh IN SHARE UPDATE EXCLUSIVE MODE`,
    shown: lockWaits
  },
  {
    title: "when a table joins, before its copy begins",
    faults: ["walsender", "crash", "cut"],
    options: joins,
    trigger: create,
    at: nth("SnapshotBegin", "fresh")
  },
  {
    title: "when a table joins, in the middle of its copy",
    faults: ["sessions", "walsender", "crash", "cut"],
    options: joins,
    trigger: create,
    at: after("SnapshotChunk", "fresh", 2)
  },
  {
    title: "in the middle of a new copy that was asked for",
    faults: ["sessions", "walsender", "crash", "cut"],
    recopies: true,
    trigger: ({ name, run }) => run.resync(`${name}.t`),
    at: after("SnapshotChunk", "t", 2)
  },
  {
    title: "in the middle of a large transaction",
    faults: ["walsender", "crash", "cut"],
    trigger: ({ write }) => write(large),
    at: nth("Rows", "wide", 2)
  },
  {
    title: "in the middle of the replay of a streamed transaction",
    faults: ["walsender", "crash", "cut"],
    options: { streaming: "on" },
    trigger: ({ write }) => write(large),
    at: nth("Rows", "wide", 2)
  },
  {
    title: "while a transaction in progress is streamed",
    faults: ["walsender", "crash", "cut"],
    options: { streaming: "on" },
    trigger: () => Effect.void,
    block: large,
    shown: (name) => `SELECT FROM pg_stat_replication_slots WHERE slot_name = '${name}' AND stream_count > 0`
  },
  {
    title: "at a TRUNCATE",
    faults: ["walsender", "crash", "cut"],
    trigger: ({ write }) => write("TRUNCATE e, wide; INSERT INTO e VALUES (-1)"),
    at: nth("Truncate", "e")
  },
  {
    title: "before a watermark is taken",
    faults: ["walsender", "crash", "cut"],
    trigger: ({ write }) => write("INSERT INTO e VALUES (-3)"),
    at: watermarkAfter("e")
  },
  {
    title: "when changes are applied and not yet confirmed to the server",
    faults: ["walsender", "crash", "cut"],
    options: { acknowledge: () => 0n },
    trigger: ({ write }) => write("INSERT INTO e VALUES (-4)"),
    at: () => {
      const watermark = watermarkAfter("e")()
      let taken = false
      return (element) => {
        if (taken) return true
        taken = watermark(element)
        return false
      }
    }
  }
]

const tables =
  `CREATE TABLE t (id int PRIMARY KEY, v int, big text); ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL;
   INSERT INTO t SELECT i, 0, i || repeat('x', 3000) FROM generate_series(1, 60) i;
   CREATE TABLE k (id int, v int, filler text); ALTER TABLE k REPLICA IDENTITY FULL;
   INSERT INTO k SELECT i % 50, 0, repeat('k', 300) FROM generate_series(1, 200) i;
   CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
   CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (500); CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (500) TO (100000);
   INSERT INTO p SELECT i, 0 FROM generate_series(1, 100) i;
   CREATE TABLE e (id int PRIMARY KEY); INSERT INTO e VALUES (0);
   CREATE TABLE wide (id int PRIMARY KEY, filler text);
   CREATE TABLE held (id int PRIMARY KEY); INSERT INTO held VALUES (1)`

let round = 0

/** Transactions of every kind: keys that change with values out of line, rows that move, several tables, and a TRUNCATE when no copy is in its way. */
const churn = (write: (sql: string) => Effect.Effect<void>) =>
  Effect.gen(function*() {
    const n = ++round
    yield* write(`UPDATE t SET v = v + 1 WHERE abs(id) % 5 = ${n % 5}`)
    yield* write(`UPDATE t SET id = id + ${n * 1000} WHERE id BETWEEN 1 AND 60 AND id % 17 = ${n % 17}`)
    yield* write(
      `UPDATE t SET id = -id WHERE id BETWEEN 1 AND 60 AND id % 13 = ${n % 13};
       DELETE FROM t WHERE abs(id) % 41 = ${n % 41}; INSERT INTO t VALUES (${1_000_000 + n}, 0, repeat('n', 3000));
       INSERT INTO k VALUES (${n}, 0, 'new'), (${n}, 0, 'new'); INSERT INTO e VALUES (${n})`
    )
    yield* write(
      `UPDATE k SET v = v + 1 WHERE id % 10 = ${n % 10}; DELETE FROM k WHERE id = ${n % 50};
       UPDATE p SET id = id + 500 WHERE id = ${n % 100}; UPDATE p SET v = v + 1 WHERE id % 7 = ${n % 7}`
    )
    yield* write(
      `DO $$ BEGIN SET LOCAL lock_timeout = '20ms'; TRUNCATE e; EXCEPTION WHEN lock_not_available THEN NULL; END $$;
       INSERT INTO e VALUES (${1_000_000 + n})`
    )
  })

/** A session with a transaction that stays open. */
const session = (pg: EmbeddedPostgres.EmbeddedPostgres, schema: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({ connectionString: pg.url })
      client.on("error", () => undefined)
      await client.connect()
      await client.query(`SET search_path = ${schema}`)
      return client
    }),
    (client) => Effect.promise(() => client.end().catch(() => undefined))
  )

const spool = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "etl-stream-fail-points-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const sessionsOf = (fault: "sessions" | "walsender"): string =>
  fault === "walsender"
    ? "backend_type = 'walsender'"
    // Of the sessions of the file only the source's have names; those at work are the ones that matter.
    : "backend_type = 'client backend' AND application_name <> '' AND xact_start IS NOT NULL"

/** Ends sessions; returns how many. */
const terminate = (pg: EmbeddedPostgres.EmbeddedPostgres, fault: "sessions" | "walsender") =>
  Effect.map(
    Effect.orDie(pg.query(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE ${sessionsOf(fault)}`)),
    (rows) => rows.length
  )

const assertRetryable = (error: ConnectorError): void =>
  assert.isTrue(isRetryable(error), `${error.reason}: ${error.message}`)

/** The chunks of unfinished copies that the mirror has. */
const chunksOf = (mirror: Mirror) =>
  new Set(
    [...mirror.tables.values()].flatMap(({ schema: { identity, table } }) =>
      identity._tag === "Key"
        ? [...mirror.positions.get(tableId(table))?.copying?.chunks.keys() ?? []].map((chunk) =>
          `${table.name} ${chunk}`
        )
        : []
    )
  )

const small = { chunkBytes: 8192, fetchRows: 16, parallel: 2 }

const scenario = Effect.fnUntraced(function*(step: Step, fault: Fault, name: string) {
  const pg = yield* SourceRun.Server
  const write = yield* SourceRun.schema(name, tables)
  const mirror = new Mirror()
  mirror.recopies = step.recopies === true
  const options: SourceRun.StartOptions = {
    snapshot: small,
    ...step.options,
    ...(step.options?.streaming === "on" ? { streaming: { directory: yield* spool } } : {})
  }
  if (step.resumed === true) {
    const cut = after("SnapshotChunk", "t", 3)()
    let held = false
    const first = yield* SourceRun.start(name, mirror, {
      ...options,
      each: (element) => {
        held = held || cut(element)
        return held ? Effect.never : Effect.void
      }
    })
    yield* first.until(() => held)
    yield* first.stop
    assert.isAtLeast(chunksOf(mirror).size, 3)
    yield* churn(write)
  }

  const blocker = yield* session(pg, name)
  const block = step.block === undefined
    ? Effect.void
    : Effect.promise(() => blocker.query(`BEGIN; ${step.block}`))
  // Of a server that crashed nothing is left to end.
  const unblock = Effect.promise(() => blocker.query("COMMIT").catch(() => undefined))
  if (step.trigger === undefined) yield* block

  const reached = yield* Deferred.make<void>()
  const released = yield* Deferred.make<void>()
  const at = step.at?.()
  const has = (sql: string) =>
    Effect.orDie(pg.query(sql)).pipe(
      Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (rows) => rows.length > 0 }),
      Effect.asVoid
    )
  const beside = Effect.andThen(
    write("UPDATE p SET v = v + 1 WHERE id = 1"),
    has("SELECT FROM pg_stat_replication WHERE sent_lsn >= pg_current_wal_insert_lsn()")
  )
  let armed = step.trigger === undefined
  const run = yield* SourceRun.start(name, mirror, {
    ...options,
    each: (element) => {
      if (!armed) return Effect.void
      if (step.beside === true && element._tag === "SnapshotChunk") return beside
      if (at?.(element, mirror) !== true) return Effect.void
      armed = false
      return Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(released))
    }
  })
  if (step.trigger !== undefined) {
    yield* run.caughtUp
    armed = true
    yield* block
    yield* Effect.forkScoped(Effect.ignore(step.trigger({ pg, name, mirror, write, run })))
  }
  const shown = step.shown?.(name)
  const there = shown === undefined ? Deferred.await(reached) : has(shown)
  yield* Effect.raceFirst(
    there,
    Effect.flatMap(run.failure, (error) => Effect.die(`ended before the step: ${error.message}`))
  ).pipe(Effect.timeout("20 seconds"), Effect.orDie)
  yield* churn(write)

  switch (fault) {
    case "cut":
      yield* run.stop
      break
    case "crash":
      yield* pg.kill
      yield* Deferred.succeed(released, undefined)
      assertRetryable(yield* run.failure)
      yield* run.stop
      yield* pg.restart()
      break
    case "sessions":
    case "walsender":
      assert.isAbove(yield* terminate(pg, fault), 0, "nothing was ended")
      yield* Deferred.succeed(released, undefined)
      if (step.survives === fault) {
        yield* unblock
        yield* run.caughtUp
      } else assertRetryable(yield* run.failure)
      yield* run.stop
      break
  }
  const kept = chunksOf(mirror)
  yield* unblock
  yield* churn(write)

  for (let attempt = 1;; attempt++) {
    const failed = yield* Effect.gen(function*() {
      const again = yield* SourceRun.start(name, mirror, { ...options, acknowledge: () => mirror.acknowledged })
      yield* churn(write)
      yield* again.caughtUp
      yield* churn(write)
      yield* again.caughtUp
      yield* again.stop
    }).pipe(Effect.scoped, Effect.match({ onFailure: (error) => error, onSuccess: () => undefined }))
    if (failed === undefined) break
    assertRetryable(failed)
    assert.isBelow(attempt, 4, failed.message)
  }
  assert.deepStrictEqual(yield* mirror.differences(pg), [])
  assert.deepStrictEqual(
    mirror.read.map(([table, chunk]) => `${table} ${chunk}`).filter((chunk) => kept.has(chunk)),
    [],
    "finished chunks are not copied again"
  )
  assert.deepStrictEqual(
    yield* pg.query(`SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE '${name}%'`),
    [{ slot_name: name }],
    "no other slot is left"
  )
  yield* SourceRun.released(pg, name)
  yield* pg.query(`SELECT pg_drop_replication_slot('${name}')`)
  yield* Effect.orDie(pg.query(`DROP PUBLICATION ${name}; DROP SCHEMA ${name} CASCADE`))
})

layer(Server, { excludeTestServices: true, timeout: 60_000 })("every row is there, once, after", (it) => {
  steps.forEach((step, index) => {
    for (const fault of step.faults) {
      it.effect(
        `${titles[fault]} ${step.title}`,
        () => Effect.scoped(scenario(step, fault, `step_${index}_${fault}`)),
        60_000
      )
    }
  })
})
