/**
 * Which of the armed faults strikes a request: the first one that fits it and has its turn.
 */
import * as Schema from "effect/Schema"

/** When a fault strikes, among the requests that it fits. */
export const Turns = {
  /** How many requests it strikes, or `always` until it is removed; default 1. */
  count: Schema.optionalKey(Schema.Union([Schema.Int.check(Schema.isGreaterThan(0)), Schema.Literal("always")])),
  /** How many requests it lets through first, so that it strikes the nth; default 0. */
  skip: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)))
}

export interface Turns {
  readonly count?: number | "always"
  readonly skip?: number
}

interface Armed<F> {
  readonly fault: F
  left: number
  skip: number
}

export class FaultRules<F extends Turns> {
  private armed: ReadonlyArray<Armed<F>> = []

  add(fault: F): void {
    const left = fault.count === "always" ? Number.POSITIVE_INFINITY : fault.count ?? 1
    this.armed = [...this.armed, { fault, left, skip: fault.skip ?? 0 }]
  }

  clear(): void {
    this.armed = []
  }

  /** What is armed, with the turns that are left. */
  list(): ReadonlyArray<F> {
    return this.armed.map(({ fault, left, skip }) => ({
      ...fault,
      count: Number.isFinite(left) ? left : "always",
      ...(skip > 0 ? { skip } : {})
    }))
  }

  /** The fault that strikes a request that `fits` describes, which is thereby used up once. */
  take(fits: (fault: F) => boolean): F | undefined {
    for (const armed of this.armed) {
      if (!fits(armed.fault)) continue
      if (armed.skip > 0) {
        armed.skip--
        continue
      }
      armed.left--
      if (armed.left === 0) this.armed = this.armed.filter((other) => other !== armed)
      return armed.fault
    }
    return undefined
  }

  /** A fault that lasts until it is removed. */
  standing(fits: (fault: F) => boolean): F | undefined {
    return this.armed.find(({ fault }) => fits(fault))?.fault
  }
}
