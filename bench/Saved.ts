/**
 * Results that were kept: one file for each bench in `results/`, from which `RESULTS.md` and its charts are made.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import type { Machine } from "./Machine.ts"
import * as Report from "./Report.ts"
import type { Case, Result } from "./Result.ts"

/** How cases were measured. */
export interface Measured {
  readonly machine: Machine
  readonly rounds: number
  readonly factor: number
  readonly only: ReadonlyArray<string> | null
}

export interface Saved extends Measured {
  readonly result: Result
  /** Cases that come from an earlier run, of workloads that the last one left out (`--only`). */
  readonly earlier?: ReadonlyArray<Measured & { readonly cases: ReadonlyArray<string> }>
  /** What cases were on machines with other processors, when they were measured there last: ratios depend on them, too. */
  readonly elsewhere?: ReadonlyArray<Measured & { readonly cases: ReadonlyArray<Case> }>
}

const here = import.meta.dirname
const folder = path.join(here, "results")

const files = (ending: string): ReadonlyArray<string> =>
  readdirSync(folder).filter((name) => name.endsWith(ending)).map((name) => path.join(folder, name))

/** How a case was measured. */
const measuredOf = (saved: Saved, name: string): Measured => {
  const { factor, machine, only, rounds } = saved.earlier?.find(({ cases }) => cases.includes(name)) ?? saved
  return { machine, rounds, factor, only }
}

/** What `saved` replaces of the one before, and what was known already, of machines with other processors. */
const elsewhereOf = (saved: Saved, before: Saved): NonNullable<Saved["elsewhere"]> => {
  const fresh = new Set(saved.result.cases.map((found) => found.case))
  const replaced = before.result.cases.filter((found) => fresh.has(found.case)).map((found) => ({
    measured: measuredOf(before, found.case),
    found
  }))
  const known = (before.elsewhere ?? []).flatMap(({ cases, ...measured }) =>
    cases.map((found) => ({ measured, found }))
  )
  // Of each processor and case the first, which is the latest; together with what was measured with it.
  const kept = new Map<string, Measured & { readonly cases: Array<Case> }>()
  const seen = new Set<string>()
  for (const { found, measured } of [...replaced, ...known]) {
    const { at, processor } = measured.machine
    const one = `${processor} ${found.case}`
    if (processor === saved.machine.processor || seen.has(one)) continue
    seen.add(one)
    const run = kept.get(at) ?? { ...measured, cases: [] }
    run.cases.push(found)
    kept.set(at, run)
  }
  return [...kept.values()]
}

/** `saved` with what it left out of the one before, and with what that one found elsewhere. */
export const completed = (saved: Saved, before: Saved | undefined): Saved => {
  if (before === undefined) return saved
  const elsewhere = elsewhereOf(saved, before)
  const whole = saved.only === null ? saved : withLeftOut(saved, before)
  return elsewhere.length === 0 ? whole : { ...whole, elsewhere }
}

const withLeftOut = (saved: Saved, before: Saved): Saved => {
  const fresh = new Map(saved.result.cases.map((found) => [found.case, found]))
  const kept = before.result.cases.filter((found) => !fresh.has(found.case)).map((found) => found.case)
  if (kept.length === 0) return saved
  const known = before.result.cases.map((found) => fresh.get(found.case) ?? found)
  const names = new Set(known.map((found) => found.case))
  const cases = [...known, ...saved.result.cases.filter((found) => !names.has(found.case))]
  const others = before.earlier ?? []
  const { factor, machine, only, rounds } = before
  const own = kept.filter((name) => !others.some(({ cases }) => cases.includes(name)))
  const earlier = [...others, { factor, machine, only, rounds, cases: own }].map((measured) => ({
    ...measured,
    cases: measured.cases.filter((name) => kept.includes(name))
  }))
  return {
    ...saved,
    result: { ...saved.result, cases, holds: cases.every((found) => found.holds) },
    earlier: earlier.filter(({ cases }) => cases.length > 0)
  }
}

const read = (file: string): Saved => JSON.parse(readFileSync(file, "utf8")) as Saved // written here

/** Keeps a result in the place of the one before; with `--only`, what it left out stays. */
export const save = (result: Saved): void => {
  mkdirSync(folder, { recursive: true })
  const file = path.join(folder, `${result.result.name}.json`)
  const saved = completed(result, existsSync(file) ? read(file) : undefined)
  writeFileSync(file, `${JSON.stringify(saved, undefined, 2)}\n`)
  const all = files(".json").map(read)
  const { charts, text } = Report.make(all)
  for (const file of files(".svg")) rmSync(file)
  for (const [name, svg] of charts) writeFileSync(path.join(folder, `${name}.svg`), svg)
  writeFileSync(path.join(here, "RESULTS.md"), text)
}
