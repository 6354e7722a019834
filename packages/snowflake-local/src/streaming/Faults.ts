/**
 * Faults that a test asks for: the server then misbehaves in one exact way, a given number of times.
 *
 * `status` answers with a status and body of the test's choice; `dropBeforeStore` and `dropAfterStore` end the connection without an answer, before or
 * after the request took effect; `delay` answers late; `rejectRowSilently` skips the first row of an append and only counts it; `invalidateChannel`
 * makes the channel unusable until it is opened again; `holdCommits` keeps what is buffered uncommitted until the fault is removed.
 */
import * as Schema from "effect/Schema"

export const Endpoint = Schema.Literals(["hostname", "token", "open", "append", "status", "drop"])
export type Endpoint = typeof Endpoint.Type

export const Fault = Schema.Struct({
  kind: Schema.Literals([
    "status",
    "dropBeforeStore",
    "dropAfterStore",
    "delay",
    "rejectRowSilently",
    "invalidateChannel",
    "holdCommits"
  ]),
  /** Absent: every endpoint. `holdCommits` has none. */
  endpoint: Schema.optionalKey(Endpoint),
  /** Absent: every channel. A status request names several, so of all kinds only `invalidateChannel` heeds this there. */
  channel: Schema.optionalKey(Schema.String),
  /** How many requests it strikes; default 1. `holdCommits` lasts until it is removed. */
  count: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
  /** For `status`: the HTTP status; default 503. For `invalidateChannel` see `code`. */
  status: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 200, maximum: 599 }))),
  /** For `status`: any JSON, answered as it is, so an object `{"error_code": …}` and a bare string can be asked for. */
  body: Schema.optionalKey(Schema.Unknown),
  /** For `delay`: milliseconds; default 1000. */
  millis: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
  /** For `invalidateChannel`: the status code; default `ERR_CHANNEL_MUST_BE_REOPENED`. */
  code: Schema.optionalKey(Schema.String)
})
export type Fault = typeof Fault.Type

export class Faults {
  private armed: Array<{ readonly fault: Fault; left: number }> = []

  add(fault: Fault): void {
    this.armed.push({ fault, left: fault.count ?? 1 })
  }

  clear(): void {
    this.armed = []
  }

  list(): ReadonlyArray<Fault & { readonly count: number }> {
    return this.armed.map(({ fault, left }) => ({ ...fault, count: left }))
  }

  /** The next fault of this kind for a request, which is thereby used up once. */
  take(kind: Fault["kind"], endpoint: Endpoint, channel: string | undefined): Fault | undefined {
    const found = this.armed.find(({ fault }) =>
      fault.kind === kind && (fault.endpoint === undefined || fault.endpoint === endpoint) &&
      (fault.channel === undefined || fault.channel === channel)
    )
    if (found === undefined) return undefined
    found.left--
    if (found.left === 0) this.armed = this.armed.filter((armed) => armed !== found)
    return found.fault
  }

  /** Whether a channel's commits are held back. */
  holds(channel: string): boolean {
    return this.armed.some(({ fault }) =>
      fault.kind === "holdCommits" && (fault.channel === undefined || fault.channel === channel)
    )
  }
}
