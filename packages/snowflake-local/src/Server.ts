/**
 * The server: one HTTP port with the drivers' endpoints, staged files, Snowpipe Streaming and the local controls.
 *
 * A plain `node:http` server in a scope: uploads are streamed to disk, chunks from disk, and a fault may destroy a socket. Everything that was acknowledged is on disk
 * under `dataDir`; starting again on it after a kill gives the same account, without its sessions.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { IncomingMessage, ServerResponse } from "node:http"
import { createServer } from "node:http"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { setTimeout as delay } from "node:timers/promises"
import { Accounts } from "./Accounts.ts"
import * as AdminRoutes from "./AdminRoutes.ts"
import { Catalog } from "./Catalog.ts"
import type { Options } from "./Configuration.ts"
import { DriverFaults } from "./DriverFaults.ts"
import * as DriverRoutes from "./DriverRoutes.ts"
import type { Request } from "./Http.ts"
import { dropConnection, json } from "./Http.ts"
import { Queries } from "./Queries.ts"
import { Sessions } from "./Sessions.ts"
import * as StageFiles from "./StageFiles.ts"
import * as Storage from "./Storage.ts"
import * as StreamingRoutes from "./streaming/Routes.ts"
import { StreamingState } from "./streaming/StreamingState.ts"

export type { Options } from "./Configuration.ts"

/** The server can't listen. */
export class ListenError extends Schema.TaggedError<ListenError>()("@etl-stream/snowflake-local/Server/ListenError", {
  host: Schema.String,
  port: Schema.Int,
  message: Schema.String
}) {}

export interface Address {
  readonly url: string
  readonly port: number
}

type Services = Storage.Storage | Catalog | Accounts | Sessions | Queries | StreamingState

/** The longest body that is read into memory. */
const maxBodyBytes = 128 << 20

const read = async (request: IncomingMessage): Promise<Uint8Array | undefined> => {
  const parts: Array<Buffer> = []
  let size = 0
  for await (const part of request) {
    // A request without an encoding yields buffers.
    const bytes = part as Buffer
    size += bytes.length
    if (size > maxBodyBytes) return undefined
    parts.push(bytes)
  }
  return Buffer.concat(parts)
}

const send = async (response: ServerResponse, answer: DriverRoutes.Streamed): Promise<void> => {
  if (answer.status === dropConnection) {
    response.socket?.destroy()
    return
  }
  response.writeHead(answer.status, { ...answer.headers })
  if (answer.body instanceof Readable) await pipeline(answer.body, response)
  else response.end(answer.body)
}

const servicesLayer = (options: Options) => {
  const storage = Storage.Storage.layer(options.dataDir)
  const base = Layer.mergeAll(
    Catalog.layer,
    Accounts.layer({ account: options.account, users: options.users })
  ).pipe(Layer.provideMerge(storage))
  return Queries.layer(options).pipe(
    Layer.provideMerge(Sessions.layer(options)),
    Layer.provideMerge(StreamingState.layer(options.streaming)),
    Layer.provideMerge(base)
  )
}

const createDatabases = (names: ReadonlyArray<string>): Effect.Effect<void, Storage.StorageError, Catalog> =>
  Effect.gen(function*() {
    const catalog = yield* Catalog
    for (const name of names.map((given) => given.toUpperCase())) {
      if (catalog.hasDatabase(name)) continue
      yield* catalog.change((changes) => Effect.andThen(changes.putDatabase(name), changes.putSchema(name, "PUBLIC")))
    }
  })

const listen = (options: Options): Effect.Effect<Address, ListenError, Scope.Scope | Services> =>
  Effect.gen(function*() {
    const services = yield* Effect.context<Services>()
    const runPromise = Effect.runPromiseWith(services)
    const queries = yield* Queries
    const { dataDir } = yield* Storage.Storage
    const faults = new DriverFaults()
    const host = options.host ?? "127.0.0.1"
    const port = options.port ?? 0

    const route = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
      const url = new URL(incoming.url ?? "/", `http://${incoming.headers.host ?? host}`)
      const path = url.pathname
      if (path.startsWith("/stage/")) {
        const fault = faults.take("upload", path)
        if (fault?.kind === "status") return await send(response, { status: fault.status ?? 503, body: "" })
        if (fault?.kind === "delay") await delay(fault.millis ?? 1000)
        if (fault?.kind === "dropBefore") return await send(response, { status: dropConnection, body: "" })
        const answer = await StageFiles.handle(incoming, url, { dataDir, token: queries.stageToken })
        return await send(response, fault?.kind === "dropAfter" ? { status: dropConnection, body: "" } : answer)
      }
      const body = await read(incoming)
      if (body === undefined) return await send(response, { status: 413, body: "" })
      const headers = Object.fromEntries(Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]))
      const request: Request = { method: incoming.method ?? "GET", url, headers, body }
      if (path.startsWith("/v2/streaming") || path === "/oauth/token") {
        return await send(response, await runPromise(StreamingRoutes.handle(request)))
      }
      if (path.startsWith("/_local/") && options.admin === true) {
        const local = path.startsWith("/_local/streaming/")
          ? StreamingRoutes.handleLocal(request)
          : AdminRoutes.handle(request, faults)
        return await send(response, await runPromise(local))
      }
      const driver = DriverRoutes.handle(request, faults)
      return await send(
        response,
        driver === undefined ? json({ message: "Not found." }, 404) : await runPromise(driver)
      )
    }

    const server = createServer((incoming, response) => {
      route(incoming, response).catch(() => {
        // The client is gone, or the answer is half sent: there is nobody to tell.
        response.destroy()
      })
    })
    // Long queries are answered within a minute; a client that holds a connection may keep it.
    server.requestTimeout = 0
    server.keepAliveTimeout = 60_000

    const address = yield* Effect.acquireRelease(
      Effect.callback<Address, ListenError>((resume) => {
        server.once("error", (cause) => resume(Effect.fail(new ListenError({ host, port, message: cause.message }))))
        server.listen(port, host, () => {
          const bound = server.address()
          const actual = typeof bound === "object" && bound !== null ? bound.port : port
          resume(Effect.succeed({ url: `http://${host}:${actual}`, port: actual }))
        })
      }),
      () =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    )
    queries.setBaseUrl(address.url)
    return address
  })

/** Where a running server is. */
export class SnowflakeLocal
  extends Context.Service<SnowflakeLocal, Address>()("@etl-stream/snowflake-local/SnowflakeLocal")
{
  /** A server that runs as long as the layer. */
  static readonly layer = (options: Options): Layer.Layer<SnowflakeLocal, ListenError | Storage.StorageError> =>
    Layer.effect(
      SnowflakeLocal,
      Effect.andThen(createDatabases(options.databases ?? []), listen(options))
    ).pipe(Layer.provide(servicesLayer(options)))
}

/** Starts a server that runs as long as the scope. */
export const serve = (options: Options): Effect.Effect<Address, ListenError | Storage.StorageError, Scope.Scope> =>
  Effect.map(Layer.build(SnowflakeLocal.layer(options)), (services) => Context.get(services, SnowflakeLocal))
