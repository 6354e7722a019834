/**
 * What only one running pipeline should have at a time: its slot, which has one reader, and its tables, whose target a pipeline that takes them over must
 * not write to before the one that had them is done.
 */
import type { PluginContext } from "@etl-stream/core/Plugin"
import * as Redacted from "effect/Redacted"
import * as Config from "./Config.ts"

/** A URL without user, password and parameters: the same database with another password is the same. */
const place = (url: Config.Config["url"]): string =>
  url === undefined ? "" : Redacted.value(url)
    .replace(/^([a-z]+:\/\/)[^/]*@/i, "$1").replace(/\?.*$/, "")

/** Up to its first wildcard; quotes say nothing about which table it is. */
const prefix = (pattern: string): string => pattern.replace(/\*.*$/s, "*").replaceAll("\"", "")

export const of = (config: Config.Config, { pipeline }: PluginContext): ReadonlyArray<string> => {
  const { database, host, port, service, slot, tables, url } = config
  const server = JSON.stringify([place(url), host, port, database, service])
  return [
    `${server} slot ${slot.name ?? Config.objectName(pipeline)}`,
    ...tables.map((pattern) => `${server} table ${prefix(pattern)}`)
  ]
}
