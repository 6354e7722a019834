/**
 * What a check of assumptions is: ids of `docs/assumptions.md`, and an effect that fails when they don't hold.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Config } from "../../src/Config.ts"
import { qualified } from "../../src/Identifier.ts"
import type { Result, SqlClient } from "../../src/SqlClient.ts"
import type { StreamingClient } from "../../src/StreamingClient.ts"
import type { StreamingFailure } from "../../src/StreamingTransport.ts"
import type { ObjectName } from "../../src/TableLayout.ts"

/** The account behaves otherwise than assumed. */
export class Differs extends Schema.TaggedError<Differs>("etl-stream/verify/Differs")("Differs", {
  message: Schema.String
}) {}

export type Failure = Differs | ConnectorError.ConnectorError | StreamingFailure

export interface Context {
  readonly config: Config
  readonly directory: string
  readonly database: string
  /** The schema that this run has made, and drops. */
  readonly schema: string
  readonly sql: SqlClient
  readonly streaming: StreamingClient
}

export interface Check {
  readonly ids: ReadonlyArray<string>
  readonly title: string
  readonly run: (context: Context) => Effect.Effect<void, Failure, Scope.Scope>
}

export const expect = (holds: boolean, otherwise: string): Effect.Effect<void, Differs> =>
  holds ? Effect.void : Effect.fail(new Differs({ message: otherwise }))

/** `actual` and `expected` as JSON. */
export const same = (actual: unknown, expected: unknown, what: string): Effect.Effect<void, Differs> =>
  expect(
    JSON.stringify(actual) === JSON.stringify(expected),
    `${what}: ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`
  )

export const execute = ({ sql }: Context, text: string, binds?: ReadonlyArray<string>) =>
  sql.execute({ what: "Checking", sql: text, ...(binds === undefined ? {} : { binds }) })

/** The first column of the first row, as text. */
export const value = ({ rows: [row] }: Result): string => String(Object.values(row ?? {})[0])

export const tableName = ({ database, schema }: Context, name: string): ObjectName => ({ database, schema, name })

/** A table of the run's schema as SQL. */
export const table = ({ database, schema }: Context, name: string): string => qualified(database, schema, name)
