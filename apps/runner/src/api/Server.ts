/**
 * The HTTP API's server: the API, its description (`/openapi.json`, `/docs`), probes (`/livez`, `/readyz`) and `/metrics`.
 *
 * Liveness is the supervisor's: it fails when pipelines are no longer looked after, which only a restart of the process mends. The process is ready whatever single
 * pipelines do; `/readyz?verbose` lists those that are degraded.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiScalar from "effect/http-api/HttpApiScalar"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import type { ServeError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as ProblemDetails from "effect/http/ProblemDetails"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { createServer } from "node:http"
import type { Stage } from "../Configuration.ts"
import { isLoopback } from "../Loopback.ts"
import * as PrometheusText from "../PrometheusText.ts"
import type { Redaction } from "../Redaction.ts"
import type { Supervisor } from "../Supervisor.ts"
import { Api, Validation } from "./Api.ts"
import * as Board from "./Board.ts"
import * as EventStream from "./EventStream.ts"
import * as Guard from "./Guard.ts"
import * as Handlers from "./Handlers.ts"
import { BadRequest } from "./Problems.ts"
import * as Status from "./Status.ts"

export interface Options {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  readonly token: Redacted.Redacted<string> | undefined
  /** Further names by which it may be asked for on loopback. */
  readonly hosts: ReadonlyArray<string>
  readonly tapValues: boolean
  readonly supervisor: Supervisor
  readonly redact: Redaction
  /** What monitors see; none when not given. */
  readonly monitors?: () => ReadonlyArray<Handlers.MonitorStatus>
  readonly state: Stage<"state">
  readonly directory: string
  /** Whether the process is being stopped. */
  readonly isStopping: () => boolean
  /** How often pipelines are looked at for events. 1 second by default. */
  readonly lookEvery?: Duration.Duration
}

/** So many connections at a time, event streams included. */
const mostConnections = 256

const text = (body: string, status = 200) =>
  HttpServerResponse.text(`${body}\n`, { status, headers: { "cache-control": "no-store" } })

const livez = ({ supervisor }: Options) =>
  HttpRouter.add(
    "GET",
    "/livez",
    () => Effect.map(supervisor.stuck, (why) => why === undefined ? text("ok") : text(`stuck: ${why}`, 503))
  )

const readyz = ({ isStopping, supervisor }: Options) =>
  HttpRouter.add("GET", "/readyz", () =>
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const now = yield* Clock.currentTimeMillis
      const stuck = yield* supervisor.stuck
      const reason = isStopping() ? "stopping" : stuck
      const status = reason === undefined ? 200 : 503
      if (!/\?(.*&)?verbose\b/.test(request.url)) return text(reason ?? "ok", status)
      const pipelines = supervisor.pipelines().map((pipeline) => {
        const wrong = Status.degradations(pipeline, pipeline.progress.snapshot(now))
        return wrong.length === 0
          ? `[+] ${pipeline.name} ${pipeline.activity()}`
          : `[!] ${pipeline.name} ${pipeline.activity()}, degraded: ${wrong.join(", ")}`
      })
      return text(
        [`[${reason === undefined ? "+" : "-"}] supervisor ${reason ?? "ok"}`, ...pipelines].join("\n"),
        status
      )
    }))

const metrics = HttpRouter.add(
  "GET",
  "/metrics",
  () =>
    Effect.map(
      PrometheusText.render(),
      (body) => HttpServerResponse.text(body, { contentType: PrometheusText.contentType })
    )
)

const validation = HttpApiMiddleware.layerSchemaErrorTransform(
  Validation,
  (error) =>
    error.kind === "Body" || error.kind === "ResponseHeaders"
      ? Effect.fail(error)
      : Effect.fail(
        new BadRequest({
          code: "InvalidRequest",
          detail: `${error.kind} of the request: ${error.cause.message}`,
          hint: "See /docs for what is expected."
        })
      )
)

/** Requests are of no interest to who traces pipelines, and streams would be endless spans. */
const untraced = Layer.succeed(HttpMiddleware.TracerDisabledWhen, () => true)

const unknown = HttpRouter.add("*", "/*", () =>
  Effect.succeed(ProblemDetails.toResponse({
    type: "about:blank",
    status: 404,
    title: "Not found",
    code: "UnknownPath",
    detail: "There is nothing at this path",
    hint: "See /docs for what there is."
  })))

/** Serves until the scope closes; gives the URL that it is reached by. */
export const serve = Effect.fn("Server.serve")(function*(
  options: Options
): Effect.fn.Return<string, ServeError, Scope.Scope> {
  const { host, port, redact, supervisor } = options
  const board = yield* Board.make({
    pipelines: supervisor.pipelines,
    redact,
    every: options.lookEvery ?? Duration.seconds(1)
  })
  const handling: Handlers.Options = {
    supervisor,
    board,
    redact,
    streams: EventStream.streams(),
    monitors: options.monitors ?? (() => []),
    state: options.state,
    directory: options.directory,
    tapValues: options.tapValues
  }
  const routes = Layer.mergeAll(
    HttpApiBuilder.layer(Api, { openapiPath: "/openapi.json" }).pipe(
      Layer.provide([Handlers.pipelines(handling), Handlers.process(handling)]),
      Layer.provide(validation)
    ),
    HttpApiScalar.layer(Api, { path: "/docs" }),
    livez(options),
    readyz(options),
    metrics,
    unknown
  ).pipe(Layer.provide(
    Guard.layer({ token: options.token, loopback: isLoopback(host), hosts: options.hosts })
  ))
  const server = createServer({ requestTimeout: 30_000, headersTimeout: 10_000, keepAliveTimeout: 5_000 })
  server.maxConnections = mostConnections
  // A connection that can't be accepted is no reason to end the process; that it can't listen at all is told below.
  server.on("error", () => {})
  const app = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true })
  const context = yield* Layer.build(
    Layer.provideMerge(app, untraced).pipe(
      Layer.provideMerge(NodeHttpServer.layer(() => server, { host, port, gracefulShutdownTimeout: "100 millis" }))
    )
  )
  // What is still open must not hold up the end of the process.
  yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  const { address } = yield* Effect.provideContext(HttpServer.HttpServer, context)
  const bound = "port" in address ? address.port : port
  const shown = host.includes(":") ? `[${host}]` : host
  return `http://${shown}:${bound}`
})
