/**
 * Connection service files (`pg_service.conf`): named sets of connection parameters, in libpq's own kind of ini.
 *
 * A section `[name]` is followed by `keyword=value`, one on a line, without quotes, and `#` begins a comment line. Spaces at a line's
 * ends are dropped, those around `=` belong to what they touch. The first section of a name counts.
 */
import * as Result from "effect/Result"
import type { Parameters } from "./ConnectionString.ts"

/** The parameters of a service; undefined when the file doesn't have it; or what is wrong, with the line and without its text. */
export const find = (text: string, service: string): Result.Result<Parameters | undefined, string> => {
  let found: Map<string, string> | undefined
  let inside = false
  for (const [index, raw] of text.replace(/^\uFEFF/, "").split("\n").entries()) {
    const line = raw.trim()
    if (line === "" || line.startsWith("#")) continue
    if (line.startsWith("[")) {
      if (inside) break
      inside = line === `[${service}]`
      if (inside) found = new Map()
      continue
    }
    if (!inside || found === undefined) continue
    const equals = line.indexOf("=")
    if (equals <= 0) return Result.fail(`line ${index + 1} is not of the form keyword=value`)
    const keyword = line.slice(0, equals)
    if (keyword === "service" || keyword === "servicefile") {
      return Result.fail(`line ${index + 1}: a service can't refer to another`)
    }
    // The first of a keyword counts, as in libpq.
    if (!found.has(keyword)) found.set(keyword, line.slice(equals + 1))
  }
  return Result.succeed(found)
}
