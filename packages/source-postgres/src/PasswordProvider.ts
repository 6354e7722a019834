/**
 * Where the password of a new connection comes from: a fixed text, a password file, or a command or module that is asked each time.
 *
 * Commands and modules serve passwords that expire, such as the tokens of the clouds' identity services. What they give is kept only
 * for as long as `refresh`, or the `expires` of a module's answer, allows; `forget` drops it when a server refuses it. Nothing that
 * they write or throw is quoted: it may hold a secret.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import { spawn } from "node:child_process"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import type { Endpoint, Host } from "./Endpoint.ts"
import * as PasswordFile from "./PasswordFile.ts"
import * as PostgresError from "./PostgresError.ts"

const Timeout = Schema.DurationFromString.pipe(ConfigOption.withDefault("10 seconds")).annotateKey(
  {
    description: "How long an answer may take."
  }
)

const Refresh = Schema.optionalKey(Schema.DurationFromString).annotateKey({
  description: "How long a password is used for new connections. Default: each connection asks for its own."
})

/** A program that prints the password. */
export const Command = Schema.Struct({
  command: Schema.TupleWithRest(Schema.Tuple([Schema.NonEmptyString]), [Schema.String]).annotateKey({
    description:
      "Program and arguments, run without a shell in the configuration's folder with PGHOST, PGPORT, PGUSER and PGDATABASE set; it " +
      "prints the password."
  }),
  timeout: Timeout,
  refresh: Refresh
})
export type Command = typeof Command.Type

/** A module of JavaScript with a function that gives the password. */
export const Module = Schema.Struct({
  module: Schema.NonEmptyString.annotateKey({
    description:
      "A module (path relative to the configuration, or a package) with a function of { host, port, user, database, signal } that gives " +
      "the password, or { password, expires }, or a promise of either."
  }),
  export: Schema.NonEmptyString.pipe(ConfigOption.withDefault("default")).annotateKey({
    description: "The name of the function's export."
  }),
  timeout: Timeout,
  refresh: Refresh
})
export type Module = typeof Module.Type

/** What a module's function is called with. */
export interface Request {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
  /** Aborted when the answer is not waited for any more. */
  readonly signal: AbortSignal
}

export interface Answer {
  readonly password: Redacted.Redacted<string> | undefined
  /** It was asked for earlier: the server may refuse it though a new one would do. */
  readonly kept: boolean
}

export interface Provider {
  readonly get: (endpoint: Endpoint, host: Host) => Effect.Effect<Answer, ConnectorError>
  /** Asks anew the next time. */
  readonly forget: Effect.Effect<void>
}

/** One password, or none, for all connections. */
export const fixed = (password: Redacted.Redacted<string> | undefined): Provider => ({
  get: () => Effect.succeed({ password, kept: false }),
  forget: Effect.void
})

/** The text of a password file. */
export const file = (text: Redacted.Redacted<string>): Provider => ({
  get: ({ database, user }, { name, port }) =>
    Effect.succeed({
      password: PasswordFile.find(Redacted.value(text), {
        host: name.startsWith("/") ? "localhost" : name,
        port,
        database,
        user
      }),
      kept: false
    }),
  forget: Effect.void
})

interface Given {
  readonly password: Redacted.Redacted<string>
  /** Milliseconds since 1970. */
  readonly expires: number | undefined
}

/** A password that is about to expire isn't used for a new connection any more. */
const marginMillis = 10_000

const keeping = (
  refresh: Duration.Duration | undefined,
  ask: (endpoint: Endpoint, host: Host) => Effect.Effect<Given, ConnectorError>
): Provider => {
  const kept = new Map<string, Given & { readonly until: number }>()
  const one = Semaphore.makeUnsafe(1)
  return {
    get: (endpoint, host) =>
      one.withPermits(1)(Effect.gen(function*() {
        const key = `${host.name} ${host.port}`
        const held = kept.get(key)
        if (held !== undefined && (yield* Clock.currentTimeMillis) < held.until) {
          return { password: held.password, kept: true }
        }
        kept.delete(key)
        const given = yield* ask(endpoint, host)
        const now = yield* Clock.currentTimeMillis
        const until = Math.min(
          refresh === undefined ? Infinity : now + Duration.toMillis(refresh),
          given.expires === undefined ? Infinity : given.expires - marginMillis
        )
        if (until !== Infinity && until > now) {
          kept.set(key, { ...given, until })
        }
        return { password: given.password, kept: false }
      })),
    forget: Effect.sync(() => kept.clear())
  }
}

const unusable = (message: string, hint: string) => PostgresError.make("Misconfigured", message, hint)

/** A provider that may work the next time: the service behind it may be unreachable. */
const failed = (message: string, hint: string) => PostgresError.make("Unreachable", message, hint)

const timedOut = (what: string, timeout: Duration.Duration) =>
  failed(
    `${what} gave no password within ${Duration.format(timeout)}`,
    "Check that it ends by itself and reaches its service, or raise password.timeout. The pipeline tries again by itself."
  )

/** Longest password, in bytes. Tokens have a few thousand. */
const limit = 64 * 1024

const commandFailed = (program: string, how: string) =>
  failed(
    `the password command ${program} ${how}`,
    "Run it by hand, as the pipeline's user, to see what it says. The pipeline tries again by itself."
  )

