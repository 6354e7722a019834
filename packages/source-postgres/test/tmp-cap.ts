import * as Effect from "effect/Effect"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as ReplicationConnection from "../src/ReplicationConnection.ts"
import { writeFileSync, appendFileSync } from "node:fs"
const N = 200000
await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const pg = yield* EmbeddedPostgres.start()
  yield* pg.query(`create table t (id bigint primary key, a int, amount numeric(12,2), note text, at timestamptz, doc jsonb, ok bool, u uuid)`)
  yield* pg.query(`create publication p for all tables`)
  yield* pg.query(`select pg_create_logical_replication_slot('s','pgoutput')`)
  yield* pg.query(`insert into t select g, g%1000, g/100.0, 'note of forty characters or so number '||g, now() + g * interval '1 second', jsonb_build_object('k', g, 'text', repeat('x', 80)), g%2=0, gen_random_uuid() from generate_series(1,${N}) g`)
  for (const binary of [false, true]) {
  const file = `/tmp/hot/cap-${binary}.bin`
  writeFileSync(file, "")
  yield* Effect.scoped(Effect.gen(function*() {
    const c = yield* ReplicationConnection.connect({ connectionString: pg.url } as any)
    const s = yield* c.start({ slot: "s", publications: ["p"], binary, acknowledged: () => 0n })
    let n = 0
    for (;;) {
      const f = yield* s.pull
      appendFileSync(file, f.bytes.subarray(f.start, f.end)); n += f.end - f.start
      // commit present?
      const tail = Buffer.from(f.bytes.buffer, f.bytes.byteOffset + f.start, f.end - f.start)
      if (n > 30e6 && tail.includes(Buffer.from([0x43, 0]), Math.max(0, tail.length - 300))) break
    }
  }))
  }
})))
