/**
 * Many pipelines of one process through a bad time: one warehouse goes down, a column gets a bad type, a pipeline is paused, one is added, Redis is killed and
 * comes back empty. What isn't concerned stays fresh and is not touched, people are told of what is and of nothing else, once, and in the end every table is equal.
 *
 * Three PostgreSQL servers, one more for the configuration, two warehouses, ten pipelines and one more. The warehouse is down for 35 seconds;
 * `ETL_STREAM_OUTAGE_SECONDS=120` makes it as long as a real outage.
 */
import { assert, beforeAll, it } from "@effect/vitest"
import { Pipelines, type Summary } from "@etl-stream/runner/api/Model"
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as HttpReceiver from "@etl-stream/testkit/HttpReceiver"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as RedisServer from "@etl-stream/testkit/RedisServer"
import * as RowComparison from "@etl-stream/testkit/RowComparison"
import * as Warehouse from "@etl-stream/testkit/Warehouse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { mkdirSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import * as Landscape from "./Landscape.ts"

const outage = Duration.seconds(Number(process.env["ETL_STREAM_OUTAGE_SECONDS"] ?? 35))

/**
 * Seconds that a healthy pipeline's rows may take. Five hold where nothing else runs (`ETL_STREAM_FRESH_SECONDS=5`); beside other tests on two processors more is allowed, still less than what is
 * down is down.
 */
const freshEnough = Number(process.env["ETL_STREAM_FRESH_SECONDS"] ?? 30)

/** Of each server a table with a key and one without. */
const tables = {
  shop: { keyed: "orders", keyless: "order_lines" },
  crm: { keyed: "customers", keyless: "visits" },
  stock: { keyed: "parts", keyless: "moves" }
} as const
type SourceName = keyof typeof tables
const sourceNames = ["shop", "crm", "stock"] as const

const tablesOf = (source: SourceName): ReadonlyArray<string> => [tables[source].keyed, tables[source].keyless]

interface Placed {
  readonly source: SourceName
  readonly warehouse: "north" | "south"
  readonly schema: string
}

/** The pipelines by name. */
const places = {
  shop_raw: { source: "shop", warehouse: "north", schema: "RAW" },
  shop_mart: { source: "shop", warehouse: "north", schema: "MART" },
  shop_lake: { source: "shop", warehouse: "north", schema: "LAKE" },
  stock_raw: { source: "stock", warehouse: "north", schema: "RAW" },
  stock_mart: { source: "stock", warehouse: "north", schema: "MART" },
  stock_lake: { source: "stock", warehouse: "north", schema: "LAKE" },
  shop_south: { source: "shop", warehouse: "south", schema: "RAW" },
  crm_south: { source: "crm", warehouse: "south", schema: "RAW" },
  crm_south_mart: { source: "crm", warehouse: "south", schema: "MART" },
  crm_south_lake: { source: "crm", warehouse: "south", schema: "LAKE" },
  crm_raw: { source: "crm", warehouse: "north", schema: "RAW" }
} as const satisfies Readonly<Record<string, Placed>>

const entries: ReadonlyArray<readonly [name: string, place: Placed]> = Object.entries(places)
/** Is added while others run. */
const added = "crm_raw"
const first = entries.map(([name]) => name).filter((name) => name !== added)
const paused = "shop_lake"
const southern = entries.filter(([, { warehouse }]) => warehouse === "south").map(([name]) => name)
/** Those whose source has the column with the bad type. */
const stocking = entries.filter(([, { source }]) => source === "stock").map(([name]) => name)
const others = ["shop_raw", "shop_mart"]

/** Alerts that are to be told, and to be over in the end. */
const quarantines = stocking.map((name) => `table-quarantined ${name} public.parts`)
/**
 * What is told of an outage depends on what each pipeline was doing: one that was writing tries for two minutes by itself and grows stale, one that was merging
 * fails, and failures open the circuit of all. Something of it is told about each. A failed pipeline counts as mended after a minute of work, which
 * isn't waited for.
 */
