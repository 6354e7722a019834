/** Numbers that are the same in every run: mulberry32. */
export interface Random {
  /** A whole number from 0 up to, not including, `n`. */
  readonly below: (n: number) => number
  /** One of the items; there must be one. */
  readonly of: <A>(items: ReadonlyArray<A>) => A
}

export const seeded = (seed: number): Random => {
  let state = seed >>> 0
  const below = (n: number): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000) * n)
  }
  return { below, of: (items) => items[below(items.length)] as (typeof items)[number] } // in range
}
