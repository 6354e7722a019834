/** Reproducible randomness for scenario tests: name the seed in the assertion, and the run can be had again. */
export interface Chance {
  /** An integer from 0 to `n - 1`. */
  readonly below: (n: number) => number
  /** True once in `n` times. */
  readonly oneIn: (n: number) => boolean
}

/** A generator from `seed` (mulberry32). */
export const make = (seed: number): Chance => {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 0x100000000
  }
  const below = (n: number): number => Math.floor(next() * n)
  return { below, oneIn: (n) => below(n) === 0 }
}
