/**
 * Sizes in bytes, written as people write them: `16MiB`, `1.5 GiB`, `64MB`, or a plain number of bytes.
 *
 * KiB, MiB, GiB and TiB are powers of 1024; kB, MB, GB and TB powers of 1000. Case matters only to no one: `16mib` is the same as `16MiB`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"

const units: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4
}

/** The size that `text` means, in bytes; none when it is not one, or too large to count. */
export const parse = (text: string): Option.Option<number> => {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  const unit = units[match?.[2]?.toLowerCase() ?? "none"]
  if (match === null || unit === undefined) return Option.none()
  const bytes = Math.round(Number(match[1]) * unit)
  return Number.isSafeInteger(bytes) && bytes > 0 ? Option.some(bytes) : Option.none()
}

/** `bytes` in the largest binary unit that leaves at least 1: `16 MiB`, `1.5 GiB`. */
export const format = (bytes: number): string => {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"]
  let scaled = bytes
  let unit = 0
  while (scaled >= 1024 && unit < names.length - 1) {
    scaled /= 1024
    unit++
  }
  return `${unit === 0 || scaled >= 100 ? Math.round(scaled) : Number(scaled.toFixed(1))} ${names[unit]}`
}

const expected = "a size such as 16MiB, 1.5GiB or a number of bytes, above 0"

/** A number of bytes, from text with a unit or from a plain number. */
export const ByteSize = Schema.Union([
  Schema.String.annotate({
    kind: "a size",
    jsonSchema: { pattern: "^\\s*(?=[0-9.]*[1-9])[0-9]+(\\.[0-9]+)?\\s*([kKmMgGtT][iI]?[bB]|[bB])?\\s*$" }
  }),
  Schema.Finite.annotate({ kind: "a size", jsonSchema: { exclusiveMinimum: 0 } })
]).pipe(
  Schema.decodeTo(Schema.Int, {
    decode: SchemaGetter.transformEffect((input: string | number) =>
      Effect.mapError(Effect.fromOption(parse(String(input))), () => new SchemaIssue.InvalidValue({ expected }))
    ),
    encode: SchemaGetter.transform((bytes) => bytes)
  })
)