/** Runs a command to its end; interruption kills it with what it has started. */
const output = (
  { command }: Command,
  directory: string,
  variables: Readonly<Record<string, string>>
): Effect.Effect<string, ConnectorError> =>
  Effect.callback<string, ConnectorError>((resume) => {
    const [program, ...args] = command
    const child = spawn(program, args, {
      cwd: directory,
      env: { ...process.env, ...variables },
      stdio: ["ignore", "pipe", "ignore"],
      // A group of its own, so that all of it can be ended.
      detached: process.platform !== "win32"
    })
    const kill = (): void => {
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
      try {
        if (process.platform === "win32") child.kill("SIGKILL")
        else process.kill(-child.pid, "SIGKILL")
      } catch {
        // It ended in the meantime.
      }
    }
    const chunks: Array<Buffer> = []
    let size = 0
    child.stdout.on("data", (chunk: Buffer) => {
      size += chunk.length
      if (size > limit) {
        kill()
        resume(Effect.fail(commandFailed(program, `printed more than ${limit} bytes`)))
      } else chunks.push(chunk)
    })
    child.once("error", (cause) => {
      const code = PostgresError.codeOf(cause)
      resume(Effect.fail(
        code === "ENOENT" || code === "EACCES"
          ? unusable(
            `the password command ${program} can't be run: ${code}`,
            "Check password.command: a program of the PATH, or a path from the configuration's folder, that may be executed."
          )
          : commandFailed(program, `could not be started: ${code ?? "unknown error"}`)
      ))
    })
    child.once("close", (code, signal) =>
      resume(
        code === 0
          ? Effect.succeed(Buffer.concat(chunks).toString("utf8").replace(/\r?\n$/, ""))
          : Effect.fail(commandFailed(program, `ended with ${code === null ? signal : `exit code ${code}`}`))
      ))
    return Effect.sync(kill)
  })

/** Asks a command. */
export const command = (options: Command, directory: string): Provider =>
  keeping(options.refresh, (endpoint, host) =>
    Effect.gen(function*() {
      const program = options.command[0]
      const text = yield* output(options, directory, {
        PGHOST: host.name,
        PGPORT: String(host.port),
        PGUSER: endpoint.user,
        PGDATABASE: endpoint.database
      }).pipe(
        Effect.timeoutOrElse({
          duration: options.timeout,
          orElse: () => Effect.fail(timedOut(`the password command ${program}`, options.timeout))
        })
      )
      if (text === "" || /[\r\n\0]/.test(text)) {
        return yield* commandFailed(program, text === "" ? "printed nothing" : "printed more than one line")
      }
      return { password: Redacted.make(text), expires: undefined }
    }))

const ModuleAnswer = Schema.Union([
  Schema.NonEmptyString,
  Schema.Struct({
    password: Schema.NonEmptyString,
    /** A time; a number is in milliseconds since 1970. */
    expires: Schema.optional(Schema.Union([Schema.Finite, Schema.Date]))
  })
])

const isFunction = (value: unknown): value is (request: Request) => unknown => typeof value === "function"

/** Asks a module's function. The module is loaded at its first use. */
export const module = (options: Module, directory: string): Provider => {
  const name = options.module
  const specifier = /^\.{0,2}\//.test(name) || path.isAbsolute(name)
    ? pathToFileURL(path.resolve(directory, name)).href
    : name
  const load = Effect.tryPromise({
    try: async () => {
      const loaded: Readonly<Record<string, unknown>> = await import(specifier)
      return loaded[options.export]
    },
    catch: (cause) =>
      unusable(
        `the password module ${name} can't be loaded: ${
          PostgresError.codeOf(cause) ?? (cause instanceof Error ? cause.name : "unknown error")
        }`,
        "Check password.module: a path from the configuration's folder that begins with ./, or an installed package."
      )
  })
  return keeping(options.refresh, (endpoint, host) =>
    Effect.gen(function*() {
      const provide = yield* load
      if (!isFunction(provide)) {
        return yield* unusable(
          `the password module ${name} exports no function ${options.export}`,
          "Export a function of { host, port, user, database } that gives the password, and name it in password.export."
        )
      }
      const answer = yield* Effect.tryPromise({
        try: async (signal) =>
          provide({ host: host.name, port: host.port, user: endpoint.user, database: endpoint.database, signal }),
        catch: (cause) =>
          failed(
            `the password module ${name} failed: ${
              PostgresError.codeOf(cause) ?? (cause instanceof Error ? cause.name : "unknown error")
            }`,
            "Call its function by hand to see what it says. The pipeline tries again by itself."
          )
      })
      const decoded = yield* Schema.decodeUnknownEffect(ModuleAnswer)(answer).pipe(
        Effect.mapError(() =>
          unusable(
            `the password module ${name} gave no password`,
            "Its function gives a text that is not empty, or { password, expires } with a Date or milliseconds since 1970."
          )
        )
      )
      return typeof decoded === "string"
        ? { password: Redacted.make(decoded), expires: undefined }
        : {
          password: Redacted.make(decoded.password),
          expires: decoded.expires === undefined ? undefined : Number(decoded.expires)
        }
    }).pipe(
      Effect.timeoutOrElse({
        duration: options.timeout,
        orElse: () => Effect.fail(timedOut(`the password module ${name}`, options.timeout))
      })
    ))
}