const outagesOf = (name: string): ReadonlyArray<string> => [`freshness ${name}`, `sink-circuit-open ${name}`]
const failureOf = (name: string): string => `pipeline-failed ${name}`
/** What may be told: a pipeline that was paused is behind until it has caught up. */
const possible = [`freshness ${paused}`, ...southern.flatMap((name) => [...outagesOf(name), failureOf(name)])]

const sinkOf = ({ schema, warehouse }: Placed): string => `${warehouse}_${schema.toLowerCase()}`

const Alert = Schema.Struct({
  type: Schema.String,
  status: Schema.String,
  pipeline: Schema.NullOr(Schema.String),
  table: Schema.NullOr(Schema.String)
})
const decodeAlert = Schema.decodeUnknownSync(Schema.fromJsonString(Alert))

const prepare = (postgres: EmbeddedPostgres.EmbeddedPostgres, source: SourceName) => {
  const { keyed, keyless } = tables[source]
  return postgres.query(
    `CREATE TABLE ${keyed} (id int PRIMARY KEY, amount int, note text);
     CREATE TABLE ${keyless} (ref int, amount numeric(12, 2), at timestamptz);
     ALTER TABLE ${keyless} REPLICA IDENTITY FULL;
     INSERT INTO ${keyed} SELECT i, i, 'note ' || i FROM generate_series(1, 1000) i;
     INSERT INTO ${keyless} SELECT i % 50, i / 4.0, '2026-01-01' FROM generate_series(1, 500) i`
  )
}

/** A transaction with changes of every kind; `n` makes them differ. It doesn't mind whether `amount` is a number or text. */
const change = (postgres: EmbeddedPostgres.EmbeddedPostgres, source: SourceName, n: number) => {
  const { keyed, keyless } = tables[source]
  return postgres.query(
    `INSERT INTO ${keyed} VALUES (${10_000 + n}, '${n}', 'new');
     UPDATE ${keyed} SET note = 'change ' || ${n} WHERE id % 100 = ${n % 100};
     UPDATE ${keyed} SET id = -id WHERE id = ${2 * n};
     DELETE FROM ${keyed} WHERE id = ${10_000 + n - 20};
     INSERT INTO ${keyless} SELECT ${n}, ${n}, now() FROM generate_series(1, 3);
     UPDATE ${keyless} SET amount = amount + 1 WHERE ref = ${n - 5};
     DELETE FROM ${keyless} WHERE ref = ${n - 20}`
  )
}

const servers = Effect.gen(function*() {
  const folder = yield* Landscape.temporaryFolder
  const warehouse = (name: string) => {
    mkdirSync(path.join(folder, name))
    return Warehouse.start({
      main: Landscape.serverMain,
      folder: path.join(folder, name),
      // Nobody is killed while it holds a lock, and a busy machine may keep a client from going on.
      abandonedAfterMillis: 30_000
    })
  }
  return {
    folder,
    postgres: yield* Effect.all(
      {
        shop: EmbeddedPostgres.start(),
        crm: EmbeddedPostgres.start(),
        stock: EmbeddedPostgres.start(),
        configuration: EmbeddedPostgres.start()
      },
      { concurrency: 4 }
    ),
    warehouses: yield* Effect.all({ north: warehouse("north"), south: warehouse("south") }, { concurrency: 2 }),
    redis: yield* RedisServer.start(),
    receiver: yield* HttpReceiver.start
  }
})

