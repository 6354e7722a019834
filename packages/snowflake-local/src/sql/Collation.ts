/**
 * Collations of text columns: the rules by which their values are compared.
 *
 * DuckDB has those that leave case and accents out. A locale's order is kept by name only, and such columns sort as all others; rules on punctuation, spaces
 * and the case that is compared as are refused.
 */
import * as SnowflakeError from "../SnowflakeError.ts"

const locale = /^[a-z]{2,3}(_[a-z0-9]+)*$/
const known = new Set(["cs", "ci", "as", "ai", "ps", "fl", "fu"])
const refused = new Set(["pi", "upper", "lower", "trim", "ltrim", "rtrim"])

/** A specification, lower-cased; undefined for the empty one, which is none. */
export const parse = (given: string): string | undefined => {
  const specification = given.toLowerCase()
  if (specification === "") return undefined
  if (specification === "utf8") return specification
  const [first = "", ...options] = specification.split("-")
  for (const option of options) {
    if (refused.has(option)) throw SnowflakeError.unsupported(`the collation option ${option}`)
  }
  const wrong = !locale.test(first) ? first : options.find((option) => !known.has(option))
  if (wrong !== undefined) {
    throw SnowflakeError.invalidOption(`Invalid value '${given}' for COLLATION. Reason: Unknown option: ${wrong}`)
  }
  return specification
}

/** What stands behind a column's type in DuckDB. */
export const duckdb = (specification: string | undefined): string => {
  const options = new Set(specification?.split("-").slice(1))
  const names = [...(options.has("ci") ? ["NOCASE"] : []), ...(options.has("ai") ? ["NOACCENT"] : [])]
  return names.length === 0 ? "" : ` COLLATE ${names.join(".")}`
}

/** What stands behind a column's type in DESCRIBE TABLE. */
export const print = (specification: string | undefined): string =>
  specification === undefined ? "" : ` COLLATE '${specification}'`
