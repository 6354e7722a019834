/**
 * A real Redis server for tests, started in a scope and gone with it: on a free port of the loopback interface, its data in a temporary folder.
 *
 * The program is `redis-server` from the path, or Debian's package. `REDIS_URL` names a server that is there already, for tests that need no more
 * than one (`available`): it may be shared, so it is never flushed, stopped or reconfigured.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import * as ChildProcess from "./ChildProcess.ts"
import * as DebianProgram from "./DebianProgram.ts"
import { freePort } from "./internal/ports.ts"

export class RedisServerError extends Schema.TaggedError<RedisServerError>("@etl-stream/testkit/RedisServerError")(
  "RedisServerError",
  { message: Schema.String, cause: Schema.optionalKey(Schema.Defect()) }
) {}

export interface Tls {
  /** PEM. */
  readonly certificate: string
  readonly key: string
  readonly ca: string
  /** Whether clients must have a certificate of the authority. Default: false. */
  readonly clients?: boolean
}

export interface Options {
  /** Lines of redis.conf, for example `maxmemory 10mb`. */
  readonly settings?: ReadonlyArray<string>
  /** Has the server speak TLS only. */
  readonly tls?: Tls
  /** Runs it as a sentinel. */
  readonly sentinel?: boolean
}

export interface RedisServer {
  readonly url: string
  readonly host: string
  readonly port: number
  readonly folder: string
  /** Executes a command as the user that the server began with. */
  readonly command: (name: string, ...args: ReadonlyArray<string | number>) => Effect.Effect<unknown, RedisServerError>
  /** SIGKILL. */
  readonly kill: Effect.Effect<void, RedisServerError>
  /** SHUTDOWN NOSAVE. */
  readonly stop: Effect.Effect<void, RedisServerError>
  /** Starts it again after `kill` or `stop`, on the same port: empty, or with the data of a file that `save` made. */
  readonly restart: (data?: string) => Effect.Effect<void, RedisServerError>
  /** Writes the data as they are to a file, and gives its path. */
  readonly save: Effect.Effect<string, RedisServerError>
  /** Stops the process as it is (SIGSTOP): connections stay open and nobody answers. */
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  readonly output: () => string
}

const host = "127.0.0.1"

const failed = (message: string) => (cause: unknown): RedisServerError =>
  new RedisServerError({
    message: cause instanceof Error ? `${message}: ${cause.message}` : message,
    cause
  })

const folderOf = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(path.join(tmpdir(), "etl-stream-redis-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))
)

const located = DebianProgram.locate({ programs: ["redis-server"], package: "redis-server" }).pipe(
  Effect.mapError(failed("Redis is not there"))
)

/** Completes when the program is there: installing it may take longer than a test, so it is for what comes before the first one. */
export const installed: Effect.Effect<void, RedisServerError> = Effect.asVoid(located)

/** Starts a server of its own. */
export const start = (options: Options = {}): Effect.Effect<RedisServer, RedisServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const [program = "redis-server"] = yield* located
    const scope = yield* Effect.scope
    const folder = yield* folderOf
    const data = path.join(folder, "data")
    mkdirSync(data)
    const { tls } = options
    if (tls !== undefined) {
      for (const [name, text] of Object.entries({ certificate: tls.certificate, key: tls.key, ca: tls.ca })) {
        writeFileSync(path.join(folder, `${name}.pem`), text, { mode: 0o600 })
      }
    }
    const configuration = (port: number) => [
      `bind ${host}`,
      `port ${tls === undefined ? port : 0}`,
      ...(tls === undefined ? [] : [
        `tls-port ${port}`,
        `tls-cert-file ${path.join(folder, "certificate.pem")}`,
        `tls-key-file ${path.join(folder, "key.pem")}`,
        `tls-ca-cert-file ${path.join(folder, "ca.pem")}`,
        `tls-auth-clients ${tls.clients === true ? "yes" : "no"}`,
        "tls-replication yes"
      ]),
      `dir ${data}`,
      "daemonize no",
      "loglevel notice",
      // DEBUG lets tests look, and slow the server down.
      ...(options.sentinel === true ? [] : ["save \"\"", "appendonly no", "enable-debug-command local"]),
      ...(options.settings ?? [])
    ]

    let port = 0
    let child: ChildProcess.ChildProcess | undefined
    const launch = Effect.gen(function*() {
      const file = path.join(folder, "redis.conf")
      writeFileSync(file, `${configuration(port).join("\n")}\n`)
      child = yield* ChildProcess.start({
        name: "redis-server",
        command: program,
        args: [file, ...(options.sentinel === true ? ["--sentinel"] : [])],
        cwd: folder
      }).pipe(Scope.provide(scope))
      yield* child.waitFor(/Ready to accept connections|Sentinel ID is/)
    }).pipe(Effect.mapError(failed("redis-server didn't start")))

    // Somebody else may take the free port first.
    yield* Effect.promise(freePort).pipe(
      Effect.flatMap((free) => {
        port = free
        return launch
      }),
      Effect.retry({ times: 4 })
    )

    const ended = (signal: "SIGKILL" | undefined) =>
      Effect.suspend(() => {
        const running = child
        child = undefined
        if (running === undefined) return Effect.void
        return (signal === undefined ? running.ended() : running.kill(signal)).pipe(
          Effect.asVoid,
          Effect.mapError(failed("redis-server didn't end"))
        )
      })

    const password = /^requirepass (\S+)$/m.exec((options.settings ?? []).join("\n"))?.[1]
    const command: RedisServer["command"] = (name, ...args) =>
      Effect.tryPromise({
        try: async () => {
          const client = new Redis({
            host,
            port,
            lazyConnect: true,
            retryStrategy: () => null,
            connectTimeout: 5000,
            commandTimeout: 20_000,
            enableReadyCheck: false,
            ...(password === undefined ? {} : { password }),
            ...(tls === undefined ? {} : {
              tls: {
                ca: tls.ca,
                checkServerIdentity: () => undefined,
                ...(tls.clients === true ? { cert: tls.certificate, key: tls.key } : {})
              }
            })
          })
          client.on("error", () => {})
          try {
            await client.connect()
            return await client.call(name, ...args)
          } finally {
            client.disconnect()
          }
        },
        catch: failed(`${name} failed`)
      })

    let saves = 0
    return {
      url: `${tls === undefined ? "redis" : "rediss"}://${
        password === undefined ? "" : `:${password}@`
      }${host}:${port}`,
      host,
      port,
      folder,
      command,
      kill: ended("SIGKILL"),
      // The server ends without an answer.
      stop: Effect.andThen(Effect.ignore(command("SHUTDOWN", "NOSAVE")), ended(undefined)),
      restart: (from) =>
        Effect.suspend(() => {
          const file = path.join(data, "dump.rdb")
          if (from === undefined) rmSync(file, { force: true })
          else copyFileSync(from, file)
          return launch
        }),
      save: Effect.gen(function*() {
        yield* command("SAVE")
        const copy = path.join(folder, `save-${saves++}.rdb`)
        copyFileSync(path.join(data, "dump.rdb"), copy)
        return copy
      }),
      freeze: Effect.suspend(() => child?.signal("SIGSTOP") ?? Effect.void),
      thaw: Effect.suspend(() => child?.signal("SIGCONT") ?? Effect.void),
      output: () => child?.output() ?? ""
    }
  })