const configuration = (warehouses: Readonly<Record<Placed["warehouse"], Warehouse.Warehouse>>) => {
  const named = (place: Placed) => {
    const { account, database, privateKeyFile, role, url, user, warehouse } = warehouses[place.warehouse]
    return [sinkOf(place), {
      plugin: "@etl-stream/sink-snowflake",
      options: {
        account,
        url,
        user,
        auth: { privateKeyFile },
        role,
        warehouse,
        database,
        schema: place.schema,
        merge: { every: "3 seconds" },
        schemaEvolution: { incompatible: "quarantine" }
      }
    }] as const
  }
  return {
    apiVersion: 1,
    state: { plugin: "@etl-stream/state-redis", options: { url: "${env:REDIS_URL}", timeout: "1 second" } },
    http: { port: 0 },
    notifiers: {
      ops: {
        plugin: "@etl-stream/notifiers:webhook",
        options: { url: "${env:WEBHOOK_URL}", rate: "1000 per second" }
      }
    },
    alerts: [
      // Whatever needs somebody: what nobody expected, too.
      { when: "condition", recoverAfter: "5 seconds", to: ["ops"] },
      // What begins anew, after a pause or because of a column's new type, takes a moment.
      { when: "freshness > 20 seconds", for: "12 seconds", recoverAfter: "5 seconds", to: ["ops"] },
      // The runs that a column's new type ends are no failures.
      {
        when: "pipeline-failed",
        for: "5 seconds",
        to: ["ops"],
        pipelines: first.filter((name) => !stocking.includes(name))
      }
    ],
    sources: Object.fromEntries(sourceNames.map((name) => [name, {
      plugin: "@etl-stream/source-postgres",
      options: { url: `\${env:${name.toUpperCase()}_URL}`, tables: ["public.*"] }
    }])),
    sinks: Object.fromEntries(entries.map(([, place]) => named(place))),
    pipelines: Object.fromEntries(
      entries.filter(([name]) => name !== added).map(([name, place]) => [name, {
        source: place.source,
        sink: sinkOf(place)
      }])
    )
  }
}

/** How old a pipeline's rows were, at most, and how often it was looked at. */
interface Watched {
  oldest: number
  looks: number
}

beforeAll(() => Effect.runPromise(RedisServer.installed), 600_000)

