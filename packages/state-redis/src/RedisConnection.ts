/**
 * A connection to Redis that makes itself anew, by ioredis, with nothing left to chance about what was executed.
 *
 * The client neither queues commands while it has no connection nor sends any again: a command that was abandoned would be executed later, or twice. It is
 * sent at once or fails as not sent, and fails when its connection is lost before the answer. What to do then is for `patiently` and its
 * callers. A server that doesn't answer has its connection cut after half of an operation's time, so that the other half is for a new one.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { Cluster, Redis, type RedisOptions } from "ioredis"
import type { ConnectionOptions } from "node:tls"
import type { Endpoint } from "./Endpoint.ts"
import * as RedisFailure from "./RedisFailure.ts"
import type { Script } from "./Script.ts"

type Client = Redis | Cluster

/** What an operation has of time. */
export interface Deadline {
  /** Milliseconds left. */
  readonly left: Effect.Effect<number>
}

/** An answer, and whether the command may have been executed before as well, as an earlier answer to it was lost. */
export interface Answer {
  readonly reply: unknown
  readonly again: boolean
}

export interface RedisConnection {
  readonly context: () => RedisFailure.Context
  /** A deadline for an operation that begins now. `millis`: the endpoint's timeout when absent. */
  readonly deadline: (millis?: number) => Effect.Effect<Deadline>
  /** Executes a script on the namespace's key, once. */
  readonly evaluate: (script: Script, args: ReadonlyArray<string>) => Effect.Effect<unknown, RedisFailure.RedisFailure>
  /** The document in a field of the namespace's key, or null. */
  readonly read: (field: string) => Effect.Effect<unknown, RedisFailure.RedisFailure>
  /** Tries until the deadline, while trouble passes and the command wasn't executed, or may be executed again (`repeatable`). */
  readonly patiently: (
    attempt: Effect.Effect<unknown, RedisFailure.RedisFailure>,
    deadline: Deadline,
    repeatable: boolean
  ) => Effect.Effect<Answer, RedisFailure.RedisFailure>
}

/** Milliseconds before the nth attempt to connect anew: from 50 to 2,000, spread so that runners don't come all at once. */
const reconnectDelay = (attempt: number): number => Math.min(50 * 2 ** (attempt - 1), 2000) * (0.5 + Math.random() / 2)

/** Waits between attempts at an operation. */
const backoff = Schedule.jittered(Schedule.min([Schedule.exponential("25 millis"), Schedule.spaced("250 millis")]))

const tlsOptions = (tls: NonNullable<Endpoint["tls"]>): ConnectionOptions => ({
  rejectUnauthorized: tls.verify !== false,
  ...(tls.ca === undefined ? {} : { ca: tls.ca }),
  ...(tls.cert === undefined ? {} : { cert: tls.cert }),
  ...(tls.key === undefined ? {} : { key: Redacted.value(tls.key) }),
  ...(tls.keyPassword === undefined ? {} : { passphrase: Redacted.value(tls.keyPassword) }),
  ...(tls.serverName === undefined ? {} : { servername: tls.serverName })
})

const makeClient = (endpoint: Endpoint): Client => {
  const { connectTimeout, credentials, database, place, timeout } = endpoint
  const patience = Math.ceil(timeout / 2)
  const tls = endpoint.tls === undefined ? undefined : tlsOptions(endpoint.tls)
  const options = {
    ...(credentials.username === undefined ? {} : { username: credentials.username }),
    ...(credentials.password === undefined ? {} : { password: Redacted.value(credentials.password) }),
    ...(tls === undefined ? {} : { tls }),
    db: database,
    family: 0,
    // What RESP3 adds isn't needed, and some proxies don't speak it.
    protocol: 2,
    disableClientInfo: true,
    connectionName: "etl-stream",
    connectTimeout,
    socketTimeout: patience,
    keepAlive: 30_000,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // Commands without an answer fail when their connection is lost, not when a new one is there.
    maxRetriesPerRequest: 0,
    retryStrategy: reconnectDelay,
    maxLoadingRetryTime: 500,
    // After a failover the old address may be a replica's.
    reconnectOnError: (error: Error) => error.message.startsWith("READONLY"),
    lazyConnect: true
  } satisfies RedisOptions
  switch (place._tag) {
    case "Server":
      return new Redis({ ...options, ...place.address })
    case "Sentinel": {
      const { password, username } = place.credentials
      return new Redis({
        ...options,
        name: place.name,
        sentinels: [...place.sentinels],
        ...(username === undefined ? {} : { sentinelUsername: username }),
        ...(password === undefined ? {} : { sentinelPassword: Redacted.value(password) }),
        ...(tls === undefined ? {} : { enableTLSForSentinelMode: true }),
        ...(place.tls && tls !== undefined ? { sentinelTLS: tls } : {}),
        sentinelCommandTimeout: patience,
        sentinelRetryStrategy: reconnectDelay
      })
    }
    case "Cluster":
      return new Cluster([...place.nodes], {
        redisOptions: options,
        enableOfflineQueue: false,
        clusterRetryStrategy: reconnectDelay,
        // Commands without an answer are not sent again.
        retryDelayOnFailover: 0,
        slotsRefreshTimeout: patience,
        lazyConnect: true,
        // Certificates are for names, which resolving would lose.
        ...(tls === undefined ? {} : { dnsLookup: (address, callback) => callback(null, address) })
      })
  }
}

