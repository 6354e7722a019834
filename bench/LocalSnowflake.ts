/**
 * `snowflake-local` for the runner of a bench, which can be put back to where it was: each round then begins with the same tables, and with none of the rows.
 */
import * as Warehouse from "@etl-stream/testkit/Warehouse"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { ClientError, clientError } from "./Measurement.ts"

const main = fileURLToPath(import.meta.resolve("@etl-stream/snowflake-local/main"))

export interface LocalSnowflake {
  readonly warehouse: Warehouse.Warehouse
  /** Where it keeps everything; a runner's state is kept there, too, so that both are put back together. */
  readonly folder: string
  /** Remembers what there is. Nothing else may use it meanwhile. */
  readonly save: Effect.Effect<void, ClientError>
  /** Makes everything as it was remembered, with a server that has just started. */
  readonly restore: Effect.Effect<void, ClientError>
}

/** `ingestHost`: who takes streamed rows in its place. */
export const start = Effect.fnUntraced(function*(
  ingestHost?: string
): Effect.fn.Return<LocalSnowflake, ClientError, Scope.Scope> {
  const home = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(path.join(tmpdir(), "etl-stream-bench-"))),
    (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true, maxRetries: 3 }))
  )
  const [folder, saved] = [path.join(home, "now"), path.join(home, "saved")]
  mkdirSync(folder)
  const args = ingestHost === undefined ? [] : ["--ingest-host", ingestHost]
  const warehouse = yield* Effect.mapError(
    Warehouse.start({ main, folder, args, threads: availableParallelism() }),
    clientError
  )
  const stopped = (change: () => void) =>
    Effect.mapError(
      warehouse.kill.pipe(Effect.andThen(Effect.sync(change)), Effect.andThen(warehouse.restart)),
      clientError
    )
  const copy = (from: string, to: string) => () => {
    rmSync(to, { recursive: true, force: true, maxRetries: 3 })
    cpSync(from, to, { recursive: true, preserveTimestamps: true })
  }
  return { warehouse, folder, save: stopped(copy(folder, saved)), restore: stopped(copy(saved, folder)) }
})

/** A question that one row answers, as numbers. */
export type Ask = (sql: string) => Effect.Effect<ReadonlyArray<number>, ClientError>

/** A session of the driver; `restore` ends it. */
export const session = ({ warehouse }: LocalSnowflake): Effect.Effect<Ask, ClientError, Scope.Scope> =>
  Effect.map(
    Effect.mapError(warehouse.session, clientError),
    (session) => (sql) =>
      Effect.mapError(session.query(sql), clientError).pipe(
        Effect.flatMap(([row]) =>
          row === undefined
            ? Effect.fail(new ClientError({ message: `no answer to: ${sql}` }))
            : Effect.succeed(row.map(Number))
        )
      )
  )
