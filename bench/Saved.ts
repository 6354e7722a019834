/**
 * Results that were kept: one file for each bench in `results/`, from which `RESULTS.md` is made.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import * as Chart from "./Chart.ts"
import type { Machine } from "./Machine.ts"
import type { Case, Result } from "./Result.ts"

export interface Saved {
  readonly result: Result
  readonly machine: Machine
  readonly rounds: number
  readonly factor: number
}

const here = import.meta.dirname
const folder = path.join(here, "results")
const order = ["cdc", "snapshot", "latency", "scale", "memory"]

const titles: Readonly<Record<string, string>> = {
  cdc: "Changes",
  snapshot: "Copies",
  latency: "Latency",
  scale: "Scale",
  memory: "Memory"
}

const all = (): ReadonlyArray<Saved> =>
  readdirSync(folder).filter((name) => name.endsWith(".json"))
    .map((name) => JSON.parse(readFileSync(path.join(folder, name), "utf8")) as Saved) // written by `save`
    .toSorted((a, b) => order.indexOf(a.result.name) - order.indexOf(b.result.name))

const value = (found: number | null, unit = ""): string =>
  found === null ? "" : `${found.toLocaleString("en", { maximumFractionDigits: 3 })}${unit}`

const figures = ({ figures }: Case): string =>
  Object.entries(figures).map(([name, found]) => `${name} ${value(found)}`).join(", ")

const row = (found: Case): string => {
  const { bar, cpuRatio, holds, peakRssMB, ratio, reference, rowsPerSecond } = found
  return `| ${found.case} | ${value(rowsPerSecond)} | ${
    ratio === null ? "" : `${value(ratio)} x ${reference ?? ""}`
  } | ${value(cpuRatio)} | ${value(peakRssMB)} | ${
    bar === null ? "" : `${holds ? "holds" : "**doesn't hold**"}: ${bar}`
  } | ${figures(found)} |`
}

/** The lowest ratio that a case's bar asks for. */
const asked = ({ bar }: Case): number | undefined => {
  const [, least] = /(?:^|, )ratio >= ([\d.]+)/.exec(bar ?? "") ?? []
  return least === undefined ? undefined : Number(least)
}

const chart = ({ result }: Saved): string | undefined => {
  const entries = result.cases.flatMap((found) => {
    if (found.ratio === null || found.rowsPerSecond === null) return []
    const bar = asked(found)
    return [{ label: found.case, value: found.ratio, bar, holds: bar === undefined || found.ratio >= bar }]
  })
  return entries.length < 2
    ? undefined
    : Chart.svg(`${titles[result.name] ?? result.name}: rows a second, as a multiple of the reference's`, " x", entries)
}

const section = (saved: Saved): string => {
  const { factor, machine, result, rounds } = saved
  const drawn = chart(saved)
  const picture = drawn === undefined ? "" : `\n![${titles[result.name] ?? result.name}](results/${result.name}.svg)\n`
  if (drawn !== undefined) writeFileSync(path.join(folder, `${result.name}.svg`), drawn)
  return `## ${titles[result.name] ?? result.name}

\`npm run bench -- ${result.name} --rounds ${rounds}${factor === 1 ? "" : ` --factor ${factor}`} --save\` on ${
    machine.at.slice(0, 10)
  }: ${machine.cores} cores (${machine.processor}), ${machine.memoryGB} GB, ${machine.system}, Node ${machine.node}, reference ${machine.reference}.
${picture}
| Case | Rows/s | Beside its reference | CPU of the client, to the reference's | Peak RSS (MB) | Bar | Medians |
| --- | --- | --- | --- | --- | --- | --- |
${result.cases.map(row).join("\n")}
`
}

/** Makes \`RESULTS.md\` and its charts from what is kept. */
export const publish = (): void => {
  const text = `# What the benches found

Made by \`npm run bench\` from \`results/\`; [README.md](README.md) says how the figures come about. Each ratio is the median over rounds in which the reference ran
beside it. Absolute figures are this machine's.

${all().map(section).join("\n")}`
  writeFileSync(path.join(here, "RESULTS.md"), text)
}

export const save = (saved: Saved): void => {
  mkdirSync(folder, { recursive: true })
  writeFileSync(path.join(folder, `${saved.result.name}.json`), `${JSON.stringify(saved, undefined, 2)}\n`)
  publish()
}
