/**
 * Days, times and timestamps as text and back, in the proleptic Gregorian calendar, for all values that the logical types hold.
 *
 * JavaScript's `Date` knows milliseconds and ends at the year 275,760; PostgreSQL's timestamps have microseconds and go on to 294,276.
 */

const microsPerDay = 86_400_000_000n
export const microsPerSecond = 1_000_000n

/** Year, month (1-12) and day (1-31) of a day since 1970-01-01. */
export const civil = (days: number): readonly [year: number, month: number, day: number] => {
  // Howard Hinnant's algorithm: years begin in March, so that the leap day comes last.
  const shifted = days + 719_468
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const march = Math.floor((5 * dayOfYear + 2) / 153)
  const month = march < 10 ? march + 3 : march - 9
  return [yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - Math.floor((153 * march + 2) / 5) + 1]
}

/** The day since 1970-01-01 of a date. */
export const dayOf = (year: number, month: number, day: number): number => {
  const shifted = month <= 2 ? year - 1 : year
  const era = Math.floor(shifted / 400)
  const yearOfEra = shifted - era * 400
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1
  return era * 146_097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear -
    719_468
}

const two = (value: number): string => String(value).padStart(2, "0")

/** `2026-02-28`; years beyond four digits with a sign and six digits, as ISO 8601 has them (the year before 1 is 0). */
export const dateText = (days: number): string => {
  const [year, month, day] = civil(days)
  const text = year >= 0 && year <= 9999
    ? String(year).padStart(4, "0")
    : `${year < 0 ? "-" : "+"}${String(Math.abs(year)).padStart(6, "0")}`
  return `${text}-${two(month)}-${two(day)}`
}

/** `13:05:00`, with `.000001` when there are microseconds. */
export const timeText = (micros: number): string => {
  const seconds = Math.floor(micros / 1_000_000)
  const fraction = micros - seconds * 1_000_000
  const text = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`
  return fraction === 0 ? text : `${text}.${String(fraction).padStart(6, "0")}`
}

/** The day and the microseconds within it, of microseconds since 1970-01-01. */
export const split = (micros: bigint): readonly [day: number, within: number] => {
  const within = ((micros % microsPerDay) + microsPerDay) % microsPerDay
  return [Number((micros - within) / microsPerDay), Number(within)]
}

/** `2026-02-28T13:05:00.000001Z`, the Z with `utc`. */
export const timestampText = (micros: bigint, utc: boolean): string => {
  const [day, within] = split(micros)
  return `${dateText(day)}T${timeText(within)}${utc ? "Z" : ""}`
}

const datePattern = /^(\d{4}|[+-]\d{6})-(\d\d)-(\d\d)$/

/** The day that ISO 8601 text names; undefined when it names none. */
export const parseDate = (text: string): number | undefined => {
  const [, year, month, day] = datePattern.exec(text) ?? []
  if (year === undefined || year === "-000000") return undefined
  const days = dayOf(Number(year), Number(month), Number(day))
  // The 30th of February is the 2nd of March.
  return dateText(days) === text.replace(/^\+00(\d{4})/, "$1") ? days : undefined
}

const timePattern = /^(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?$/

/** Microseconds since midnight that ISO 8601 text names, `24:00` included; undefined when it names none. */
export const parseTime = (text: string): number | undefined => {
  const [whole, hour, minute, second = "0", fraction = ""] = timePattern.exec(text) ?? []
  if (whole === undefined || Number(minute) > 59 || Number(second) > 59) return undefined
  const micros = ((Number(hour) * 60 + Number(minute)) * 60 + Number(second)) * 1_000_000 +
    Number(fraction.padEnd(6, "0"))
  return micros <= 86_400_000_000 ? micros : undefined
}

const zonePattern = /(?:Z|([+-])(\d\d)(?::?(\d\d))?)$/

/**
 * Microseconds since 1970-01-01 that ISO 8601 text names, a space allowed for the T; undefined when it names none. With `zoned` it must end in `Z` or
 * an offset, without it must not.
 */
export const parseTimestamp = (text: string, zoned: boolean): bigint | undefined => {
  const [dateEnd] = [text.search(/[T ]/)]
  if (dateEnd < 0) return undefined
  const day = parseDate(text.slice(0, dateEnd))
  const rest = text.slice(dateEnd + 1)
  const zone = zonePattern.exec(rest)
  if (day === undefined || (zone !== null) !== zoned) return undefined
  const time = parseTime(zone === null ? rest : rest.slice(0, zone.index))
  if (time === undefined) return undefined
  const [, sign, hours = "0", minutes = "0"] = zone ?? []
  if (Number(hours) > 15 || Number(minutes) > 59) return undefined
  const offset = BigInt(Number(hours) * 60 + Number(minutes)) * 60n * microsPerSecond
  return BigInt(day) * microsPerDay + BigInt(time) - (sign === "-" ? -offset : offset)
}

export const microsOfDay = (day: number): bigint => BigInt(day) * microsPerDay
