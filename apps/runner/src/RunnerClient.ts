/**
 * Asks a running etl-stream by its HTTP API: where it is, its token, and its errors as those of a command.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { ApiCode, CommandError, internal, redacted, usage } from "./CommandError.ts"
import * as Configuration from "./Configuration.ts"
import { ExitCode } from "./ExitCode.ts"
import * as Redaction from "./Redaction.ts"

/** How a command is told where the process is. */
export interface Where {
  /** Base URL; when it isn't given, that of `file`, or else http://127.0.0.1:8086. */
  readonly url: string | undefined
  /** A configuration file with a section `http`. */
  readonly file: string | undefined
}

export interface RunnerClient {
  readonly url: string
  readonly ask: <A>(
    method: "GET" | "PUT" | "POST",
    path: string,
    answer: Schema.Codec<A, unknown>,
    body?: unknown
  ) => Effect.Effect<A, CommandError>
  /** The data of server-sent events, until the server ends them. */
  readonly events: <A>(path: string, event: Schema.Codec<A, unknown>) => Stream.Stream<A, CommandError>
}

/** The environment variable with the token. */
export const tokenVariable = "ETL_STREAM_TOKEN"

const fallback = "http://127.0.0.1:8086"

/** How long an answer may take that waits for nothing. */
const patience = Duration.seconds(30)

const Problem = Schema.fromJsonString(
  Schema.Struct({ code: Schema.String, detail: Schema.String, hint: Schema.String })
)

const decodeProblem = Schema.decodeUnknownOption(Problem)
const decodeCode = Schema.decodeUnknownOption(ApiCode)

const exitCodeOf = (status: number): CommandError["exitCode"] => {
  switch (status) {
    case 400:
    case 404:
      return ExitCode.validation
    case 401:
    case 403:
    case 421:
    case 503:
      return ExitCode.environment
    default:
      return ExitCode.runtime
  }
}

const unreachable = (url: string): CommandError =>
  new CommandError({
    code: "Unreachable",
    message: `No etl-stream answers at ${url}`,
    hint:
      "Is `etl-stream run` running, with a section `http` in its file or `--http`? Say where it is with `--url` or `--file`.",
    exitCode: ExitCode.environment
  })

const notOurs = (url: string): CommandError =>
  new CommandError({
    code: "ApiError",
    message: `What answers at ${url} isn't an etl-stream of this version`,
    hint: "Say where it is with `--url` or `--file`; run the same version as it.",
    exitCode: ExitCode.runtime
  })

/** A listening address as one to connect to. */
const reachable = (host: string): string => {
  const name = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host
  return name.includes(":") && !name.startsWith("[") ? `[${name}]` : name
}

const locate = Effect.fnUntraced(function*({ file, url }: Where) {
  const fromEnvironment = process.env[tokenVariable]
  const token = fromEnvironment === undefined || fromEnvironment === "" ? undefined : Redacted.make(fromEnvironment)
  if (url !== undefined && !/^https?:\/\//i.test(url)) {
    return yield* usage(`${url} is not a URL of http or https`, "Write it as http://127.0.0.1:8086.")
  }
  const given = url?.replace(/\/+$/, "")
  if (file === undefined) return { url: given ?? fallback, token, redact: Redaction.none }
  const configuration = yield* Configuration.load(file, { environment: process.env, offline: false })
  if (configuration === undefined) return yield* internal("Loading the configuration", undefined)
  const { http, redact } = configuration
  if (given === undefined && http?.port === 0) {
    return yield* usage(
      `${file} lets the API take any free port`,
      "Say which one it took with `--url`: its log has it."
    )
  }
  return {
    url: given ?? (http === undefined ? fallback : `http://${reachable(http.host)}:${http.port}`),
    token: token ?? http?.token,
    redact
  }
})

/** A client for the process that is told by `where`. */
export const make = Effect.fn("RunnerClient.make")(function*(
  where: Where
): Effect.fn.Return<RunnerClient, CommandError> {
  const { redact, token, url } = yield* locate(where)
  const secrets = token === undefined ? Redaction.none : Redaction.make(new Set([Redacted.value(token)]))
  const hidden = (error: CommandError): CommandError => redacted(error, (text) => secrets(redact(text)))

  const refused = (response: HttpClientResponse): Effect.Effect<never, CommandError> =>
    response.text.pipe(
      Effect.orElseSucceed(() => ""),
      Effect.flatMap((text) => {
        const problem = decodeProblem(text)
        if (Option.isNone(problem)) return Effect.fail(notOurs(url))
        const { code, detail, hint } = problem.value
        return Effect.fail(
          new CommandError({
            code: Option.getOrElse(decodeCode(code), () => "ApiError" as const),
            message: detail,
            hint: response.status === 401
              ? `Set ${tokenVariable} to the token of \`http.token\`, or name the configuration with \`--file\`.`
              : hint,
            exitCode: exitCodeOf(response.status)
          })
        )
      })
    )

  const send = Effect.fnUntraced(function*(method: "GET" | "PUT" | "POST", path: string, body: unknown) {
    const client = yield* HttpClient.HttpClient
    const plain = HttpClientRequest.make(method)(`${url}${path}`)
    const authorized = token === undefined ? plain : HttpClientRequest.bearerToken(plain, token)
    const request = body === undefined ? authorized : HttpClientRequest.bodyJsonUnsafe(authorized, body)
    const response = yield* Effect.mapError(client.execute(request), () => unreachable(url))
    return response.status >= 400 ? yield* refused(response) : response
  }, Effect.provide(FetchHttpClient.layer))

  return {
    url,
    ask: (method, path, answer, body) => {
      const asked = send(method, path, body).pipe(
        Effect.flatMap((response) => Effect.mapError(response.text, () => unreachable(url))),
        Effect.flatMap((text) =>
          Effect.mapError(Schema.decodeUnknownEffect(Schema.fromJsonString(answer))(text), () => notOurs(url))
        ),
        Effect.mapError(hidden)
      )
      // A drain that is waited for has a deadline of its own, which the server knows.
      return path.includes("wait=true")
        ? asked
        : Effect.timeoutOrElse(asked, { duration: patience, orElse: () => Effect.fail(unreachable(url)) })
    },
    events: (path, event) => {
      const decode = Schema.decodeUnknownOption(Schema.fromJsonString(event))
      return Stream.unwrap(Effect.map(send("GET", path, undefined), (response) => response.stream)).pipe(
        Stream.mapError((error) => error instanceof CommandError ? error : unreachable(url)),
        Stream.decodeText(),
        Stream.splitLines,
        Stream.filter((line) => line.startsWith("data: ")),
        Stream.map((line) => decode(line.slice("data: ".length))),
        Stream.filter(Option.isSome),
        Stream.map(({ value }) => value),
        Stream.mapError(hidden)
      )
    }
  }
})
