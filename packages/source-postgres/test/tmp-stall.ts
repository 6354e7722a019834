import * as Effect from "effect/Effect"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as ReplicationConnection from "../src/ReplicationConnection.ts"
import { readFileSync } from "node:fs"
await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const pg = yield* EmbeddedPostgres.start({ settings: { wal_sender_timeout: "2s" } })
  yield* pg.query(`CREATE TABLE t (id bigint PRIMARY KEY, note text)`)
  yield* pg.query(`CREATE PUBLICATION t FOR TABLE t`)
  yield* pg.query(`SELECT pg_create_logical_replication_slot('t', 'pgoutput')`)
  const c = yield* ReplicationConnection.connect({ host: pg.host, port: pg.port, user: pg.user, password: pg.password, database: pg.database, ssl: false })
  const s = yield* c.start({ slot: "t", publications: ["t"], acknowledged: () => 0n })
  yield* pg.query("INSERT INTO t VALUES (0, 'first')")
  yield* s.pull
  yield* pg.query("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 100000) g")
  for (let i = 0; i < 12; i++) {
    yield* Effect.sleep(1000)
    console.log(JSON.stringify(yield* pg.query("SELECT now() - backend_start as age, r.pid, s.active_pid, r.state, reply_time, now(), sent_lsn, wait_event FROM pg_stat_replication r left JOIN pg_replication_slots s ON s.active_pid = r.pid join pg_stat_activity a on a.pid = r.pid")))
  }
  console.log(readFileSync(pg.logFile, "utf8").slice(-1500))
})))
