/**
 * The HTTP API's description: what can be asked, and what comes back. Servers, clients and the OpenAPI document are made of it.
 */
import * as Effect from "effect/Effect"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import * as Model from "./Model.ts"
import { BadRequest, Conflict, Forbidden, NotFound, Unavailable } from "./Problems.ts"

const params = { name: Schema.String }
const flag = Schema.Literals(["true", "false"]).pipe(Schema.withDecodingDefaultKey(Effect.succeed("false" as const)))

const request = <const Name extends "pause" | "resume" | "stop">(name: Name, description: string) =>
  HttpApiEndpoint.put(name, `/pipelines/:name/${name}`, {
    params,
    // Waits until it is done, not only asked for.
    query: { wait: flag },
    success: Model.Requested,
    error: [NotFound, Conflict, Unavailable]
  }).annotateMerge(OpenApi.annotations({ summary: `${name} a pipeline`, description }))

export class Pipelines extends HttpApiGroup.make("pipelines").add(
  HttpApiEndpoint.get("list", "/pipelines", { success: Model.Pipelines }).annotateMerge(
    OpenApi.annotations({ summary: "All pipelines", description: "What each is doing, without its tables." })
  ),
  HttpApiEndpoint.get("get", "/pipelines/:name", { params, success: Model.Pipeline, error: NotFound }).annotateMerge(
    OpenApi.annotations({ summary: "A pipeline and its tables" })
  ),
  request(
    "pause",
    "It drains and waits until it is resumed; it keeps its place, and its source keeps the log for it. Asking again changes nothing."
  ),
  request(
    "resume",
    "It runs again, whether it was paused, was stopped or has ended. Refused while its configuration says `status: paused`."
  ),
  request(
    "stop",
    "It drains and ends until it is resumed, and nothing of it stays in the process; its source keeps the log for it. Asking again changes nothing."
  ),
  HttpApiEndpoint.post("resync", "/pipelines/:name/resync", {
    params,
    payload: Schema.Struct({
      tables: Schema.Array(Schema.NonEmptyString.check(Schema.isMaxLength(300))).check(
        Schema.isMinLength(1),
        Schema.isMaxLength(1000)
      )
    }),
    success: Model.ResyncRequests.pipe(HttpApiSchema.status(202)),
    error: [NotFound, BadRequest, Conflict, Unavailable]
  }).annotateMerge(
    OpenApi.annotations({
      summary: "Copy tables again",
      description:
        "Tables as the source names them: schema.name. A table that waits for a copy already isn't asked for again."
    })
  ),
  HttpApiEndpoint.get("offsets", "/pipelines/:name/offsets", { params, success: Model.Offsets, error: NotFound })
    .annotateMerge(OpenApi.annotations({ summary: "How far a pipeline is, per table" })),
  HttpApiEndpoint.get("deadLetters", "/pipelines/:name/dead-letters", {
    params,
    query: {
      table: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(300))),
      limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1000 })).pipe(
        Schema.withDecodingDefaultKey(Effect.succeed(100))
      )
    },
    success: Model.DeadLetters,
    error: [NotFound, BadRequest, Unavailable]
  }).annotateMerge(
    OpenApi.annotations({
      summary: "What could not be written",
      description: "Without the values: see `etl-stream dlq show`."
    })
  ),
  HttpApiEndpoint.get("pipelineEvents", "/pipelines/:name/events", {
    params,
    success: HttpApiSchema.StreamSse({ data: Model.Event }),
    error: [NotFound, Unavailable]
  }).annotateMerge(OpenApi.annotations({ summary: "What happens in a pipeline, as server-sent events" })),
  HttpApiEndpoint.get("tap", "/pipelines/:name/tap", {
    params,
    query: {
      table: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(300))),
      values: flag
    },
    success: HttpApiSchema.StreamSse({ data: Model.Sample }),
    error: [NotFound, Forbidden, Unavailable]
  }).annotateMerge(
    OpenApi.annotations({
      summary: "Samples of what passes from source to sink, as server-sent events",
      description:
        "At most 20 a second. Values of rows only with `values=true`, and only when the configuration allows it (`http.tapValues`)."
    })
  )
).prefix("/v1") {}

export class Process extends HttpApiGroup.make("process").add(
  HttpApiEndpoint.get("events", "/events", {
    success: HttpApiSchema.StreamSse({ data: Model.Event }),
    error: Unavailable
  }).annotateMerge(OpenApi.annotations({ summary: "What happens in all pipelines, as server-sent events" })),
  HttpApiEndpoint.get("monitors", "/monitors", { success: Model.Monitors }).annotateMerge(
    OpenApi.annotations({ summary: "What monitors see" })
  ),
  HttpApiEndpoint.get("plugins", "/plugins", { success: Model.Plugins }).annotateMerge(
    OpenApi.annotations({ summary: "The plugins that pipelines use" })
  )
).prefix("/v1") {}

/** Says what is wrong with a request that doesn't decode. */
export class Validation extends HttpApiMiddleware.Service<Validation>()("@etl-stream/runner/api/Validation", {
  error: BadRequest
}) {}

export class Api extends HttpApi.make("etl-stream")
  .add(Pipelines)
  .add(Process)
  .middleware(Validation)
  .annotateMerge(OpenApi.annotations({
    title: "etl-stream",
    version: "1",
    description:
      "Status and control of a running etl-stream. Errors are problem JSON (RFC 9457) with `code` and `hint`. A token, when one is configured, goes into `Authorization: Bearer`."
  }))
{}