/** URL of a server for tests that need nothing but one: that of `REDIS_URL`, else one that is started for them. */
export const available: Effect.Effect<string, RedisServerError, Scope.Scope> = Effect.suspend(() => {
  const url = process.env["REDIS_URL"]
  return url === undefined || url === "" ? Effect.map(start(), (server) => server.url) : Effect.succeed(url)
})

const until = (condition: Effect.Effect<boolean, RedisServerError>, what: string) =>
  condition.pipe(
    Effect.flatMap((holds) =>
      holds ? Effect.void : Effect.fail(new RedisServerError({ message: `${what} takes too long` }))
    ),
    Effect.retry(Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: "30 seconds" })))
  )

/** Starts a cluster of three nodes without replicas, each with a third of the slots. */
export const startCluster: Effect.Effect<ReadonlyArray<RedisServer>, RedisServerError, Scope.Scope> = Effect.gen(
  function*() {
    const nodes = yield* Effect.forEach(
      [0, 1, 2],
      () => start({ settings: ["cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 2000"] })
    )
    const [first] = nodes
    if (first === undefined) return []
    for (const [index, node] of nodes.entries()) {
      yield* node.command(
        "CLUSTER",
        "ADDSLOTSRANGE",
        Math.floor(16384 * index / 3),
        Math.floor(16384 * (index + 1) / 3) - 1
      )
      if (node !== first) yield* node.command("CLUSTER", "MEET", host, first.port)
    }
    yield* Effect.forEach(nodes, (node) =>
      until(
        Effect.map(node.command("CLUSTER", "INFO"), (info) =>
          /cluster_state:ok/.test(String(info)) && /cluster_known_nodes:3/.test(String(info))),
        "making the cluster"
      ))
    return nodes
  }
)

export interface Watched {
  readonly name: string
  readonly primary: RedisServer
  readonly replica: RedisServer
  readonly sentinel: RedisServer
}

/** Starts a primary and a replica of it, watched by a sentinel that takes a second to find the primary dead. */
export const startWatched: Effect.Effect<Watched, RedisServerError, Scope.Scope> = Effect.gen(function*() {
  const name = "primary"
  const primary = yield* start()
  const replica = yield* start({ settings: [`replicaof ${host} ${primary.port}`] })
  yield* until(
    Effect.map(replica.command("INFO", "replication"), (info) => /master_link_status:up/.test(String(info))),
    "replication"
  )
  const sentinel = yield* start({
    sentinel: true,
    settings: [
      `sentinel monitor ${name} ${host} ${primary.port} 1`,
      `sentinel down-after-milliseconds ${name} 1000`,
      `sentinel failover-timeout ${name} 5000`
    ]
  })
  yield* until(
    Effect.map(
      sentinel.command("SENTINEL", "REPLICAS", name),
      (replicas) => Array.isArray(replicas) && replicas.length === 1
    ),
    "the sentinel's discovery"
  )
  return { name, primary, replica, sentinel }
})
