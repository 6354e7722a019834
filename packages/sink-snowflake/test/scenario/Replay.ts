/**
 * One sequence of the matrix as a text that plays it again: its mode, its seed, and what goes wrong where.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Calls from "./Calls.ts"
import type { Strike } from "./Scenario.ts"
import type { ModeName } from "./Statements.ts"
import * as Statements from "./Statements.ts"

export interface Replay {
  readonly mode: ModeName
  readonly seed: number
  readonly strikes: ReadonlyArray<Strike>
}

/** The file of each mode's matrix, as far as the test runner needs it. */
const files: Readonly<Record<ModeName, string>> = {
  mirror: "MirrorMatrix",
  softDelete: "SoftDeleteMatrix",
  history: "HistoryMatrix",
  changelog: "ChangesMatrix"
}

const Text = Schema.fromJsonString(Schema.Struct({
  mode: Schema.Literals(Statements.modeNames),
  seed: Schema.Int,
  strikes: Schema.Array(Schema.Struct({ cell: Schema.String, run: Schema.Int, skip: Schema.Int }))
}))

/** The command that plays it again. */
export const command = ({ mode, seed, strikes }: Replay): string => {
  const text = JSON.stringify({
    mode,
    seed,
    strikes: strikes.map(({ cell, run, skip }) => ({ cell: cell.name, run, skip }))
  })
  return `ETL_STREAM_REPLAY='${text.replaceAll("'", `'\\''`)}' node scripts/toolchain.mjs vitest run ` +
    `packages/sink-snowflake/test/${files[mode]}`
}

/** Throws for a text that isn't one of ours, or names a cell that there isn't. */
export const parse = (text: string): Replay => {
  const { mode, seed, strikes } = Option.getOrThrow(Schema.decodeUnknownOption(Text)(text))
  return {
    mode,
    seed,
    strikes: strikes.map(({ cell: name, run, skip }) => {
      const cell = Calls.cells.get(name)
      if (cell === undefined) throw new Error(`The matrix has no cell "${name}"`)
      return { cell, run, skip }
    })
  }
}