it.live(
  "a bad time concerns the pipelines that it is about and no others, is told once, and leaves nothing lost or doubled",
  () =>
    Effect.gen(function*() {
      const { folder, postgres, receiver, redis, warehouses } = yield* servers
      const env = {
        CONFIG_DB: postgres.configuration.url,
        REDIS_URL: redis.url,
        WEBHOOK_URL: `${receiver.url}/alerts`,
        SHOP_URL: postgres.shop.url,
        CRM_URL: postgres.crm.url,
        STOCK_URL: postgres.stock.url
      }
      const command = (name: string, ...args: ReadonlyArray<string>) =>
        ChildProcess.start({
          name,
          command: process.execPath,
          args: [Landscape.command, ...args, "--config-db", "${env:CONFIG_DB}"],
          cwd: folder,
          env,
          logFile: path.join(folder, "runner.log")
        })
      for (const source of sourceNames) yield* prepare(postgres[source], source)
      const file = path.join(folder, "landscape.yaml")
      writeFileSync(file, JSON.stringify(configuration(warehouses)))
      const applied = yield* command("etl-stream apply", "apply", file)
      assert.strictEqual((yield* applied.ended()).code, 0, applied.output())

      let n = 0
      let busy = true
      const working = yield* Effect.forEach(sourceNames, (source) => change(postgres[source], source, n), {
        concurrency: 3,
        discard: true
      }).pipe(
        Effect.tap(() => Effect.sync(() => n++)),
        Effect.repeat({ schedule: Schedule.spaced("500 millis"), while: () => busy }),
        Effect.forkScoped
      )
      const runner = yield* command("the runner", "run")
      const [, url = ""] = yield* runner.waitFor(/The HTTP API is served.* url=(\S+)/)
      const ask = <S extends Schema.Decoder<unknown>>(schema: S, place: string, body?: object) =>
        Effect.tryPromise(async () => {
          const answer = await fetch(
            `${url}${place}`,
            body === undefined
              ? {}
              : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }
          )
          if (!answer.ok) throw new Error(`${place}: ${answer.status} ${await answer.text()}`)
          return Schema.decodeUnknownSync(Schema.fromJsonString(schema))(await answer.text())
        })
      const all = Effect.map(ask(Pipelines, "/v1/pipelines"), ({ pipelines }) => pipelines)
      const told = () =>
        receiver.requests.map(({ body }) => decodeAlert(body)).map(({ pipeline, status, table, type }) =>
          [status, type, pipeline ?? "-", ...(table === null ? [] : [table])].join(" ")
        )
      /** Waits until something is so, and says what it waited for when it doesn't come. */
      const until = <E>(what: string, condition: Effect.Effect<boolean, E>, seconds = 60) =>
        condition.pipe(
          Effect.repeat({ schedule: Schedule.spaced("100 millis"), until: (holds) => holds }),
          Effect.timeout(Duration.seconds(seconds)),
          Effect.catchTag("TimeoutError", () =>
            Effect.flatMap(Effect.option(all), (now) =>
              Effect.die(
                new Error(
                  `In ${seconds} s it did not come that ${what}.\n${told().join("\n")}\n${JSON.stringify(now)}\n${
                    runner.output().slice(-20_000)
                  }`
                )
              )))
        )
      const allOf = (names: ReadonlyArray<string>, is: (pipeline: Summary) => boolean) =>
        Effect.map(all, (pipelines) =>
          names.every((name) => pipelines.some((pipeline) => pipeline.name === name && is(pipeline))))
      const streams = ({ activity, tablesByPhase }: Summary) =>
        activity === "streaming" && tablesByPhase["streaming"] === 2
      const areTold = (...alerts: ReadonlyArray<string>) =>
        until(
          `${alerts.join(", ")} are told`,
          Effect.sync(() =>
            alerts.every((alert) => told().includes(alert))
          ),
          120
        )
      const configure = postgres.configuration.query

      const isFresh = (pipeline: Summary) =>
        streams(pipeline) && (pipeline.freshnessSeconds ?? freshEnough) < freshEnough / 2
      yield* until("all pipelines stream", allOf(first, streams), 90)
      yield* until("nothing of the copies is left to be written", allOf(others, isFresh))
      const healthy = new Map<string, Watched>()
      const watch = (names: ReadonlyArray<string>) => {
        for (const name of names) healthy.set(name, { oldest: 0, looks: 0 })
      }
      watch(others)
      const watching = yield* Effect.map(all, (pipelines) => {
        for (const { freshnessSeconds, name } of pipelines) {
          const watched = healthy.get(name)
          if (watched === undefined) continue
          watched.looks++
          watched.oldest = Math.max(watched.oldest, freshnessSeconds ?? 0)
        }
      }).pipe(Effect.repeat({ schedule: Schedule.spaced("1 second"), while: () => busy }), Effect.forkScoped)

      const scenario = Effect.gen(function*() {
        yield* warehouses.south.kill
        const over = yield* Effect.forkScoped(Effect.sleep(outage))
        yield* postgres.stock.query("ALTER TABLE parts ALTER COLUMN amount TYPE text USING amount || ' pieces'")
        yield* areTold(...quarantines.map((alert) => `firing ${alert}`))

        yield* configure(`UPDATE etl_stream_config.pipelines SET status = 'PAUSE' WHERE name = '${paused}'`)
        yield* until(`${paused} is paused`, allOf([paused], ({ activity }) => activity === "paused"))
        yield* configure(
          `INSERT INTO etl_stream_config.pipelines (name, source, sink)
         VALUES ('${added}', '${places[added].source}', '${sinkOf(places[added])}')`
        )
        yield* until(`${added} streams`, allOf([added], isFresh))
        watch([added])

        yield* until(
          "people are told of the outage of each pipeline",
          Effect.sync(() =>
            southern.every((name) =>
              [...outagesOf(name), failureOf(name)].some((alert) => told().includes(`firing ${alert}`))
            )
          ),
          120
        )
        yield* redis.kill
        yield* redis.restart()
        yield* until(
          "Redis is used again",
          Effect.map(redis.command("HLEN", "{etl-stream}:state"), (fields) => Number(fields) > 0)
        )
        assert.isTrue(yield* allOf([paused], ({ activity }) => activity === "paused"))

        yield* Fiber.join(over)
        yield* warehouses.south.restart
        yield* postgres.stock.query(
          "ALTER TABLE parts ALTER COLUMN amount TYPE int USING split_part(amount, ' ', 1)::int"
        )
        for (const name of stocking) {
          yield* ask(Schema.Unknown, `/v1/pipelines/${name}/resync`, { tables: ["public.parts"] })
        }
        yield* configure(`UPDATE etl_stream_config.pipelines SET status = 'START' WHERE name = '${paused}'`)
        yield* until("all pipelines stream again", allOf(Object.keys(places), streams), 120)
        yield* until(
          "all of it is over",
          Effect.sync(() =>
            [...quarantines, ...southern.flatMap(outagesOf)].every((alert) =>
              told().includes(`resolved ${alert}`) || !told().includes(`firing ${alert}`)
            )
          ),
          120
        )
      })
      // Both go on until they are told to stop, unless they fail.
      yield* Effect.raceAllFirst([
        scenario,
        Effect.andThen(Fiber.join(working), Effect.never),
        Effect.andThen(Fiber.join(watching), Effect.never)
      ])
      busy = false
      yield* Fiber.join(working)
      yield* Fiber.join(watching)

      for (const warehouse of ["north", "south"] as const) {
        const session = yield* warehouses[warehouse].session
        const mirrors = entries.filter(([, place]) => place.warehouse === warehouse).map((
          [name, { schema, source }]
        ) => ({
          name,
          source,
          mirror: { session, pipeline: name, database: warehouses[warehouse].database, schema }
        }))
        yield* Effect.forEach(
          mirrors,
          ({ mirror, name, source }) =>
            MirrorState.caughtUp({ postgres: postgres[source], slot: name, mirror, tables: tablesOf(source) }),
          {
            concurrency: "unbounded",
            discard: true
          }
        )
        for (const { mirror, name, source } of mirrors) {
          const compared = yield* RowComparison.compare({
            postgres: postgres[source].url,
            snowflake: session,
            tables: tablesOf(source).map((table) => ({
              source: { schema: "public", name: table },
              target: { database: mirror.database, schema: mirror.schema, name: RowComparison.warehouseName(table) }
            }))
          })
          for (const comparison of compared) {
            assert.isAbove(comparison.rows, 0)
            assert.isTrue(RowComparison.isSame(comparison), `${name}: ${JSON.stringify(comparison, undefined, 2)}`)
          }
          for (const table of tablesOf(source)) {
            assert.strictEqual((yield* MirrorState.journalState(mirror, table)).duplicates, 0, `${name}: ${table}`)
          }
        }
      }

      for (const [name, { looks, oldest }] of healthy) {
        assert.isAbove(looks, 0, name)
        assert.isBelow(oldest, freshEnough, name)
      }
      for (const { name, run } of yield* all) if (others.includes(name)) assert.strictEqual(run, 1, name)
      const may = new Set(possible.flatMap((alert) => [`firing ${alert}`, `resolved ${alert}`]))
      assert.deepStrictEqual(
        told().filter((alert) => !may.has(alert)).toSorted(),
        quarantines.flatMap((alert) => [`firing ${alert}`, `resolved ${alert}`]).toSorted()
      )
      const repeated = told().filter((alert, index, all) => all.indexOf(alert) !== index)
      assert.deepStrictEqual(repeated, [], "told twice")
      const ended = yield* runner.kill("SIGTERM")
      assert.strictEqual(ended.code, 0, runner.output())
    }),
  400_000
)
