/**
 * Faults that a test asks for: the server then misbehaves in one exact way, as often and as late as asked.
 *
 * Nothing is done: `status` answers with a status and body of the test's choice, `dropBeforeStore` ends the connection without an answer, `expireToken` makes the
 * request's access token invalid for good. It is done, and then `dropAfterStore` ends the connection, `statusAfterStore` answers as `status` does. `delay` answers late.
 *
 * Channels: `rejectRowSilently` skips the first row of an append and only counts it; `invalidateChannel` makes the channel unusable until it is opened again;
 * `loseUncommitted` makes an open find nothing uncommitted, whatever was acknowledged, as after a failure of the service. Until they are removed, `holdCommits` keeps what
 * is buffered uncommitted, `slowCommits` commits it later, and `lateRows` reports it as committed while its rows don't show yet.
 */
import * as Schema from "effect/Schema"
import { FaultRules, Turns } from "../FaultRules.ts"

export const Endpoint = Schema.Literals(["hostname", "token", "open", "append", "status", "drop"])
export type Endpoint = typeof Endpoint.Type

export const Fault = Schema.Struct({
  kind: Schema.Literals([
    "status",
    "statusAfterStore",
    "dropBeforeStore",
    "dropAfterStore",
    "delay",
    "expireToken",
    "rejectRowSilently",
    "invalidateChannel",
    "loseUncommitted",
    "holdCommits",
    "slowCommits",
    "lateRows"
  ]),
  /** Absent: every endpoint. `holdCommits`, `slowCommits` and `lateRows` have none. */
  endpoint: Schema.optionalKey(Endpoint),
  /** Absent: every channel. A status request names several, so of all kinds only `invalidateChannel` heeds this there. */
  channel: Schema.optionalKey(Schema.String),
  /** `holdCommits`, `slowCommits` and `lateRows` last until they are removed. */
  ...Turns,
  /** For `status`: the HTTP status; default 503. For `invalidateChannel` see `code`. */
  status: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 200, maximum: 599 }))),
  /** For `status`: e.g. `Retry-After`. */
  headers: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  /** For `status`: any JSON, answered as it is, so an object `{"error_code": …}` and a bare string can be asked for. */
  body: Schema.optionalKey(Schema.Unknown),
  /** For `delay` and `slowCommits`: milliseconds; default 1000. */
  millis: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
  /** For `invalidateChannel`: the status code; default `ERR_CHANNEL_MUST_BE_REOPENED`. */
  code: Schema.optionalKey(Schema.String)
})
export type Fault = typeof Fault.Type

const defaultMillis = 1000

export class Faults {
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

  /** The next fault of this kind for a request, which is thereby used up once. */
  take(kind: Fault["kind"], endpoint: Endpoint, channel: string | undefined): Fault | undefined {
    return this.rules.take((fault) =>
      fault.kind === kind && (fault.endpoint === undefined || fault.endpoint === endpoint) &&
      (fault.channel === undefined || fault.channel === channel)
    )
  }

  /** Whether a channel's commits are held back. */
  holds(channel: string): boolean {
    return this.standing("holdCommits", channel) !== undefined || this.hides(channel)
  }

  /** Whether a channel reports as committed what doesn't show yet. */
  hides(channel: string): boolean {
    return this.standing("lateRows", channel) !== undefined
  }

  /** How much later a channel's commits come. */
  commitDelayMillis(channel: string): number {
    const fault = this.standing("slowCommits", channel)
    return fault === undefined ? 0 : fault.millis ?? defaultMillis
  }

  private standing(kind: Fault["kind"], channel: string): Fault | undefined {
    return this.rules.standing((fault) =>
      fault.kind === kind && (fault.channel === undefined || fault.channel === channel)
    )
  }
}
