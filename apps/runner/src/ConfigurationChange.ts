/**
 * What is different between a configuration that runs and the one that its file holds now.
 *
 * Pipelines are compared by what the file says of them, references resolved: two that say the same run the same. Files that options name
 * (a key, a certificate) are not looked into.
 */
import * as Equal from "effect/Equal"
import type { Configuration } from "./Configuration.ts"

/** Names of pipelines. */
export interface ConfigurationChange {
  readonly unchanged: ReadonlyArray<string>
  readonly changed: ReadonlyArray<string>
  readonly added: ReadonlyArray<string>
  readonly removed: ReadonlyArray<string>
}

export const between = (before: Configuration, after: Configuration): ConfigurationChange => {
  const [old, now] = [before.input.pipelines, after.input.pipelines]
  const names = Object.keys(now)
  const kept = names.filter((name) => Object.hasOwn(old, name))
  const same = (name: string) => Equal.equals(old[name], now[name])
  return {
    unchanged: kept.filter(same),
    changed: kept.filter((name) => !same(name)),
    added: names.filter((name) => !Object.hasOwn(old, name)),
    removed: Object.keys(old).filter((name) => !Object.hasOwn(now, name))
  }
}

/** Sections that all pipelines share: they can't change while one runs. */
const shared = ["state", "memory", "telemetry", "http"] as const

/** The shared sections that differ. */
export const needingRestart = (before: Configuration, after: Configuration): ReadonlyArray<string> =>
  shared.filter((section) => !Equal.equals(before.input[section], after.input[section]))
