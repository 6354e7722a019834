/**
 * `npm run verify:snowflake`: tries what docs/assumptions.md assumes of Snowflake on a real account, one line per check.
 *
 * Works in a schema of its own, which it makes and drops; touches nothing else. Exit codes: 0 everything that was checked holds, 1 something doesn't,
 * 2 the environment variables aren't complete, 3 the account can't be reached or logged in to.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import { randomBytes } from "node:crypto"
import { Config } from "../../src/Config.ts"
import * as Credentials from "../../src/Credentials.ts"
import * as Identifier from "../../src/Identifier.ts"
import { qualified } from "../../src/Identifier.ts"
import * as Sql from "../../src/SqlClient.ts"
import * as StreamingClient from "../../src/StreamingClient.ts"
import type { Context } from "./Check.ts"
import { all } from "./Checks.ts"
import { unchecked } from "./Unchecked.ts"

const usage = `Checks on a Snowflake account what docs/assumptions.md assumes of it. Set

  SNOWFLAKE_ACCOUNT            ORGANIZATION-ACCOUNT
  SNOWFLAKE_USER
  SNOWFLAKE_PRIVATE_KEY_FILE   or SNOWFLAKE_TOKEN (a programmatic access token)
  SNOWFLAKE_WAREHOUSE          is used for some minutes
  SNOWFLAKE_DATABASE           where the role may create a schema
  SNOWFLAKE_ROLE               optional
  SNOWFLAKE_URL                optional: another server than https://ACCOUNT.snowflakecomputing.com

It makes a schema of its own in the database, and drops it at the end.`

const write = (line: string) => Effect.sync(() => process.stdout.write(`${line}\n`))

const given = (name: string): string | undefined => {
  const text = process.env[`SNOWFLAKE_${name}`]
  return text === undefined || text === "" ? undefined : text
}

const optional = (key: string, text: string | undefined): object => text === undefined ? {} : { [key]: text }

const read = Schema.decodeUnknownEffect(Config)({
  ...optional("account", given("ACCOUNT")),
  ...optional("user", given("USER")),
  auth: { ...optional("privateKeyFile", given("PRIVATE_KEY_FILE")), ...optional("token", given("TOKEN")) },
  ...optional("warehouse", given("WAREHOUSE")),
  ...optional("database", given("DATABASE")),
  ...optional("role", given("ROLE")),
  ...optional("url", given("URL")),
  connections: 4,
  merge: { every: "1 hour" }
}, { errors: "all" })

const message = (cause: Cause.Cause<unknown>): string => {
  const error: unknown = Cause.squash(cause)
  if (typeof error !== "object" || error === null) return String(error)
  if ("error" in error && error.error instanceof Error) return error.error.message
  return error instanceof Error ? error.message : String(error)
}

const verify = Effect.gen(function*() {
  const config = yield* read
  const directory = process.cwd()
  const credentials = yield* Credentials.make(config.auth, directory)
  const database = Identifier.fromConfig(config.database)
  const schema = `ETL_STREAM_VERIFY_${randomBytes(4).toString("hex").toUpperCase()}`
  const sql = yield* Sql.make(config, credentials, "verify")
  const streaming = StreamingClient.make(config, credentials)
  const own = qualified(database, schema)
  yield* Effect.acquireRelease(
    sql.execute({ what: "Creating a schema", sql: `CREATE SCHEMA ${own}` }),
    () => Effect.ignore(sql.execute({ what: "Dropping the schema", sql: `DROP SCHEMA ${own} CASCADE` }))
  )
  yield* sql.execute({ what: "Creating a stage", sql: `CREATE STAGE ${qualified(database, schema, "FILES")}` })
  const context: Context = { config, directory, database, schema, sql, streaming }
  let failed = 0
  for (const { ids, run, title } of all) {
    const exit = yield* Effect.exit(Effect.scoped(run(context)))
    if (Exit.isFailure(exit)) failed++
    yield* write(
      Exit.isSuccess(exit)
        ? `held         ${ids.join(" ")}  ${title}`
        : `DIDN'T HOLD  ${ids.join(" ")}  ${title}: ${message(exit.cause)}`
    )
  }
  for (const [id, why] of Object.entries(unchecked)) yield* write(`not checked  ${id}  ${why}`)
  yield* write(
    `${all.length - failed} of ${all.length} checks held, ${Object.keys(unchecked).length} assumptions not checked`
  )
  return failed === 0 ? 0 : 1
}).pipe(
  Effect.scoped,
  Effect.provideService(References.MinimumLogLevel, "Error"),
  Effect.catchTag("SchemaError", () => Effect.as(write(usage), 2)),
  Effect.catch((error) => Effect.as(write(`${error.message}\n-> ${error.hint}`), 3))
)

process.exitCode = await Effect.runPromise(verify)
