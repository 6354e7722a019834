/**
 * Errors of the HTTP API: problem JSON (RFC 9457), whose `detail` says what is wrong, with a stable `code` for programs and a `hint` for people.
 */
import * as HttpApiError from "effect/http-api/HttpApiError"
import * as Schema from "effect/Schema"
import type { ControlError } from "../ControlError.ts"

const fields = { code: Schema.String, detail: Schema.String, hint: Schema.String }

export class NotFound extends HttpApiError.Problem<NotFound>()("NotFound", {
  type: "urn:etl-stream:not-found",
  status: 404,
  title: "Not found"
}, fields) {}

export class BadRequest extends HttpApiError.Problem<BadRequest>()("BadRequest", {
  type: "urn:etl-stream:bad-request",
  status: 400,
  title: "Bad request"
}, fields) {}

export class Forbidden extends HttpApiError.Problem<Forbidden>()("Forbidden", {
  type: "urn:etl-stream:forbidden",
  status: 403,
  title: "Forbidden"
}, fields) {}

export class Conflict extends HttpApiError.Problem<Conflict>()("Conflict", {
  type: "urn:etl-stream:conflict",
  status: 409,
  title: "Conflict"
}, fields) {}

export class Unavailable extends HttpApiError.Problem<Unavailable>()("Unavailable", {
  type: "urn:etl-stream:unavailable",
  status: 503,
  title: "Unavailable"
}, fields) {}

/** What the API answers to what the supervisor refuses. */
export const fromControl = ({ hint, message, reason }: ControlError): NotFound | Conflict | Unavailable => {
  const problem = { code: reason, detail: message, hint }
  switch (reason) {
    case "UnknownPipeline":
      return new NotFound(problem)
    case "PausedByConfiguration":
    case "PipelineStopped":
      return new Conflict(problem)
    case "ShuttingDown":
    case "StateStore":
      return new Unavailable(problem)
  }
}
