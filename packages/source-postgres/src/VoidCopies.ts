/**
 * Copies that a run found to be void, for the next run of this process: by then nothing in the catalog may tell of it.
 *
 * What was found while the log was read, a process that forgets it reads again, and finds the same. What was found by looking at the catalog is forgotten by one that ends
 * between this run and the next.
 */
import type { Settings } from "./Config.ts"
import * as Endpoint from "./Endpoint.ts"

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
