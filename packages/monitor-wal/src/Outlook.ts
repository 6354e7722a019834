/**
 * How much WAL something keeps, how much more it may, and when that will be used up.
 */

export interface Outlook {
  /** Bytes that are kept now. */
  readonly used: number
  /** Bytes that may come until the budget is exhausted; undefined when nothing limits it. */
  readonly remaining: number | undefined
  /** `used` of the whole budget, from 0 to 1; undefined when nothing limits it. */
  readonly share: number | undefined
  /** Bytes per second by which `used` grows; negative when it falls, undefined before that is known. */
  readonly growth: number | undefined
  /**
   * Milliseconds until the budget is exhausted if it goes on like this: Infinity when it doesn't grow; undefined when growth or budget are not
   * known.
   */
  readonly left: number | undefined
}

/** What limits the WAL that a slot keeps; all that are known count, the tightest most. Bytes. */
export interface Limits {
  /** What may be written before the server gives the slot up (`safe_wal_size`). */
  readonly server: number | undefined
  /** What the slot may keep by configuration. */
  readonly budget: number | undefined
  /** What the disk has left for the log, by configuration. */
  readonly disk: number | undefined
}

/** The outlook of `used` bytes under `limits`, growing by `growth` bytes per second. */
export const make = (used: number, limits: Limits, growth: number | undefined): Outlook => {
  const rooms = [
    limits.server,
    limits.budget === undefined ? undefined : limits.budget - used,
    limits.disk
  ].filter((room) => room !== undefined)
  const remaining = rooms.length === 0 ? undefined : Math.max(0, Math.min(...rooms))
  const share = remaining === undefined ? undefined : remaining === 0 ? 1 : used / (used + remaining)
  const left = remaining === undefined || growth === undefined
    ? undefined
    : remaining === 0
    ? 0
    : growth > 0
    ? remaining / growth * 1000
    : Infinity
  return { used, remaining, share, growth, left }
}
