/**
 * The bench's command line.
 */
import { parseArgs } from "node:util"

export interface Flags {
  readonly name: string
  /** Prints the result as a line of JSON, last, on standard output; everything else goes to standard error. */
  readonly json: boolean
  /** Keeps the result, and makes `RESULTS.md` anew. */
  readonly save: boolean
  readonly rounds: number
  readonly factor: number
  readonly only: ReadonlyArray<string> | undefined
}

export const usage =
  "npm run bench -- <cdc|snapshot|latency|scale|memory> [--json] [--save] [--rounds <n>] [--factor <share of the rows>] [--only <workload,…>]"

const positive = (name: string, text: string): number => {
  const value = Number(text)
  if (!(value > 0)) throw new Error(`--${name} takes a number above 0`)
  return value
}

/** Fails with a message for the person at the command line. */
export const parse = (args: ReadonlyArray<string>, known: ReadonlyArray<string>): Flags => {
  const { positionals, values } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      save: { type: "boolean", default: false },
      rounds: { type: "string", default: "5" },
      factor: { type: "string", default: "1" },
      only: { type: "string" }
    }
  })
  const [name, ...others] = positionals
  if (name === undefined || others.length > 0) throw new Error("name one bench")
  if (!known.includes(name)) throw new Error(`there is no bench ${name}`)
  return {
    name,
    json: values.json,
    save: values.save,
    rounds: Math.ceil(positive("rounds", values.rounds)),
    factor: positive("factor", values.factor),
    only: values.only?.split(",")
  }
}
