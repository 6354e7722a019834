import { assert, layer } from "@effect/vitest"
import * as Opening from "@etl-stream/runner/database/Opening"
import * as Rows from "@etl-stream/runner/database/Rows"
import * as Tables from "@etl-stream/runner/database/Tables"
import * as FaultProxy from "@etl-stream/testkit/FaultProxy"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Database from "./DatabaseFixture.ts"
import { pipeline, problemOf, until } from "./DatabaseFixture.ts"

const schema = "etl_stream_config"

const flows = (run: Database.Run, name: string) =>
  Effect.suspend(() => {
    const before = run.lines(name, "change").length
    return until(() => run.lines(name, "change").length > before)
  })

const logged = (run: Database.Run, part: string) => run.logs.filter(({ message }) => message.includes(part))

/** The session that waits for a lock, which is the runner's look at a table that a test has locked. */
const waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
const lookWaits = (database: Database.Database) =>
  until(() => Effect.map(database.query(`SELECT pid ${waiting}`), (rows) => rows.length === 1))

const addTable = (name: string) =>
  `UPDATE ${schema}.sources SET options = options || '{"tables": ["numbers", "letters"]}' WHERE name = '${name}'`

layer(Database.Server.layer, { excludeTestServices: true })("trouble with the configuration database", (it) => {
  it.effect("leaves pipelines running while it can't be reached; what changed meanwhile takes effect afterwards", () =>
    Effect.gen(function*() {
      const server = yield* Database.Server
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("steady"), ...pipeline("changing")])
      const proxy = yield* FaultProxy.start(server)
      const url = database.url.replace(`:${server.port}/`, `:${proxy.port}/`)
      const run = yield* Database.run(database, { url })
      yield* flows(run, "changing")

      yield* proxy.refuse
      yield* until(() => logged(run, "The configuration database can't be reached").length > 0)
      yield* database.query(addTable("changing"))
      yield* flows(run, "changing")
      assert.deepStrictEqual([run.runs("changing"), run.runs("steady")], [1, 1])

      yield* proxy.resume
      yield* until(() => run.runs("changing") === 2)
      yield* until(() => logged(run, "A condition is over").length === 1)
      // Told once, however often it was tried.
      assert.strictEqual(logged(run, "Pipelines go on with the configuration that they have").length, 1)
      assert.notInclude(JSON.stringify(run.logs), server.password)

      // And it is followed as before.
      yield* database.query(`UPDATE ${schema}.pipelines SET status = 'PAUSE' WHERE name = 'changing'`)
      yield* until(() => !run.isRunning("changing"))
      assert.strictEqual(run.runs("steady"), 1)
    }))

  it.effect("that is silent is noticed when it is looked at, and connected to anew", () =>
    Effect.gen(function*() {
      const server = yield* Database.Server
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("steady"), ...pipeline("changing")])
      const proxy = yield* FaultProxy.start(server)
      const url = database.url.replace(`:${server.port}/`, `:${proxy.port}/`)
      const run = yield* Database.run(database, { url, poll: "100 millis", patience: "1 second" })
      yield* flows(run, "changing")
      const silences = () => logged(run, "The configuration database does not answer in time").length
      const before = silences()
      yield* proxy.stall
      yield* until(() => silences() > before)
      yield* database.query(addTable("changing"))
      yield* flows(run, "changing")
      yield* proxy.resume
      yield* until(() => run.runs("changing") === 2)
      yield* flows(run, "changing")
      assert.strictEqual(run.runs("steady"), 1)
    }))

  it.effect("that breaks the connection in the middle of a look is connected to anew", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("steady")])
      const run = yield* Database.run(database, { poll: "20 millis" })
      yield* flows(run, "steady")
      const sql = yield* database.client
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql.unsafe(`LOCK TABLE ${schema}.pipelines IN ACCESS EXCLUSIVE MODE`)
        yield* lookWaits(database)
        yield* database.query(`SELECT pg_terminate_backend(pid) ${waiting}`)
        yield* until(() => logged(run, "Pipelines go on with the configuration that they have").length === 1)
      })).pipe(Effect.orDie)
      yield* until(() => logged(run, "A condition is over").length === 1)
      yield* database.transaction(pipeline("added"))
      yield* flows(run, "added")
      assert.strictEqual(run.runs("steady"), 1)
    }))

  it.effect("that breaks the connection while a change is taken over loses nothing of the change", () =>
    Effect.gen(function*() {
      const server = yield* Database.Server
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("changing")])
      const proxy = yield* FaultProxy.start(server)
      const url = database.url.replace(`:${server.port}/`, `:${proxy.port}/`)
      const [begun, mayGoOn] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      let looks = 0
      let slow = false
      const taken = Effect.suspend(() => {
        looks++
        return slow ? Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(mayGoOn)) : Effect.void
      })
      const run = yield* Database.run(database, { url, taken })
      yield* flows(run, "changing")
      // The first look, which finds nothing new, isn't the one that is to be held.
      yield* until(() => looks > 0)
      slow = true
      yield* database.query(addTable("changing"))
      yield* Deferred.await(begun)
      const listening = database.query(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
      )
      assert.strictEqual((yield* listening).length, 1)
      yield* proxy.refuse
      yield* until(() => Effect.map(listening, (rows) => rows.length === 0))
      yield* flows(run, "changing")
      yield* Deferred.succeed(mayGoOn, undefined)
      yield* until(() => run.runs("changing") === 2)
      yield* proxy.resume
      yield* flows(run, "changing")
    }))

  it.effect("that is silent doesn't hold up the end of the process", () =>
    Effect.gen(function*() {
      const server = yield* Database.Server
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("steady")])
      const proxy = yield* FaultProxy.start(server)
      const url = database.url.replace(`:${server.port}/`, `:${proxy.port}/`)
      const sql = yield* database.client
      let stalledAt = 0
      yield* Effect.scoped(Effect.gen(function*() {
        const run = yield* Database.run(database, { url, poll: "20 millis", patience: "10 minutes" })
        yield* flows(run, "steady")
        // A look waits for its answer, which comes when the lock is gone, and gets no further than the proxy.
        yield* sql.withTransaction(Effect.gen(function*() {
          yield* sql.unsafe(`LOCK TABLE ${schema}.pipelines IN ACCESS EXCLUSIVE MODE`)
          yield* lookWaits(database)
          yield* proxy.stall
        })).pipe(Effect.orDie)
        stalledAt = performance.now()
      }))
      assert.isBelow(performance.now() - stalledAt, 15_000)
    }))

  it.effect("survives a restart of the server", () =>
    Effect.gen(function*() {
      const server = yield* Database.Server
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("steady")])
      const run = yield* Database.run(database)
      yield* flows(run, "steady")
      yield* server.stop
      yield* until(() => logged(run, "Pipelines go on").length > 0)
      yield* flows(run, "steady")
      yield* server.restart()
      yield* until(() => logged(run, "A condition is over").length > 0)
      yield* database.transaction(pipeline("added"))
      yield* flows(run, "added")
      assert.strictEqual(run.runs("steady"), 1)
    }))

  it.effect("is found by looking when no notification tells of a change", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("changing"), ...pipeline("steady")])
      const run = yield* Database.run(database, { poll: "100 millis" })
      yield* flows(run, "changing")
      yield* database.query(`ALTER TABLE ${schema}.sources DISABLE TRIGGER ALL`)
      yield* database.query(addTable("changing"))
      yield* until(() => run.runs("changing") === 2)
      yield* flows(run, "changing")
      assert.strictEqual(run.runs("steady"), 1)
    }))

  it.effect("looks at a storm of notifications together, and ends up with what came last", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("steady"), ...pipeline("stormy")])
      const run = yield* Database.run(database)
      yield* flows(run, "stormy")
      const begun = performance.now()
      for (let index = 1; index <= 300; index++) {
        yield* database.query(
          `UPDATE ${schema}.sources SET options = jsonb_set(options, '{rows}', to_jsonb($1::int)) WHERE name = 'stormy'`,
          index
        )
      }
      yield* database.query(`UPDATE ${schema}.pipelines SET status = 'PAUSE' WHERE name = 'stormy'`)
      yield* until(() =>
        run.supervisor.pipelines().some(({ activity, name }) => name === "stormy" && activity() === "paused")
      )
      assert.strictEqual(run.runs("steady"), 1)
      // Looks are 50 milliseconds apart: a slow machine makes them fewer.
      assert.isAtMost(logged(run, "The configuration has changed").length, (performance.now() - begun) / 45 + 2)
      assert.strictEqual(run.logs.filter(({ level }) => level === "Error").length, 0)
    }))

  it.effect("a pipeline that takes its time to drain holds up no other", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("slow", { sink: { slow: "1 hour" } }),
        ...pipeline("quick")
      ])
      const run = yield* Database.run(database, { drain: "10 minutes" })
      yield* until(() => run.lines("slow", "copied").length === 1)
      yield* database.transaction([`UPDATE ${schema}.pipelines SET status = 'PAUSE' WHERE name = 'slow'`])
      yield* until(() => logged(run, "The configuration has changed").length === 1)
      yield* database.query(addTable("quick"))
      yield* until(() => run.runs("quick") === 2)
      yield* database.transaction(pipeline("added"))
      yield* flows(run, "added")
      const slow = run.supervisor.pipelines().find(({ name }) => name === "slow")
      assert.strictEqual(slow?.activity(), "draining")
    }))

  it.effect("a pipeline under another name starts once it has stopped under the old one", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("old", { sink: { slow: "300 millis" } })])
      const run = yield* Database.run(database)
      yield* flows(run, "old")
      yield* database.query(`UPDATE ${schema}.pipelines SET name = 'new'`)
      yield* until(() => run.lines("old", "settled").length === 1)
      yield* flows(run, "old")
      const changes = run.lines("old", "change").map(({ n }) => Number(n))
      assert.deepStrictEqual(changes, changes.map((_, index) => 1002 + index))
      assert.deepStrictEqual(run.supervisor.pipelines().map(({ name }) => name), ["new"])
      assert.strictEqual(run.lines("old", "begin").length, 1)
    }))

  it.effect("a transaction is seen as a whole or not at all", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction(pipeline("pair"))
      const generations: Array<readonly [unknown, unknown]> = []
      const write = Effect.gen(function*() {
        for (let generation = 1; generation <= 300; generation++) {
          const json = `'{"generation": ${generation}}'`
          yield* database.transaction([
            `UPDATE ${schema}.sinks SET options = ${json}`,
            `UPDATE ${schema}.sources SET options = ${json}`
          ])
        }
      })
      const generationOf = (row: Rows.Row | undefined): unknown => {
        const value: unknown = row?.value
        const options: unknown = typeof value === "object" && value !== null ? Reflect.get(value, "options") : undefined
        return typeof options === "object" && options !== null ? Reflect.get(options, "generation") : undefined
      }
      const look = Effect.gen(function*() {
        const { rows } = yield* database.provide(Rows.read)
        generations.push([
          generationOf(rows.find(({ table }) => table === "sources")),
          generationOf(rows.find(({ table }) => table === "sinks"))
        ])
      })
      yield* Effect.raceFirst(write, Effect.forever(look))
      assert.isAbove(new Set(generations.map(([source]) => source)).size, 5)
      assert.deepStrictEqual(generations.filter(([source, sink]) => source !== sink), [])
    }))

  it.effect("a transaction that is open doesn't hold the run up, and counts once it is committed", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("steady"),
        ...pipeline("bad", { source: { rows: -1 } })
      ])
      const run = yield* Database.run(database)
      yield* flows(run, "steady")
      yield* until(() => Effect.map(problemOf(database, "sources", "bad"), (problem) => problem !== undefined))
      const sql = yield* database.client
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql.unsafe(`UPDATE ${schema}.sources SET options = options || '{"rows": 1}' WHERE name = 'bad'`)
        // The runner would write to the row that is held here.
        yield* database.transaction(pipeline("added"))
        yield* flows(run, "added")
        assert.isFalse(run.isRunning("bad"))
      })).pipe(Effect.orDie)
      yield* flows(run, "bad")
      yield* until(() => Effect.map(problemOf(database, "sources", "bad"), (problem) => problem === undefined))
    }))
})

