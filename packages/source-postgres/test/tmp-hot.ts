import * as Effect from "effect/Effect"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as ReplicationConnection from "/work/main/packages/source-postgres/src/ReplicationConnection.ts"
import * as PgOutputDecoder from "/work/main/packages/source-postgres/src/PgOutputDecoder.ts"
import * as PostgresType from "/work/main/packages/source-postgres/src/PostgresType.ts"
import { performance } from "node:perf_hooks"
import { execFileSync, spawn } from "node:child_process"

const N = Number(process.argv[2] ?? 1000)
const program = Effect.gen(function*() {
  const pg = yield* EmbeddedPostgres.start()
  yield* pg.query(`create table t (id bigint primary key, a int, amount numeric(12,2), note text, at timestamptz, doc jsonb, ok bool, u uuid)`)
  yield* pg.query(`create publication p for all tables`)
  yield* pg.query(`select pg_create_logical_replication_slot('s','pgoutput')`)
  yield* pg.query(`select pg_create_logical_replication_slot(n,'pgoutput') from unnest('{r1,r2,r3}'::text[]) n`)
  yield* pg.query(`insert into t select g, g%1000, g/100.0, 'note of forty characters or so number '||g, now() + g * interval '1 second', jsonb_build_object('k', g, 'text', repeat('x', 80)), g%2=0, gen_random_uuid() from generate_series(1,${N}) g`)
  const [{ lsn }] = (yield* pg.query(`select pg_current_wal_lsn()::text as lsn`)) as any
  console.log("lsn", lsn)
  const [hi, lo] = lsn.split("/"); const target = (BigInt("0x" + hi) << 32n) | BigInt("0x" + lo)
  const recv = (slot: string) => { const t = performance.now(); const c0 = process.resourceUsage(); execFileSync("/usr/bin/bash", ["-c", `time /usr/bin/pg_recvlogical -d "$0" -S ${slot} --start -f /dev/null -o proto_version=1 -o publication_names=p --endpos ${lsn} --no-loop`, pg.url], { stdio: "inherit" }); console.log("pg_recvlogical ms", performance.now() - t) }
  let round = 0
  for (const mode of ["text", "binary", "text", "binary"] as const) {
    if (round++ < 3) recv("r" + round)
    let ack = 0n
    const c0 = process.cpuUsage(); const t0 = performance.now()
    const out = yield* Effect.scoped(Effect.gen(function*() {
      const c = yield* ReplicationConnection.connect({ connectionString: pg.url } as any)
      const s = yield* c.start({ slot: "s", publications: ["p"], messages: true, binary: mode === "binary", acknowledged: () => 0n })
      const d = PgOutputDecoder.make({
        tables: [], copied: new Map(),
        resolveRelation: (r) => ({ table: { schema: r.schema, name: r.name }, version: 1, identity: { _tag: "Key", columns: [0] },
          columns: r.columns.map((c) => { const t = PostgresType.resolve(PostgresType.emptyCatalog, c.typeOid, c.typmod); return { name: c.name, type: t.type, sourceType: t.sourceType, nullable: true } }) })
      })
      let rows = 0, pulls = 0, elements = 0, dt = 0, bytes = 0, last: any
      for (;;) {
        const f = yield* s.pull
        pulls++
        bytes += f.end - f.start
        const a = performance.now()
        const es = yield* d.decode(f)
        dt += performance.now() - a
        let done = false
        for (const e of es) { elements++; if (e._tag === "Rows") { rows += e.batch.rows; last = e.batch } else if (e._tag === "Watermark" && e.position >= target) done = true }
        if (done) break
      }
      if (N <= 5) console.log(last.records.toArray().map((r: any) => r.toJSON()))
      return { rows, pulls, elements, decodeMs: dt, bytes }
    }))
    const cpu = process.cpuUsage(c0)
    
    console.log(mode, JSON.stringify(out), "ms", performance.now() - t0, "cpu", (cpu.user + cpu.system) / 1000, "krow/s", out.rows / (performance.now() - t0), "decode krow/s", out.rows / out.decodeMs)
    
  }
  console.log(yield* pg.query("select slot_name, active, confirmed_flush_lsn from pg_replication_slots"))
})
await Effect.runPromise(Effect.scoped(program))
