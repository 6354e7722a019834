/**
 * The ingest host that takes every row and keeps none (`client/nullIngest.ts`), and what can be asked of it.
 */
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as path from "node:path"
import { ClientError, clientError } from "./Measurement.ts"

const Last = Schema.Struct({ at: Schema.Finite, offset: Schema.String, told: Schema.Finite })
const times = Schema.Array(Schema.Finite)
const Told = Schema.Struct({ committed: times, at: times })

export interface NullIngest {
  /** Host and port. */
  readonly host: string
  /** When the last rows came (milliseconds since 1970), up to which offset, and of how many the sink was told that they are committed (with `looksInto`). */
  readonly last: Effect.Effect<typeof Last.Type, ClientError>
  /** Of each row: its commit time, and when the sink was told that it is committed; milliseconds since 1970, in the order in which that happened. */
  readonly told: Effect.Effect<typeof Told.Type, ClientError>
}

/** `looksInto`: whether rows are looked into for their commit times. */
export const start = Effect.fnUntraced(function*(
  options: { readonly looksInto: boolean }
): Effect.fn.Return<NullIngest, ClientError, Scope.Scope> {
  const child = yield* Effect.mapError(
    ChildProcess.start({
      name: "the ingest host",
      command: process.execPath,
      args: [path.join(import.meta.dirname, "client", "nullIngest.ts"), JSON.stringify(options)]
    }),
    clientError
  )
  const [, port] = yield* Effect.mapError(child.waitFor(/ready (\d+)/), clientError)
  const host = `127.0.0.1:${port}`
  const ask = <A>(what: string, schema: Schema.ConstraintDecoder<A>) =>
    Effect.tryPromise({
      try: async () => Schema.decodeUnknownSync(schema)(await (await fetch(`http://${host}/${what}`)).json()),
      catch: (cause) => new ClientError({ message: `the ingest host: ${String(cause)}` })
    })
  return { host, last: ask("last", Last), told: ask("told", Told) }
})
