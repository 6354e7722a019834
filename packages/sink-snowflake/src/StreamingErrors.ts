/**
 * What to do about each error of Snowpipe Streaming: from its code, number or HTTP status to action, reason and hint.
 *
 * `docs/snowflake-errors.md` is written from the same table (`StreamingErrorCodes`); nothing else in this package looks at these codes. A code that isn't in
 * the table is judged by its HTTP status.
 */
import type { Policy } from "./ErrorPolicy.ts"
import type { StatusEntry } from "./StreamingErrorCodes.ts"
import { byStatus, defect, entries, malformed, refused, reopen, retry, split } from "./StreamingErrorCodes.ts"

/** Where an error came up: opening can't be mended by opening again. */
export type Occasion = "open" | "append" | "other"

const byCode = new Map(entries.map((entry) => [entry.code, entry]))
const byNumber = new Map(entries.flatMap((entry) => entry.number === undefined ? [] : [[entry.number, entry] as const]))

/** HTTP statuses, for the page about errors. */
export const statuses: ReadonlyArray<StatusEntry> = Object.values(byStatus)

const ofStatus = (status: number, code: string | undefined, occasion: Occasion): Policy => {
  switch (status) {
    case 401:
      return byStatus.unauthorized.policy
    case 403:
      return byStatus.forbidden.policy
    case 404:
      return (code === undefined ? byStatus.noRoute : byStatus.missing).policy
    case 408:
      return byStatus.timeout.policy
    case 409:
      return occasion === "open" ? refused : byStatus.conflict.policy
    case 410:
      return occasion === "open" ? retry : byStatus.failedOver.policy
    case 415:
      return byStatus.coding.policy
    case 422:
      return byStatus.badRow.policy
    case 429:
      return byStatus.throttled.policy
    default:
      return (status >= 500 ? byStatus.unavailable : byStatus.other).policy
  }
}

/** What to do about a refusal: its HTTP status and the code that its body named, if any. */
export const refusal = (status: number, code: string | undefined, occasion: Occasion = "other"): Policy => {
  // Whatever the code says: the same request would be as large again.
  if (status === 413) return split
  const known = code === undefined ? undefined : byCode.get(code)
  if (known === undefined) return ofStatus(status, code, occasion)
  return occasion === "open" ? known.atOpen ?? known.policy : known.policy
}

/**
 * What to do about an append that was answered with 200 and a `status_code` other than 0. Clients don't agree on all numbers, and whether rows
 * were taken isn't said: unless it is sure that they weren't and never will be, the channel is opened again, which tells.
 */
export const appendStatus = (statusCode: number | string): Policy => {
  const number = Number(statusCode)
  const known = byNumber.get(number) ?? byCode.get(String(statusCode))
  return known?.policy ?? (malformed.includes(number) ? defect : reopen)
}

/** Whether a `channel_status_code` says that the channel works. */
export const isHealthy = (channelStatusCode: string): boolean =>
  channelStatusCode === "SUCCESS" || channelStatusCode === "ACTIVE" || channelStatusCode === "0"

/** What to do about a channel whose status is not healthy. A status is kept until the channel is opened again, so that asking again is no use. */
export const channelStatus = (channelStatusCode: string): Policy => {
  const known = (byCode.get(channelStatusCode) ?? byNumber.get(Number(channelStatusCode)))?.policy
  return known === undefined || known.action === "retry" ? reopen : known
}
