/**
 * The checks of `etl-stream doctor`: whether a run could log in, use its warehouse and database, stream, and find or create its schemas.
 *
 * Only questions that change nothing and need no warehouse are asked. Which privileges a role has on what isn't there yet can't be asked in one
 * place (they may come by other roles), so a schema that is missing is told with the grant that its creation needs.
 */
import { type Check, evaluate } from "@etl-stream/core/Check"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { critical, type Finding, info } from "@etl-stream/core/Finding"
import type { PluginContext } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Config } from "./Config.ts"
import * as Credentials from "./Credentials.ts"
import * as Identifier from "./Identifier.ts"
import * as Sql from "./SqlClient.ts"
import * as StreamingClient from "./StreamingClient.ts"

type Failed = ConnectorError

interface Facts {
  readonly config: Config
  /** Why no session could be opened, if none could. */
  readonly login: Failed | undefined
  /** Why the streaming API refused us, if it did. */
  readonly streaming: Failed | undefined
  /** The role of the session, undefined without one. */
  readonly role: string | undefined
  /** Schemas of the database, undefined when they couldn't be asked for. */
  readonly schemas: ReadonlySet<string> | undefined
}

const quoted = (name: string): string => Identifier.quote(Identifier.fromConfig(name))

/** The grants that the refusal of a login may be about. */
const grants = ({ database, role, user, warehouse }: Config, reason: Failed["reason"]): ReadonlyArray<string> => {
  if (role === undefined) return []
  const to = `TO ROLE ${quoted(role)};`
  switch (reason) {
    case "Forbidden":
      return [`GRANT ROLE ${quoted(role)} TO USER ${quoted(user)};`]
    case "Missing":
      return [
        `GRANT USAGE ON WAREHOUSE ${quoted(warehouse)} ${to}`,
        `GRANT USAGE ON DATABASE ${quoted(database)} ${to}`
      ]
    default:
      return []
  }
}

const login: Check<Facts> = {
  name: "login",
  looksAt: "the user can log in with its role, warehouse and database",
  severities: ["critical"],
  *find({ config, login }) {
    if (login === undefined) return
    yield critical(login.reason, login.message, login.hint, { sql: grants(config, login.reason) })
  }
}

const streaming: Check<Facts> = {
  name: "streaming",
  looksAt: "Snowpipe Streaming takes the same credentials",
  severities: ["critical"],
  *find({ streaming }) {
    if (streaming !== undefined) yield critical(streaming.reason, streaming.message, streaming.hint)
  }
}

const schemas: Check<Facts> = {
  name: "schemas",
  looksAt: "the schemas of journals and tables are there",
  severities: ["info"],
  *find({ config, role, schemas }) {
    if (schemas === undefined) return
    const named = config.schema === undefined ? [config.journalSchema] : [config.journalSchema, config.schema]
    const absent = [...new Set(named.map(Identifier.fromConfig))].filter((name) => !schemas.has(name))
    if (absent.length === 0) return
    yield info(
      `the first run creates ${absent.join(" and ")} in ${Identifier.fromConfig(config.database)}`,
      "The role needs CREATE SCHEMA for that; whether it has it can't be asked without trying.",
      {
        sql: role === undefined
          ? []
          : [`GRANT CREATE SCHEMA ON DATABASE ${quoted(config.database)} TO ROLE ${Identifier.quote(role)};`]
      }
    )
  }
}

/** Every check of doctor, in the order of its report. */
export const checks: ReadonlyArray<Check<Facts>> = [login, streaming, schemas]

/** What Snowflake refuses, rather than trouble of the moment. */
const isRefusal = (error: Failed): boolean =>
  error.reason === "Unauthorized" || error.reason === "Forbidden" || error.reason === "Missing" ||
  error.reason === "Misconfigured" || error.reason === "Rejected"

/** Nothing, or the refusal; what is no refusal stays an error. */
const refusalOf = <A>(effect: Effect.Effect<A, Failed>): Effect.Effect<A | Failed, Failed> =>
  Effect.catchIf(effect, isRefusal, (error) => Effect.succeed(error))

/** Runs every check. */
export const check = Effect.fn("SnowflakeSink.doctor")(function*(
  config: Config,
  { directory, pipeline }: PluginContext
): Effect.fn.Return<ReadonlyArray<Finding>, Failed, Scope.Scope> {
  const nothing = { config, login: undefined, streaming: undefined, role: undefined, schemas: undefined }
  const credentials = yield* Effect.result(Credentials.make(config.auth, directory))
  if (credentials._tag === "Failure") return evaluate([login], { ...nothing, login: credentials.failure })
  const sql = yield* Sql.make(config, credentials.success, pipeline)
  const session = yield* refusalOf(
    sql.execute({ what: "Asking for the role", sql: `SELECT CURRENT_ROLE() AS "role"`, control: true })
  )
  if (!("rows" in session)) return evaluate([login], { ...nothing, login: session })
  const found = yield* sql.execute({
    what: "Looking for schemas",
    sql: `SHOW SCHEMAS IN DATABASE ${quoted(config.database)}`,
    control: true
  })
  const streams = yield* refusalOf(
    Effect.as(StreamingClient.make(config, credentials.success).login, undefined)
  )
  return evaluate(checks, {
    ...nothing,
    streaming: streams,
    role: String(session.rows[0]?.["role"] ?? "") || undefined,
    schemas: new Set(found.rows.map((row) => String(row["name"])))
  })
})
