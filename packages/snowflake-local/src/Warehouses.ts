/**
 * Warehouses: running or suspended, so that a test can see what a statement would wake in Snowflake.
 *
 * Nothing depends on them but that. A warehouse begins suspended and starts with the first statement that needs it; it is suspended again by ALTER WAREHOUSE, or when it had nothing to do for
 * AUTO_SUSPEND seconds. They are as configured at each start of the server.
 */

export interface Warehouse {
  readonly name: string
  suspended: boolean
  autoResume: boolean
  /** Seconds; 0: never. */
  autoSuspend: number
  size: string
  comment: string
  lastUsedAt: number
  /** How often a statement has woken it. */
  resumed: number
}

export class Warehouses {
  private readonly byName: ReadonlyMap<string, Warehouse>

  constructor(names: ReadonlyArray<string>) {
    this.byName = new Map(names.map((given) => {
      const name = given.toUpperCase()
      return [name, {
        name,
        suspended: true,
        autoResume: true,
        autoSuspend: 600,
        size: "X-Small",
        comment: "",
        lastUsedAt: 0,
        resumed: 0
      }]
    }))
  }

  has(name: string): boolean {
    return this.byName.has(name)
  }

  /** A warehouse as it is at this time. */
  find(name: string, now: number): Warehouse | undefined {
    const found = this.byName.get(name)
    if (found === undefined) return undefined
    if (found.autoSuspend > 0 && now - found.lastUsedAt >= found.autoSuspend * 1000) found.suspended = true
    return found
  }

  list(now: number): ReadonlyArray<Warehouse> {
    return [...this.byName.keys()].flatMap((name) => this.find(name, now) ?? [])
  }

  /** A statement needs it: `woken`, `running`, or `suspended` when it may not be woken. */
  use(name: string, now: number): "woken" | "running" | "suspended" {
    const found = this.find(name, now)
    // A serverless task has compute of its own.
    if (found === undefined) return "running"
    if (found.suspended && !found.autoResume) return "suspended"
    const woken = found.suspended
    found.suspended = false
    found.lastUsedAt = now
    if (woken) found.resumed++
    return woken ? "woken" : "running"
  }
}
