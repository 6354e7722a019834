/**
 * Login, session tokens and their renewal.
 *
 * Sessions live as long as the process: after a restart the driver is told that its session is gone, because a transaction that was open in it is gone too.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { createHash, randomBytes } from "node:crypto"
import type { AuthError } from "./Accounts.ts"
import { Accounts } from "./Accounts.ts"
import type { Task } from "./Catalog.ts"
import { Catalog } from "./Catalog.ts"
import type { Options } from "./Configuration.ts"
import * as DuckdbError from "./DuckdbError.ts"
import * as Securables from "./Grants.ts"
import { Grants } from "./Grants.ts"
import type { Session, TableLocks } from "./Session.ts"
import { abandon, makeTableLocks } from "./Session.ts"
import * as SnowflakeError from "./SnowflakeError.ts"
import * as Control from "./statement/ControlStatement.ts"
import * as Storage from "./Storage.ts"
import { Warehouses } from "./Warehouses.ts"

export interface LoginRequest {
  readonly authenticator: string
  readonly loginName: string | undefined
  readonly password: string | undefined
  readonly token: string | undefined
  readonly warehouse: string | undefined
  readonly database: string | undefined
  readonly schema: string | undefined
  readonly role: string | undefined
  readonly parameters: Readonly<Record<string, unknown>>
}

/** Snowflake rolls back after four hours; here an open snapshot would keep DuckDB from checkpointing. */
const idleTransactionMillis = 600_000

const newToken = (): string => randomBytes(32).toString("base64url")
const hash = (token: string): string => createHash("sha256").update(token).digest("base64")

/** An unquoted name is folded; a quoted one is taken without its quotes. */
const nameOf = (given: string | undefined): string | undefined =>
  given === undefined || given === ""
    ? undefined
    : given.startsWith("\"")
    ? given.slice(1, -1).replaceAll("\"\"", "\"")
    : given.toUpperCase()

