/**
 * Where a configuration names plugins, whatever else is wrong with it.
 */
import type { Kind } from "@etl-stream/core/Plugin"
import type { Path } from "./Problem.ts"

/** A stage that names a plugin. */
export interface PluginUse {
  /** As it is written. */
  readonly plugin: string
  readonly path: Path
  /** What is needed there. */
  readonly kind: Kind
}

/** Sections whose keys are names of stages. */
const named: Readonly<Record<string, Kind>> = {
  notifiers: "notifier",
  monitors: "monitor",
  sources: "source",
  sinks: "sink"
}

const entriesOf = (value: unknown): ReadonlyArray<readonly [string, unknown]> =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value) : []

const stage = (kind: Kind, path: Path, value: unknown): ReadonlyArray<PluginUse> => {
  const [, plugin] = entriesOf(value).find(([key]) => key === "plugin") ?? []
  return typeof plugin === "string" && plugin !== "" ? [{ plugin, path, kind }] : []
}

const inPipeline = (path: Path, pipeline: unknown): ReadonlyArray<PluginUse> =>
  entriesOf(pipeline).flatMap(([key, value]) => {
    switch (key) {
      case "source":
      case "sink":
      case "deadLetters":
        return stage(key, [...path, key], value)
      case "transforms":
        return Array.isArray(value)
          ? value.flatMap((transform: unknown, index) => stage("transform", [...path, key, index], transform))
          : []
      default:
        return []
    }
  })

/** Every stage of `document`, a plain value, that names a plugin, in the order in which they are written. */
export const find = (document: unknown): ReadonlyArray<PluginUse> =>
  entriesOf(document).flatMap(([section, value]) => {
    if (section === "state") return stage("state", [section], value)
    if (section === "pipelines") {
      return entriesOf(value).flatMap(([name, pipeline]) => inPipeline([section, name], pipeline))
    }
    const kind = Object.hasOwn(named, section) ? named[section] : undefined
    return kind === undefined ? [] : entriesOf(value).flatMap(([name, item]) => stage(kind, [section, name], item))
  })
