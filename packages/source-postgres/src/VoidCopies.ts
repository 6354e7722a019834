/**
 * Copies that a run found to be void when nothing in the catalog tells the next run of it, for as long as the process lives.
 *
 * What was found while the log was read is found again by a process that forgets it: it reads the same log. What looks at the catalog saw is forgotten with the process: a
 * partition that came after the last start and went before the next one, or so a value of an enum.
 */
import type { Settings } from "./Config.ts"
import * as Endpoint from "./Endpoint.ts"
import type * as Lsn from "./Lsn.ts"
import * as TableOrigin from "./TableOrigin.ts"

const found = new Map<string, string>()

const key = ({ endpoint, slot }: Settings, oid: number): string =>
  JSON.stringify([Endpoint.describe(endpoint), slot.name, oid])

export const note = (settings: Settings, oid: number, why: string): void => void found.set(key(settings, oid), why)

/** Why the copy of a table is void, when a run found that; asked once. */
export const take = (settings: Settings, oid: number): string | undefined => {
  const at = key(settings, oid)
  const why = found.get(at)
  found.delete(at)
  return why
}

/** A table since a copy of it began: as it was seen last, and why the copy is void. */
interface Sighting {
  readonly origin: TableOrigin.Origin
  readonly why: string | undefined
}

/** By table, then by where the copy began: the sink may give back one that a later one was to take the place of. */
const sightings = new Map<string, Map<Lsn.Lsn, Sighting>>()

/**
 * Notes how a table looks `now`, whose copy began at `copy`. Why that is void by what happened since it was seen last (`TableOrigin.overtaken`); undefined when nothing did, and when that
 * was told before.
 */
export const see = (
  settings: Settings,
  oid: number,
  copy: Lsn.Lsn,
  now: TableOrigin.Origin
): string | undefined => {
  const at = key(settings, oid)
  const copies = sightings.get(at) ?? new Map<Lsn.Lsn, Sighting>()
  const before = copies.get(copy)
  const why = before && TableOrigin.overtaken(before.origin, now, settings.removedPartitions === "keep")
  sightings.set(at, copies.set(copy, { origin: now, why: before?.why ?? why }))
  return why
}

/** Forgets all copies of a table but the one that the sink holds, if it holds one. */
export const keepOnly = (settings: Settings, oid: number, copy: Lsn.Lsn | undefined): void => {
  const at = key(settings, oid)
  const held = copy === undefined ? undefined : sightings.get(at)?.get(copy)
  if (copy === undefined || held === undefined) sightings.delete(at)
  else sightings.set(at, new Map([[copy, held]]))
}

/** Why the copy that began at `copy` is void by what was seen since. */
export const seen = (settings: Settings, oid: number, copy: Lsn.Lsn): string | undefined =>
  sightings.get(key(settings, oid))?.get(copy)?.why
