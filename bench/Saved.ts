/**
 * Results that were kept: one file for each bench in `results/`, from which `RESULTS.md` and its charts are made.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import type { Machine } from "./Machine.ts"
import * as Report from "./Report.ts"
import type { Result } from "./Result.ts"

export interface Saved {
  readonly result: Result
  readonly machine: Machine
  readonly rounds: number
  readonly factor: number
  readonly only: ReadonlyArray<string> | null
}

const here = import.meta.dirname
const folder = path.join(here, "results")

const files = (ending: string): ReadonlyArray<string> =>
  readdirSync(folder).filter((name) => name.endsWith(ending)).map((name) => path.join(folder, name))

export const save = (saved: Saved): void => {
  mkdirSync(folder, { recursive: true })
  writeFileSync(path.join(folder, `${saved.result.name}.json`), `${JSON.stringify(saved, undefined, 2)}\n`)
  const all = files(".json").map((file) => JSON.parse(readFileSync(file, "utf8")) as Saved) // written above
  const { charts, text } = Report.make(all)
  for (const file of files(".svg")) rmSync(file)
  for (const [name, svg] of charts) writeFileSync(path.join(folder, `${name}.svg`), svg)
  writeFileSync(path.join(here, "RESULTS.md"), text)
}
