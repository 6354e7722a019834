/**
 * Faults that a test asks for, at the driver's endpoints.
 *
 * A fault applies to the next `count` requests to its endpoint (and, for queries, whose text matches). `dropAfter` does everything and then cuts the connection
 * instead of answering: the client can't know whether it happened, and has to ask again with the same request id.
 */
import * as Schema from "effect/Schema"

const Endpoint = Schema.Literals(["login", "query", "token", "upload", "chunk", "result"])
export type Endpoint = typeof Endpoint.Type

export const Fault = Schema.Struct({
  endpoint: Endpoint,
  /**
   * status: answer with `status` and do nothing. delay: wait `millis` first. dropBefore: cut the connection and do nothing. dropAfter: do it, then cut the connection.
   * error: answer with a Snowflake error and do nothing.
   */
  kind: Schema.Literals(["status", "delay", "dropBefore", "dropAfter", "error"]),
  count: Schema.Int.check(Schema.isGreaterThan(0)),
  /** A regular expression (ignoring case) that the statement's text must match. */
  match: Schema.optionalKey(Schema.String),
  status: Schema.optionalKey(Schema.Int),
  millis: Schema.optionalKey(Schema.Int),
  code: Schema.optionalKey(Schema.String),
  sqlState: Schema.optionalKey(Schema.String),
  message: Schema.optionalKey(Schema.String)
})
export type Fault = typeof Fault.Type

export class DriverFaults {
  private faults: Array<{ readonly fault: Fault; left: number }> = []

  add(fault: Fault): void {
    this.faults.push({ fault, left: fault.count })
  }

  clear(): void {
    this.faults = []
  }

  list(): ReadonlyArray<Fault> {
    return this.faults.map(({ fault, left }) => ({ ...fault, count: left }))
  }

  /** The fault for this request, used up once. */
  take(endpoint: Endpoint, text = ""): Fault | undefined {
    const found = this.faults.find(({ fault }) =>
      fault.endpoint === endpoint && (fault.match === undefined || new RegExp(fault.match, "is").test(text))
    )
    if (found === undefined) return undefined
    found.left--
    if (found.left === 0) this.faults = this.faults.filter((other) => other !== found)
    return found.fault
  }
}
