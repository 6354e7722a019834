/**
 * The sink's own stores of dead letters keep the contract of those stores.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as Conformance from "@etl-stream/testkit/Conformance"
import * as DeadLetterStoreConformance from "@etl-stream/testkit/DeadLetterStoreConformance"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describe, it } from "vitest"
import * as DeadLetterReplay from "../src/DeadLetterReplay.ts"
import { plugin as sinkName } from "../src/ErrorPolicy.ts"
import * as Local from "./Local.ts"

const Config = Schema.Struct({
  server: Schema.String,
  kept: Schema.Literals(["table", "ndjson", "parquet"]),
  limit: Schema.Int
})

/** Servers by their URLs. */
const servers = new Map<string, Local.Local>()

const suiteOf = (kept: typeof Config.Type["kept"]) =>
  DeadLetterStoreConformance.make({
    plugin: Plugin.deadLetters({
      name: `${sinkName} (${kept})`,
      version: "0.1.0",
      summary: "The store that the sink's options name",
      config: Config,
      make: Effect.fnUntraced(function*({ limit, server }, { pipeline }) {
        const local = servers.get(server)
        if (local === undefined) return yield* Effect.die(`no server ${server}`)
        const deadLetters = kept === "table" ? { table: true, limit } : { directory: "letters", format: kept, limit }
        const context = { pipeline, directory: local.directory }
        const letters = yield* DeadLetterReplay.make(local.config({ deadLetters }), context)
        return letters === undefined ? yield* Effect.die("no dead letters") : letters.store
      })
    }),
    prepare: Effect.gen(function*() {
      const local = yield* Effect.acquireRelease(
        Effect.tap(Local.start(), (local) => Effect.sync(() => servers.set(local.url, local))),
        ({ url }) => Effect.sync(() => servers.delete(url))
      )
      // As the sink makes it before anything else.
      yield* local.query("CREATE SCHEMA IF NOT EXISTS RAW.ETL_STREAM")
      const limited = (limit: number) => ({ server: local.url, kept, limit })
      return { options: limited(10_000), limited }
    }),
    cannot: {
      gone: "the SQL client has a patience of its own, with tests of its own",
      bounded: "the server is in this process"
    },
    valid: { server: "a", kept, limit: 1 },
    refused: [],
    timeout: "2 minutes"
  })

// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register([suiteOf("table"), suiteOf("ndjson"), suiteOf("parquet")], {
  describe,
  it: (name, run) => it(`${name}`, run, 150_000),
  skip: it.skip
})
