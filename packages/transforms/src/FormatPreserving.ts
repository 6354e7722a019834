/**
 * A keyed permutation of the texts of one layout: digits become digits, letters (if wanted) letters of the same case, everything else stays.
 *
 * The replaced characters are cut into two halves, each a number of a mixed radix, and ten rounds add to one half a number that is made of the other by HMAC-SHA-256.
 * Whatever is added, a round can be taken back, so different texts come out different.
 */
import type { KeyObject } from "node:crypto"
import * as Secret from "./Secret.ts"

const rounds = 10

const zero = 0x30
const upperA = 0x41
const lowerA = 0x61

/** Character code that a replaced character's range begins with; 0 for one that stays. */
const baseOf = (code: number, isLetters: boolean): number => {
  if (code >= zero && code < zero + 10) return zero
  if (!isLetters) return 0
  if (code >= upperA && code < upperA + 26) return upperA
  return code >= lowerA && code < lowerA + 26 ? lowerA : 0
}

const radixOf = (base: number): bigint => base === zero ? 10n : 26n

/** The permutation. Takes and gives text; characters beyond ASCII stay. */
export const make = (key: KeyObject, isLetters: boolean): (text: string) => string => (text) => {
  const places: Array<number> = []
  const bases: Array<number> = []
  let layout = ""
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    const base = baseOf(code, isLetters)
    layout += base === 0 ? text[at] : base === zero ? "\u0000" : base === upperA ? "\u0001" : "\u0002"
    if (base === 0) continue
    places.push(at)
    bases.push(base)
  }
  if (places.length === 0) return text
  const middle = places.length >> 1
  const halves = [0n, 0n]
  const sizes = [1n, 1n]
  for (let index = 0; index < places.length; index++) {
    const half = index < middle ? 0 : 1
    const base = bases[index] ?? zero
    const radix = radixOf(base)
    halves[half] = (halves[half] ?? 0n) * radix + BigInt(text.charCodeAt(places[index] ?? 0) - base)
    sizes[half] = (sizes[half] ?? 1n) * radix
  }
  for (let round = 0; round < rounds; round++) {
    const to = round & 1
    const size = sizes[to] ?? 1n
    halves[to] = ((halves[to] ?? 0n) + added(key, round, layout, halves[1 - to] ?? 0n, size)) % size
  }
  const codes = Array.from(text, () => 0)
  codes.length = text.length
  for (let at = 0; at < text.length; at++) codes[at] = text.charCodeAt(at)
  for (let index = places.length - 1; index >= 0; index--) {
    const half = index < middle ? 0 : 1
    const base = bases[index] ?? zero
    const radix = radixOf(base)
    const left = halves[half] ?? 0n
    codes[places[index] ?? 0] = base + Number(left % radix)
    halves[half] = left / radix
  }
  let result = ""
  for (let at = 0; at < codes.length; at += 1024) result += String.fromCharCode(...codes.slice(at, at + 1024))
  return result
}

/** A number below `size` that follows from the other half; evenly, as it is taken of 64 bits more than `size` has. */
const added = (key: KeyObject, round: number, layout: string, other: bigint, size: bigint): bigint => {
  const wanted = (size.toString(16).length >> 1) + 9
  let hex = ""
  for (let block = 0; hex.length < wanted * 2; block++) {
    hex += Secret.mac(key, `${round}/${block}/${layout.length}:${layout}/${other.toString(16)}`).toString("hex")
  }
  return BigInt(`0x${hex}`) % size
}
