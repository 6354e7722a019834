/**
 * `/_local/**`: what tests and the demo ask of the server beside Snowflake's protocols.
 *
 * `GET /_local/statements` is the statement log, `DELETE` empties it; `POST /_local/faults` adds a fault, `GET` lists and `DELETE` removes them. What lies under
 * `/_local/streaming/` belongs to Snowpipe Streaming.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as DriverFaults from "./DriverFaults.ts"
import type { Request, Response } from "./Http.ts"
import { json } from "./Http.ts"
import { Queries } from "./Queries.ts"

const FaultBody = Schema.fromJsonString(DriverFaults.Fault)

export const handle = (request: Request, faults: DriverFaults.DriverFaults): Effect.Effect<Response, never, Queries> =>
  Effect.gen(function*() {
    const { log } = yield* Queries
    switch (`${request.method} ${request.url.pathname}`) {
      case "GET /_local/statements":
        return json({ counts: Object.fromEntries(log.counts), statements: log.entries })
      case "DELETE /_local/statements":
        log.clear()
        return json({})
      case "GET /_local/faults":
        return json({ faults: faults.list() })
      case "DELETE /_local/faults":
        faults.clear()
        return json({ faults: [] })
      case "POST /_local/faults":
        return yield* Schema.decodeUnknownEffect(FaultBody)(Buffer.from(request.body).toString("utf8"), {
          onExcessProperty: "error"
        }).pipe(
          Effect.map((fault) => {
            faults.add(fault)
            return json({ faults: faults.list() })
          }),
          Effect.catch((error) => Effect.succeed(json({ message: String(error.message) }, 400)))
        )
      default:
        return json({ message: "There is no such local endpoint." }, 404)
    }
  })
