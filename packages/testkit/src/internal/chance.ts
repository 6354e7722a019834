/**
 * Chance that comes the same again from the same seed (mulberry32).
 */
export class Chance {
  private state: number

  constructor(seed: number) {
    this.state = Math.imul(seed + 1, 0x9e3779b9) >>> 0
  }

  /** From 0 to 1, 1 excluded. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let mixed = this.state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x100000000
  }

  /** A whole number from 0 to `limit`, the limit excluded. */
  below(limit: number): number {
    return Math.floor(this.next() * limit)
  }

  /** True this often, from 0 (never) to 1. */
  often(share: number): boolean {
    return this.next() < share
  }

  pick<A>(first: A, ...others: ReadonlyArray<A>): A {
    return others[this.below(others.length + 1) - 1] ?? first
  }
}