layer(Database.Server.layer, { excludeTestServices: true })("the tables of the configuration database", (it) => {
  it.effect("are made once, however many start at the same time", () =>
    Effect.gen(function*() {
      const database = yield* Database.empty
      const url = Redacted.make(database.url)
      yield* Effect.forEach(
        Array.from({ length: 8 }),
        () => Opening.using(url, Effect.andThen(Tables.prepare, Rows.read)),
        { concurrency: "unbounded" }
      )
      const [row] = yield* database.query(`SELECT count(*)::int AS migrations FROM ${schema}.migrations`)
      assert.deepStrictEqual(row, { migrations: Tables.version })
      yield* database.provide(Tables.prepare)
    }))

  it.effect("are refused when a later version made them, also when it comes while pipelines run", () =>
    Effect.gen(function*() {
      const database = yield* Database.prepared
      yield* database.transaction([Database.memoryState, ...pipeline("steady")])
      const run = yield* Database.run(database, { poll: "100 millis" })
      yield* flows(run, "steady")
      yield* database.query(`INSERT INTO ${schema}.migrations (migration_id, name) VALUES (99, 'later')`)
      yield* until(() => logged(run, "made by a later etl-stream").length > 0)
      yield* flows(run, "steady")
      assert.strictEqual(run.runs("steady"), 1)
      const error = yield* Effect.flip(
        Opening.open(Redacted.make(database.url), { directory: run.directory, environment: {} })
      )
      assert.strictEqual(error.code, "Unsupported")
      assert.include(error.message, "its tables have version 99, this one knows up to 1")
    }))

  it.effect("serve a role that may do no more than the runner has to", () =>
    Effect.gen(function*() {
      const server = yield* Database.Server
      const database = yield* Database.prepared
      yield* database.transaction([
        Database.memoryState,
        ...pipeline("steady"),
        ...pipeline("bad", { source: { rows: -1 } })
      ])
      for (const statement of Database.runnerRole("runner", "the-password")) yield* database.query(statement)
      const url = server.urlOf({ user: "runner", password: "the-password", database: database.name })
      const run = yield* Database.run(database, { url })
      yield* flows(run, "steady")
      yield* until(() => Effect.map(problemOf(database, "sources", "bad"), (problem) => problem !== undefined))
      yield* database.transaction(pipeline("added"))
      yield* flows(run, "added")
      assert.strictEqual(logged(run, "can't be written back").length, 0)

      // Without the columns it goes on, and says so.
      for (const table of Tables.tables) {
        yield* database.query(`REVOKE UPDATE (problem, problem_at) ON ${schema}.${table} FROM runner`)
      }
      yield* database.transaction(pipeline("later", { source: { rows: -1 } }))
      yield* until(() => logged(run, "can't be written back").length === 1)
      yield* database.query(`UPDATE ${schema}.sources SET options = options || '{"rows": 1}' WHERE name = 'later'`)
      yield* flows(run, "later")
      yield* database.query(`REVOKE SELECT ON ALL TABLES IN SCHEMA ${schema} FROM runner`)
      yield* database.query(addTable("steady"))
      yield* until(() => logged(run, "The configuration database refuses").length > 0)
      yield* flows(run, "steady")
      assert.strictEqual(run.runs("steady"), 1)
    }))
})