export class Sessions extends Context.Service<Sessions, {
  readonly warehouses: Warehouses
  readonly locks: TableLocks
  readonly login: (request: LoginRequest) => Effect.Effect<Session, SnowflakeError.SnowflakeError>
  /** A session of the server's own, which nobody can log in to: it runs a task as its owner. */
  readonly openForTask: (task: Task) => Effect.Effect<Session, SnowflakeError.SnowflakeError>
  /** The session of a session token: gone or expired are Snowflake's errors. */
  readonly authenticate: (token: string | undefined) => Effect.Effect<Session, SnowflakeError.SnowflakeError>
  /** New tokens for the session of a master token. */
  readonly renew: (masterToken: string | undefined) => Effect.Effect<Session, SnowflakeError.SnowflakeError>
  readonly remove: (session: Session) => Effect.Effect<void>
  readonly validity: { readonly tokenSeconds: number; readonly masterSeconds: number }
}>()("@etl-stream/snowflake-local/Sessions") {
  static readonly layer = (
    options: Pick<
      Options,
      "warehouses" | "tokenValiditySeconds" | "masterTokenValiditySeconds" | "abandonedAfterMillis"
    >
  ): Layer.Layer<Sessions, never, Storage.Storage | Accounts | Catalog | Grants> =>
    Layer.effect(
      Sessions,
      Effect.gen(function*() {
        const storage = yield* Storage.Storage
        const accounts = yield* Accounts
        const catalog = yield* Catalog
        const grants = yield* Grants
        const warehouses = new Warehouses(options.warehouses ?? ["COMPUTE_WH"])
        const locks = makeTableLocks(options.abandonedAfterMillis ?? 10_000)
        const tokenSeconds = options.tokenValiditySeconds ?? 3600
        const masterSeconds = options.masterTokenValiditySeconds ?? 14_400
        const byToken = new Map<string, Session>()
        const byMaster = new Map<string, Session>()
        let lastId = Date.now()

        const refuse = (error: AuthError): SnowflakeError.SnowflakeError =>
          error.reason === "WrongPassword" ? SnowflakeError.wrongPassword() : SnowflakeError.invalidToken(error.message)

        const authenticator = (request: LoginRequest) => {
          switch (request.authenticator.toUpperCase()) {
            case "SNOWFLAKE_JWT":
              return Effect.mapError(accounts.verifyKeyPairJwt(request.token ?? ""), refuse)
            case "OAUTH":
            case "PROGRAMMATIC_ACCESS_TOKEN":
              return Effect.mapError(
                accounts.verifyToken(request.token ?? ""),
                () => SnowflakeError.invalidOauthToken()
              )
            case "SNOWFLAKE":
            case "": {
              const { loginName = "", password = "" } = request
              // A programmatic access token may stand in for the password.
              return accounts.verifyPassword(loginName, password).pipe(
                Effect.catch((error) =>
                  Effect.flatMap(
                    accounts.verifyToken(password),
                    (found) => found.user === loginName.toUpperCase() ? Effect.succeed(found) : Effect.fail(error)
                  )
                ),
                Effect.mapError(() => SnowflakeError.wrongPassword())
              )
            }
            default:
              return Effect.fail(SnowflakeError.unknownAuthenticator(request.authenticator))
          }
        }

        const open = Effect.fnUntraced(function*(
          given: Pick<Session, "user" | "role" | "warehouse" | "database" | "schema" | "task">
        ) {
          const now = yield* Clock.currentTimeMillis
          const scope = yield* Scope.make()
          const connection = yield* Scope.provide(storage.connect, scope).pipe(Effect.mapError(DuckdbError.from))
          const session: Session = {
            ...given,
            id: String(++lastId),
            scope,
            connection,
            lock: yield* Semaphore.make(1),
            createdAt: now,
            token: newToken(),
            tokenExpiresAt: now + tokenSeconds * 1000,
            masterToken: newToken(),
            masterExpiresAt: now + masterSeconds * 1000,
            parameters: new Map(),
            variables: new Map(),
            temporary: new Map(),
            transaction: undefined,
            busy: false,
            committing: false,
            lastUsedAt: now,
            lastQueryId: undefined
          }
          yield* Control.setParameter(session, "TIMEZONE", "America/Los_Angeles")
          session.parameters.delete("TIMEZONE")
          return session
        })

        const openForTask = Effect.fnUntraced(function*(task: Task) {
          const session = yield* open({
            user: "SYSTEM",
            role: task.owner ?? "SYSADMIN",
            // A serverless task has compute of its own.
            warehouse: task.warehouse ?? "SERVERLESS",
            database: task.database,
            schema: task.schema,
            task: task.name
          })
          for (const [name, value] of Object.entries(task.parameters)) {
            yield* Control.setParameter(session, name, value)
          }
          return session
        })

        const login = Effect.fn("Sessions.login")(function*(request: LoginRequest) {
          const { user } = yield* authenticator(request)
          if (request.loginName !== undefined && request.loginName !== "" && request.loginName.toUpperCase() !== user) {
            return yield* SnowflakeError.invalidToken("JWT token is invalid: another user's")
          }
          const roles = grants.rolesOf(user)
          const role = nameOf(request.role) ?? roles[0] ?? "PUBLIC"
          if (!roles.includes(role)) return yield* SnowflakeError.roleNotGranted(role)
          const warehouse = nameOf(request.warehouse)
          const database = nameOf(request.database)
          const schema = nameOf(request.schema) ?? "PUBLIC"
          const known = database !== undefined && catalog.hasDatabase(database)
          const session = yield* open({
            user,
            role,
            // What doesn't exist is left out and the login succeeds, as in Snowflake.
            warehouse: warehouse !== undefined && warehouses.has(warehouse) &&
                grants.allows(role, "USAGE", Securables.warehouse(warehouse))
              ? warehouse :
              undefined,
            database: known ? database : undefined,
            schema: known && catalog.hasSchema(database, schema) ? schema : undefined,
            task: undefined
          })
          for (const [name, value] of Object.entries(request.parameters)) {
            const key = name.toUpperCase()
            if (!Control.parameterDefaults.has(key) && key.startsWith("CLIENT_")) continue
            if (value !== null && value !== undefined) yield* Control.setParameter(session, key, String(value))
          }
          byToken.set(hash(session.token), session)
          byMaster.set(hash(session.masterToken), session)
          return session
        })

        const remove = (session: Session): Effect.Effect<void> =>
          Effect.gen(function*() {
            byToken.delete(hash(session.token))
            byMaster.delete(hash(session.masterToken))
            session.connection.interrupt()
            yield* session.lock.withPermit(Effect.gen(function*() {
              yield* Effect.ignore(Storage.run(session.connection, "ROLLBACK"))
              yield* locks.release(session)
              for (const table of session.temporary.values()) {
                yield* Effect.ignore(Storage.run(session.connection, `DROP TABLE IF EXISTS ${table.duckdb}`))
              }
              session.temporary.clear()
              yield* Scope.close(session.scope, Exit.void)
            }))
          })

        yield* Effect.addFinalizer(() => Effect.forEach([...byToken.values()], remove, { discard: true }))

        // A client that was killed says no goodbye: its session goes when it can't be renewed any more, its transaction before.
        const sweep = Effect.gen(function*() {
          const now = yield* Clock.currentTimeMillis
          for (const session of byMaster.values()) {
            if (session.busy) continue
            if (session.masterExpiresAt <= now) yield* remove(session)
            else if (session.transaction?.begun === true) yield* abandon(session, locks, idleTransactionMillis)
          }
        })
        yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced("30 seconds")))

        return Sessions.of({
          warehouses,
          locks,
          validity: { tokenSeconds, masterSeconds },
          login,
          openForTask,
          authenticate: (token) =>
            Effect.gen(function*() {
              const session = token === undefined ? undefined : byToken.get(hash(token))
              if (session === undefined) return yield* SnowflakeError.sessionGone()
              const now = yield* Clock.currentTimeMillis
              if (session.tokenExpiresAt <= now) return yield* SnowflakeError.sessionTokenExpired()
              session.lastUsedAt = now
              return session
            }),
          renew: (masterToken) =>
            Effect.gen(function*() {
              const session = masterToken === undefined ? undefined : byMaster.get(hash(masterToken))
              if (session === undefined) return yield* SnowflakeError.sessionGone()
              const now = yield* Clock.currentTimeMillis
              if (session.masterExpiresAt <= now) {
                yield* remove(session)
                return yield* SnowflakeError.masterTokenExpired()
              }
              byToken.delete(hash(session.token))
              byMaster.delete(hash(session.masterToken))
              session.token = newToken()
              session.masterToken = newToken()
              session.tokenExpiresAt = now + tokenSeconds * 1000
              session.masterExpiresAt = now + masterSeconds * 1000
              byToken.set(hash(session.token), session)
              byMaster.set(hash(session.masterToken), session)
              return session
            }),
          remove
        })
      })
    )
}
