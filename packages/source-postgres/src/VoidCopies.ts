/**
 * Copies that a run found to be void while it read the log, for the next run of this process: by then nothing in the catalog tells of it.
 *
 * A process that forgets them reads the same log again, and finds the same.
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
