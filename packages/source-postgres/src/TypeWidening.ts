/**
 * Changes of a column's type that leave every value as it is, its text included, as long as the table isn't rewritten.
 *
 * PostgreSQL itself knows that such a change needs no rewrite, so that one means other values (`USING`), or can't be told from
 * one that does. Everything else counts as new values.
 */

interface Type {
  readonly typeOid: number
  readonly typmod: number
}

const text = 25
const varchar = 1043
const numeric = 1700
/** time, timestamp, timestamptz, timetz */
const times: ReadonlySet<number> = new Set([1083, 1114, 1184, 1266])

/** Type modifiers of lengths and digits count a header of four bytes. */
const header = 4

const maxLength = ({ typeOid, typmod }: Type): number =>
  typeOid === text || typmod < header ? Number.POSITIVE_INFINITY : typmod - header

const digits = (typmod: number): { readonly precision: number; readonly scale: number } => ({
  precision: (typmod - header) >> 16 & 0xffff,
  scale: (typmod - header) & 0xffff
})

/** Whether all values of `before` are values of `now`, with the same text. */
export const isWidening = (before: Type, now: Type): boolean => {
  const texts = (type: Type) => type.typeOid === text || type.typeOid === varchar
  if (texts(before) && texts(now)) return maxLength(now) >= maxLength(before)
  if (before.typeOid !== now.typeOid) return false
  if (now.typeOid === numeric) {
    if (now.typmod < header) return true
    if (before.typmod < header) return false
    const [from, to] = [digits(before.typmod), digits(now.typmod)]
    return from.scale === to.scale && to.precision >= from.precision
  }
  if (!times.has(now.typeOid)) return false
  const places = ({ typmod }: Type) => typmod < 0 ? 6 : typmod
  return places(now) >= places(before)
}
