/**
 * Faults that a test asks for, at the driver's endpoints.
 *
 * A fault strikes requests to its endpoint (and, for queries, whose text matches), as often and as late as it says. What happens "after" is the worst of them: everything is
 * done, and then the client is told otherwise or nothing at all. It can't know whether it happened, and has to ask again with the same request id.
 */
import * as Schema from "effect/Schema"
import { FaultRules, Turns } from "./FaultRules.ts"

const Endpoint = Schema.Literals([
  "login",
  "token",
  "query",
  "result",
  "monitoring",
  "chunk",
  "upload",
  "abort",
  "heartbeat"
])
export type Endpoint = typeof Endpoint.Type

/** A regular expression, refused here rather than when it is first needed. */
const Pattern = Schema.String.check(Schema.makeFilter((text: string) => {
  try {
    return new RegExp(text, "is") instanceof RegExp
  } catch {
    return "a regular expression"
  }
}))

export const Fault = Schema.Struct({
  endpoint: Endpoint,
  /**
   * Nothing is done: `status` answers with `status`, `headers` and `body`; `dropBefore` cuts the connection; `error` answers with a Snowflake error;
   * `expireSession` makes the session's token expire first, so that it has to be renewed; `endSession` ends the session, and rolls back its transaction.
   *
   * It is done: `delay` waits `millis` first, `delayAfter` afterwards; `dropAfter` cuts the connection instead of answering; `statusAfter` answers as `status` does.
   */
  kind: Schema.Literals([
    "status",
    "statusAfter",
    "delay",
    "delayAfter",
    "dropBefore",
    "dropAfter",
    "error",
    "expireSession",
    "endSession"
  ]),
  ...Turns,
  /** A regular expression (ignoring case) that the statement's text, or an upload's path, must match. */
  match: Schema.optionalKey(Pattern),
  /** Default 503. */
  status: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 200, maximum: 599 }))),
  /** E.g. `Retry-After`. */
  headers: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  body: Schema.optionalKey(Schema.String),
  /** Default 1000. */
  millis: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))),
  code: Schema.optionalKey(Schema.String),
  sqlState: Schema.optionalKey(Schema.String),
  message: Schema.optionalKey(Schema.String)
})
export type Fault = typeof Fault.Type

export class DriverFaults {
  private readonly rules = new FaultRules<Fault>()

  add(fault: Fault): void {
    this.rules.add(fault)
  }

  clear(): void {
    this.rules.clear()
  }

  list(): ReadonlyArray<Fault> {
    return this.rules.list()
  }

  /** The fault for this request, used up once. */
  take(endpoint: Endpoint, text = ""): Fault | undefined {
    return this.rules.take((fault) =>
      fault.endpoint === endpoint && (fault.match === undefined || new RegExp(fault.match, "is").test(text))
    )
  }
}
