/**
 * The demo's command line.
 */
import { randomInt } from "node:crypto"
import { parseArgs } from "node:util"

export interface Flags {
  /** Ends after the comparison; otherwise the shop stays open until Ctrl-C. */
  readonly once: boolean
  /** Prints one line of JSON as the result; everything else goes to standard error. */
  readonly json: boolean
  /** Leaves the folder with logs and data. */
  readonly keep: boolean
  /** Size of the shop. */
  readonly rows: number
  /** How long the shop is busy before each of the later kills. */
  readonly seconds: number
  /** Of the workload's random choices. */
  readonly seed: number
  /** Only asks the warehouse of a demo that is running: its folder and a statement. */
  readonly query: { readonly folder: string; readonly sql: string } | undefined
}

export const usage = "npm run demo -- [--once] [--json] [--rows <n>] [--seconds <n>] [--seed <n>] [--keep]"

const whole = (name: string, text: string): number => {
  if (!/^\d{1,9}$/.test(text)) throw new Error(`--${name} takes a whole number`)
  return Number(text)
}

/** Fails with a message for the person at the command line. */
export const parse = (args: ReadonlyArray<string>): Flags => {
  const { positionals, values } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      once: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
      rows: { type: "string", default: "300000" },
      seconds: { type: "string", default: "8" },
      seed: { type: "string", default: String(randomInt(1_000_000)) },
      query: { type: "string" }
    }
  })
  const { query: folder, rows, seconds, seed, ...rest } = values
  const [sql, ...others] = positionals
  if (others.length > 0 || (sql === undefined) !== (folder === undefined)) throw new Error("unexpected arguments")
  return {
    ...rest,
    rows: whole("rows", rows),
    seconds: whole("seconds", seconds),
    seed: whole("seed", seed),
    query: folder === undefined || sql === undefined ? undefined : { folder, sql }
  }
}
