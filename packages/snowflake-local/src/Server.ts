/**
 * The server: the drivers' endpoints, staged files, Snowpipe Streaming and the local controls, over HTTP, HTTPS or both.
 *
 * Uploads are streamed to disk, chunks from disk, and a fault may destroy a socket. A request is answered whatever host name it came to, and the URLs in an answer
 * lead back by the same one. Everything that was acknowledged is on disk under `dataDir`; starting again on it after a kill gives the same account, without its sessions.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { IncomingMessage, ServerResponse } from "node:http"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { setTimeout as delay } from "node:timers/promises"
import { Accounts } from "./Accounts.ts"
import * as AdminRoutes from "./AdminRoutes.ts"
import { Catalog } from "./Catalog.ts"
import type { Options } from "./Configuration.ts"
import { DriverFaults } from "./DriverFaults.ts"
import * as DriverRoutes from "./DriverRoutes.ts"
import { Grants } from "./Grants.ts"
import type { Request } from "./Http.ts"
import { dropConnection, json } from "./Http.ts"
import * as Listener from "./Listener.ts"
import { Queries } from "./Queries.ts"
import { Sessions } from "./Sessions.ts"
import * as StageFiles from "./StageFiles.ts"
import * as Storage from "./Storage.ts"
import * as StreamingRoutes from "./streaming/Routes.ts"
import { StreamingState } from "./streaming/StreamingState.ts"
import { TaskRuns } from "./TaskRuns.ts"
import * as TaskScheduler from "./TaskScheduler.ts"

export type { Options } from "./Configuration.ts"
export { ListenError } from "./Listener.ts"

/** Where a server listens: its first endpoint, and the one with TLS when it has one. */
export interface Address extends Listener.Endpoint {
  readonly https?: Listener.Endpoint | undefined
}

type Services = Storage.Storage | Catalog | Accounts | Grants | Sessions | Queries | StreamingState

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
  const storage = Storage.Storage.layer(options.dataDir, options.threads)
  const base = Layer.mergeAll(
    Catalog.layer,
    Accounts.layer({ account: options.account, users: options.users })
  ).pipe(Layer.provideMerge(storage))
  return TaskScheduler.layer(options.taskSpeedup ?? 1).pipe(
    Layer.provideMerge(Queries.layer(options)),
    Layer.provideMerge(TaskRuns.layer),
    Layer.provideMerge(Sessions.layer(options)),
    Layer.provideMerge(StreamingState.layer(options.streaming)),
    Layer.provideMerge(Grants.layer(options.enforcePrivileges ?? false)),
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

/** The URL that the client asked for; undefined when its Host header is none. */
const urlOf = (incoming: IncomingMessage, scheme: string, fallback: string): URL | undefined => {
  const origin = `${scheme}://${incoming.headers.host ?? fallback}`
  const target = incoming.url ?? "/"
  // A path that begins with two slashes must not become a host.
  const text = target.startsWith("/") ? `${origin}${target}` : target
  return URL.canParse(text) ? new URL(text) : undefined
}

const listen = (options: Options): Effect.Effect<Address, Listener.ListenError, Scope.Scope | Services> =>
  Effect.gen(function*() {
    const services = yield* Effect.context<Services>()
    const runPromise = Effect.runPromiseWith(services)
    const queries = yield* Queries
    const { dataDir } = yield* Storage.Storage
    const faults = new DriverFaults()
    const host = options.host ?? "127.0.0.1"

    const upload = async (incoming: IncomingMessage, url: URL): Promise<DriverRoutes.Streamed> => {
      const fault = faults.take("upload", url.pathname)
      const { body = "", headers = {}, kind, millis = 1000, status = 503 } = fault ?? {}
      if (kind === "status") return { status, headers, body }
      if (kind === "delay") await delay(millis)
      if (kind === "dropBefore") return { status: dropConnection, body: "" }
      const answer = await StageFiles.handle(incoming, url, { dataDir, token: queries.stageToken })
      if (kind === "delayAfter") await delay(millis)
      if (kind === "statusAfter") return { status, headers, body }
      return kind === "dropAfter" ? { status: dropConnection, body: "" } : answer
    }

    const route = (scheme: string) => async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
      const url = urlOf(incoming, scheme, host)
      if (url === undefined) return await send(response, json({ message: "The Host header is no host name." }, 400))
      const path = url.pathname
      if (path.startsWith("/stage/")) return await send(response, await upload(incoming, url))
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

    const https = options.tls === undefined
      ? undefined
      : yield* Listener.listen({ host, port: options.tls.port ?? 0, identity: options.tls }, route("https"))
    if (https !== undefined && options.http === false) return { ...https, https }
    const http = yield* Listener.listen({ host, port: options.port ?? 0 }, route("http"))
    return { ...http, ...(https === undefined ? {} : { https }) }
  })

/** Where a running server is. */
export class SnowflakeLocal
  extends Context.Service<SnowflakeLocal, Address>()("@etl-stream/snowflake-local/SnowflakeLocal")
{
  /** A server that runs as long as the layer. */
  static readonly layer = (
    options: Options
  ): Layer.Layer<SnowflakeLocal, Listener.ListenError | Storage.StorageError> =>
    Layer.effect(
      SnowflakeLocal,
      Effect.andThen(createDatabases(options.databases ?? []), listen(options))
    ).pipe(Layer.provide(servicesLayer(options)))
}

/** Starts a server that runs as long as the scope. */
export const serve = (
  options: Options
): Effect.Effect<Address, Listener.ListenError | Storage.StorageError, Scope.Scope> =>
  Effect.map(Layer.build(SnowflakeLocal.layer(options)), (services) => Context.get(services, SnowflakeLocal))
