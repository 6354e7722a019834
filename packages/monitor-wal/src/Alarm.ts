/**
 * Whether something has been so for long enough to be told, and has been over for long enough to be forgotten.
 *
 * `next` is pure: from what was known and what is seen to what is known. What hovers in between (neither met nor clearly over) changes nothing.
 */

/** Nothing of it: at rest. Times are milliseconds since 1970-01-01 UTC. */
export interface Alarm {
  /** Since when it is met without a break; kept while it is raised, as the time since when it has been so. */
  readonly since: number
  readonly raised: boolean
  /** Since when a raised one has been over without a break. */
  readonly overSince: number | undefined
}

export interface Seen {
  readonly met: boolean
  /** Clearly no longer so; not the opposite of `met`. */
  readonly over: boolean
}

/** `sustained`: milliseconds for which it has to be met before it is raised, and over before it is not. */
export const next = (
  alarm: Alarm | undefined,
  { met, over }: Seen,
  now: number,
  sustained: { readonly raise: number; readonly clear: number }
): Alarm | undefined => {
  if (alarm === undefined || !alarm.raised) {
    if (!met) return undefined
    // A clock that was set back must not make it wait for ever.
    const since = Math.min(alarm?.since ?? now, now)
    return { since, raised: now - since >= sustained.raise, overSince: undefined }
  }
  if (!over) return alarm.overSince === undefined ? alarm : { ...alarm, overSince: undefined }
  const overSince = Math.min(alarm.overSince ?? now, now)
  return now - overSince >= sustained.clear ? undefined : { ...alarm, overSince }
}
