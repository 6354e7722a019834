import * as Effect from "effect/Effect"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as Warehouse from "@etl-stream/testkit/Warehouse"
import * as Pipeline from "./Pipeline.ts"
import * as Shop from "./Shop.ts"
import * as Workload from "./Workload.ts"
import { fileURLToPath } from "node:url"
import { mkdirSync, rmSync } from "node:fs"
const folder = "/tmp/e2e-mine/f"
rmSync(folder, { recursive: true, force: true }); mkdirSync(folder)
await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const p = yield* EmbeddedPostgres.start()
  const size = Shop.sizeOf(Number(process.argv[2] ?? 30000))
  yield* Shop.create(p, size)
  const w = yield* Warehouse.start({ main: fileURLToPath(import.meta.resolve("@etl-stream/snowflake-local/main")), folder, args: ["--admin"] })
  const file = Pipeline.writeConfiguration(folder, w)
  const work = yield* Workload.start({ url: p.url, size, clerks: 2, pause: "15 millis", seed: 1 })
  const r = yield* Pipeline.run({ postgres: p, file, logFile: folder + "/runner.log" })
  const session = yield* w.session
  const m = { session, pipeline: "shop", database: "RAW", schema: "SHOP" }
  const show = Effect.gen(function*() {
    const log = yield* Effect.promise(async () => (await fetch(w.url + "/_local/statements")).json())
    if (!(log as any).entries && !(log as any).statements) console.log(JSON.stringify(log).slice(0,300))
    const es = ((log as any).statements ? {entries: (log as any).statements} : log as any).entries.filter((e: any) => e.durationMillis === null || e.durationMillis > 150)
    for (const e of es) console.log(e.startedAt % 1000000, e.sessionId.slice(-4), e.durationMillis, e.kind, e.code, e.sql.replace(/\s+/g, " ").slice(0, 160))
    console.log(Object.fromEntries(Object.entries((log as any).counts)))
    yield* Effect.promise(() => fetch(w.url + "/_local/statements", { method: "DELETE" }))
  })
  for (let i = 0; i < Number(process.argv[3] ?? 4); i++) {
    yield* Effect.sleep("10 seconds")
    console.log("----", i, r.output().trimEnd().split("\n").at(-1)?.slice(25, 330))
    yield* show
  }
  yield* work.pause
  console.log(work.counts())
})))