/** Errors that follow on others and say less. */
const aftermath = /^(All sentinels are unreachable|Stream isn't writeable|Cluster isn't ready|Connection is closed)/

/** Name of the command that was refused. */
const commandOf = (error: unknown): unknown => {
  const command: unknown = typeof error === "object" && error !== null ? Reflect.get(error, "command") : undefined
  return typeof command === "object" && command !== null ? Reflect.get(command, "name") : undefined
}

/** Connects when the first command comes, and disconnects with the scope. */
export const open = Effect.fn("RedisConnection.open")(function*(
  endpoint: Endpoint,
  key: string
): Effect.fn.Return<RedisConnection, never, Scope.Scope> {
  let trouble: unknown
  const heard = (error: unknown): void => {
    if (trouble === undefined || !(error instanceof Error && aftermath.test(error.message))) trouble = error
  }
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const made = makeClient(endpoint)
      made.on("error", (error) => {
        heard(error)
        // The client would go on in database 0.
        if (commandOf(error) === "select") made.disconnect(true)
      })
      made.on("node error", heard)
      made.on("sentinelError", heard)
      return made
    }),
    (made) => Effect.sync(() => made.disconnect())
  )
  const context = (): RedisFailure.Context => ({ endpoint, key, trouble })

  const attempt = (run: () => Promise<unknown>): Effect.Effect<unknown, RedisFailure.RedisFailure> =>
    Effect.tryPromise({ try: run, catch: (cause) => RedisFailure.fromCause(context(), cause) }).pipe(
      Effect.tap(() => Effect.sync(() => trouble = undefined))
    )

  return {
    context,
    deadline: (millis = endpoint.timeout) =>
      Effect.map(Clock.monotonicTimeNanos, (start) => ({
        left: Effect.map(Clock.monotonicTimeNanos, (now) => Math.max(0, millis - Number(now - start) / 1e6))
      })),
    evaluate: ({ lua, sha }, args) =>
      attempt(async () => {
        try {
          return await client.evalsha(sha, 1, key, ...args)
        } catch (cause) {
          // A server that was restarted or flushed doesn't know the script, and didn't execute it.
          if (!(cause instanceof Error) || !cause.message.startsWith("NOSCRIPT")) throw cause
          return client.eval(lua, 1, key, ...args)
        }
      }),
    read: (field) => attempt(() => client.hget(key, field)),
    patiently: Effect.fnUntraced(function*(once, deadline, repeatable) {
      let again = false
      let last: RedisFailure.RedisFailure | undefined
      const reply = yield* Effect.suspend(() => {
        last = undefined
        return once
      }).pipe(
        Effect.tapError((failure) =>
          Effect.sync(() => {
            last = failure
            if (failure.executed === "unknown") again = true
          })
        ),
        Effect.retry({
          schedule: backoff,
          while: (failure) => failure.passing && (failure.executed === "no" || repeatable)
        }),
        Effect.timeoutOrElse({
          duration: yield* deadline.left,
          // While a command is under way there is no failure of it.
          orElse: () => Effect.fail(last ?? RedisFailure.late(context()))
        }),
        Effect.mapError((failure) => again ? RedisFailure.doubtful(failure) : failure)
      )
      return { reply, again }
    })
  }
})
