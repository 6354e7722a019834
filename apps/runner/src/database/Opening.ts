/**
 * What a run from the configuration database begins with: its tables made or brought up to date, and what they say.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { type CommandError, fromConnector, redacted } from "../CommandError.ts"
import * as Redaction from "../Redaction.ts"
import * as Connection from "./Connection.ts"
import * as Evaluation from "./Evaluation.ts"
import * as Rows from "./Rows.ts"
import * as Tables from "./Tables.ts"

/** What messages call the database: its URL may hold a password. */
export const databaseName = "the configuration database"

/** How long a command waits for the database, and for others who change it. */
const patience = Duration.minutes(1)

export interface Opened {
  readonly evaluation: Evaluation.Evaluation
  readonly initial: Evaluation.Evaluated
}

/** Reads the database at `url`; fails when it can't be read, or when its sections of the whole process are wrong. */
export const open = Effect.fn("Opening.open")(function*(
  url: Redacted.Redacted,
  options: Omit<Evaluation.Options, "name">
): Effect.fn.Return<Opened, CommandError> {
  const snapshot = yield* using(url, Effect.andThen(Tables.prepare, Rows.read))
  const evaluation = Evaluation.make({ ...options, name: databaseName })
  return { evaluation, initial: yield* evaluation.evaluate(snapshot, false) }
})

/** Runs `use` with a connection to the database at `url`. */
export const using = <A>(
  url: Redacted.Redacted,
  use: Effect.Effect<A, ConnectorError, SqlClient.SqlClient>
): Effect.Effect<A, CommandError> =>
  Connection.connect(url).pipe(
    Effect.flatMap((connection) =>
      Connection.answering(patience, connection)(Effect.provideService(use, SqlClient.SqlClient, connection.client))
    ),
    Effect.scoped,
    Effect.mapError((error) => redacted(fromConnector(undefined, error), Redaction.make(Redaction.secretsOf(url))))
  )
