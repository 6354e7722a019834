/**
 * What a column should hold for the server's text of a value: written with BigInt, Date and regular expressions, and so
 * independent of the decoders, which use none of them.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"

const day = 86_400n

const epochSeconds = (year: number, month: number, date: number): bigint => {
  // Date knows years from 0 to 9999 without tricks; the calendar repeats every 400 years.
  const cycles = Math.floor(year / 400) - 4
  const shifted = new Date(Date.UTC(year - cycles * 400, month - 1, date))
  return BigInt(shifted.getTime() / 1000) + BigInt(cycles) * 146_097n * day
}

const timestamp = (text: string): string => {
  if (text === "infinity") return String(2n ** 63n - 1n)
  if (text === "-infinity") return String(-(2n ** 63n))
  const match = /^(\d{4,})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:\+00)?( BC)?$/.exec(text)
  if (match === null) throw new Error("an unexpected timestamp")
  const [, year, month, date, hours, minutes, seconds, fraction, bc] = match
  const y = bc === undefined ? Number(year) : 1 - Number(year)
  const whole = epochSeconds(y, Number(month), Number(date)) + BigInt(hours ?? 0) * 3600n + BigInt(minutes ?? 0) * 60n +
    BigInt(seconds ?? 0)
  return String(whole * 1_000_000n + BigInt((fraction ?? "").padEnd(6, "0")))
}

const dateOf = (text: string): string => {
  if (text === "infinity") return "2147483647"
  if (text === "-infinity") return "-2147483648"
  const match = /^(\d{4,})-(\d\d)-(\d\d)( BC)?$/.exec(text)
  if (match === null) throw new Error("an unexpected date")
  const year = match[4] === undefined ? Number(match[1]) : 1 - Number(match[1])
  return String(epochSeconds(year, Number(match[2]), Number(match[3])) / day)
}

const timeOf = (text: string): string => {
  const [whole = "", fraction = ""] = text.split(".")
  const [hours = 0, minutes = 0, seconds = 0] = whole.split(":").map(Number)
  return String(BigInt((hours * 60 + minutes) * 60 + seconds) * 1_000_000n + BigInt(fraction.padEnd(6, "0")))
}

const float = (value: number): string => Object.is(value, -0) ? "-0" : String(value)

/** In the form of `columnValues.valueAt`. */
export const expectedValue = (type: LogicalType, text: string): string => {
  switch (type._tag) {
    case "Boolean":
      return text === "t" || text === "true" ? "true" : "false"
    case "Int16":
    case "Int32":
    case "Int64":
      return String(BigInt(text))
    case "Float32":
      return float(Math.fround(Number(text)))
    case "Float64":
      return float(Number(text))
    case "Binary":
      return text.slice(2)
    case "Date":
      return dateOf(text)
    case "Time":
      return timeOf(text)
    case "Timestamp":
      return timestamp(text)
    default:
      return text
  }
}
