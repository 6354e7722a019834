/**
 * Decimal numbers of any size, exactly: what `numeric` columns hold.
 */

/** `unscaled / 10^scale`, or what isn't a number at all. */
export class DecimalNumber {
  readonly unscaled: bigint
  readonly scale: number
  /** `NaN`, `Infinity` and `-Infinity` have no digits. */
  readonly special: number | undefined

  private constructor(unscaled: bigint, scale: number, special: number | undefined) {
    this.unscaled = unscaled
    this.scale = scale
    this.special = special
  }

  static readonly of = (unscaled: bigint, scale = 0): DecimalNumber => new DecimalNumber(unscaled, scale, undefined)

  private static readonly specialOf = (special: number): DecimalNumber => new DecimalNumber(0n, 0, special)

  /** The number that `text` writes (`12.50`, `-1e3`, `NaN`); undefined when it writes none, or one of more than 100,000 digits. */
  static readonly parse = (text: string): DecimalNumber | undefined => {
    if (text === "NaN" || text === "Infinity" || text === "-Infinity") return DecimalNumber.specialOf(Number(text))
    const [whole, sign = "", integer = "", fraction = "", exponent = "0"] =
      /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,6}))?$/.exec(text) ?? []
    if (whole === undefined || integer.length + fraction.length === 0) return undefined
    const scale = fraction.length - Number(exponent)
    if (integer.length + fraction.length > largest || Math.abs(scale) > largest) return undefined
    const digits = BigInt(integer + fraction)
    const unscaled = sign === "-" ? -digits : digits
    return scale < 0 ? DecimalNumber.of(unscaled * 10n ** BigInt(-scale)) : DecimalNumber.of(unscaled, scale)
  }

  /** The number that a double's shortest text writes. */
  static readonly fromDouble = (value: number): DecimalNumber | undefined => DecimalNumber.parse(String(value))

  /** Negative, zero or positive; `NaN` is equal to itself and greater than everything else, as in PostgreSQL. */
  static readonly compare = (a: DecimalNumber, b: DecimalNumber): number => {
    if (a.special !== undefined || b.special !== undefined) {
      const left = rank(a)
      const right = rank(b)
      return left - right
    }
    const scale = Math.max(a.scale, b.scale)
    const left = a.at(scale)
    const right = b.at(scale)
    return left < right ? -1 : left > right ? 1 : 0
  }

  /** Whether the two are the same number. */
  equals(other: DecimalNumber): boolean {
    return DecimalNumber.compare(this, other) === 0
  }

  private at(scale: number): bigint {
    return this.unscaled * 10n ** BigInt(scale - this.scale)
  }

  plus(other: DecimalNumber): DecimalNumber {
    if (this.special !== undefined || other.special !== undefined) {
      return DecimalNumber.specialOf((this.special ?? 0) + (other.special ?? 0))
    }
    const scale = Math.max(this.scale, other.scale)
    return DecimalNumber.of(this.at(scale) + other.at(scale), scale)
  }

  negated(): DecimalNumber {
    return this.special === undefined
      ? DecimalNumber.of(-this.unscaled, this.scale)
      : DecimalNumber.specialOf(-this.special)
  }

  times(other: DecimalNumber): DecimalNumber {
    if (this.special !== undefined || other.special !== undefined) {
      return DecimalNumber.specialOf(this.sign() * other.sign())
    }
    return DecimalNumber.of(this.unscaled * other.unscaled, this.scale + other.scale)
  }

  private sign(): number {
    return this.special ?? (this.unscaled === 0n ? 0 : this.unscaled < 0n ? -1 : 1)
  }

  /** The same number with exactly `scale` digits behind the point; undefined when it has more that aren't zero, or is none. */
  rescaled(scale: number): DecimalNumber | undefined {
    if (this.special !== undefined) return undefined
    if (scale >= this.scale) return DecimalNumber.of(this.at(scale), scale)
    const factor = 10n ** BigInt(this.scale - scale)
    return this.unscaled % factor === 0n ? DecimalNumber.of(this.unscaled / factor, scale) : undefined
  }

  /** The integer that it is; undefined when it is none. */
  integer(): bigint | undefined {
    return this.rescaled(0)?.unscaled
  }

  toNumber(): number {
    return this.special ?? Number(this.toString())
  }

  toString(): string {
    if (this.special !== undefined) return String(this.special)
    const digits = (this.unscaled < 0n ? -this.unscaled : this.unscaled).toString().padStart(this.scale + 1, "0")
    const sign = this.unscaled < 0n ? "-" : ""
    return this.scale === 0 ? sign + digits : `${sign}${digits.slice(0, -this.scale)}.${digits.slice(-this.scale)}`
  }
}

const largest = 100_000

/** Order among numbers that have no digits; ordinary numbers are in the middle. */
const rank = ({ special }: DecimalNumber): number =>
  special === undefined ? 0 : Number.isNaN(special) ? 2 : special > 0 ? 1 : -1
