/**
 * `RESULTS.md`: what is asked for and whether it holds, then a section for each bench with its charts and a table of all figures.
 */
import * as Chart from "./Chart.ts"
import type { Case, Judged } from "./Result.ts"
import type { Measured, Saved } from "./Saved.ts"

interface Column {
  readonly title: string
  /** Empty where the case has no such figure. */
  readonly of: (found: Case) => string
}

interface Section {
  readonly title: string
  readonly what: string
  readonly columns: ReadonlyArray<Column>
  /** By the end of the file's name. */
  readonly charts: (saved: Saved) => ReadonlyArray<readonly [name: string, title: string, svg: string]>
}

/** With as many digits as say something. */
const value = (found: number | null | undefined, unit = "", digits = 3): string => {
  if (found === null || found === undefined || Number.isNaN(found)) return ""
  const precise = Math.abs(found) < 100
  return `${
    found.toLocaleString("en", precise ? { maximumSignificantDigits: digits } : { maximumFractionDigits: 0 })
  }${unit}`
}

const whole = (found: number | null): string => found === null ? "" : Math.round(found).toLocaleString("en")

const figure = (name: string): (found: Case) => string => ({ figures }) => value(figures[name])

/** `own (reference's)` */
const beside = (name: string, other: string) => ({ figures }: Case): string => {
  const [own, reference] = [value(figures[name]), value(figures[other])]
  return reference === "" ? own : `${own} (${reference})`
}

const rows: Column = { title: "Rows", of: (found) => whole(found.rows) }
const perSecond: Column = { title: "Rows/s", of: (found) => whole(found.rowsPerSecond) }
const times = (title: string): Column => ({
  title,
  of: ({ ratio, reference }) => ratio === null ? "" : `${value(ratio)} x ${reference ?? ""}`
})
const costs: ReadonlyArray<Column> = [
  { title: "Seconds", of: beside("seconds", "referenceSeconds") },
  { title: "Client CPU, s", of: beside("cpuSeconds", "referenceCpuSeconds") },
  { title: "CPU, to the reference's", of: ({ cpuRatio }) => value(cpuRatio, " x") },
  { title: "Server CPU, s", of: beside("serverCpuSeconds", "referenceServerCpuSeconds") },
  { title: "snowflake-local CPU, s", of: figure("warehouseCpuSeconds") },
  { title: "Peak RSS, MB", of: ({ peakRssMB }) => whole(peakRssMB) },
  { title: "Rounds", of: ({ rounds }) => whole(rounds) }
]

const asked = (found: Case, of: string): Chart.Bar["asked"] => {
  const bar = found.bars.find((bar) => bar.of === of)
  return bar === undefined ? undefined : { value: bar.limit, most: bar.most }
}

const multiples = (cases: ReadonlyArray<Case>, of: "ratio" | "cpuRatio", title: string, note: string): string =>
  Chart.bars(
    title,
    note,
    cases.flatMap((found) => {
      const value = found[of]
      return value === null ? [] : [{ label: found.case, value, asked: asked(found, of) }]
    })
  )

const speed = ({ result }: Saved) => {
  const reference = result.cases[0]?.reference ?? ""
  // Those that stand beside another one can't share its line.
  const cases = result.cases.filter((found) => found.reference === reference)
  const [speed, cpu] = [
    "Rows a second, as a multiple of the reference's",
    "The client's CPU time, as a multiple of the reference's"
  ]
  return [
    ["speed", speed, multiples(cases, "ratio", speed, `The line is ${reference}, run in turn. More is better.`)],
    ["cpu", cpu, multiples(cases, "cpuRatio", cpu, `The line is ${reference}. Less is better.`)]
  ] as const
}

const scale = ({ result }: Saved) => {
  const title = "Time for a row, as a multiple"
  const note = "The line is the time with a tenth of the rows, or with one pipeline. Less is better."
  return [["rows", title, multiples(result.cases, "ratio", title, note)] as const]
}

const latency = ({ result }: Saved) => {
  const title = "From a commit, in milliseconds: p50 to p99"
  const entries = result.cases.map((found) => ({
    label: found.case,
    from: found.figures["p50"] ?? Number.NaN,
    to: found.figures["p99"] ?? Number.NaN
  }))
  const note = "Each bar goes from the median to the 99th percentile, on a logarithmic axis. Less is better."
  return [["latency", title, Chart.ranges(title, note, entries)] as const]
}

const memory = ({ result }: Saved) =>
  result.cases.flatMap((found) => {
    const limit = asked(found, "peakRssMB")
    if (found.series === undefined || limit === undefined) return []
    const title = "Resident memory of the whole runner as the log goes by"
    const note = `${found.case}; from left to right the share of the log that has been taken.`
    return [["memory", title, Chart.curve(title, note, found.series, limit.value)] as const]
  })

const sections: Readonly<Record<string, Section>> = {
  cdc: {
    title: "Changes",
    what: "A slot that holds the workload's changes is read to its end. In parentheses: the reference.",
    columns: [rows, perSecond, times("Rows/s beside"), ...costs],
    charts: speed
  },
  snapshot: {
    title: "Copies",
    what: "A table is copied once. In parentheses: the reference, one session of psql in binary format.",
    columns: [rows, perSecond, times("Rows/s beside"), ...costs],
    charts: speed
  },
  latency: {
    title: "Latency",
    what:
      "Milliseconds from a commit until its row is handed to the sink in an Arrow batch, or until the sink is told that it is committed. In parentheses: pg_recvlogical, reading the same commits at the same time.",
    columns: [
      { title: "Transactions/s", of: ({ figures }) => whole(figures["transactionsPerSecond"] ?? null) },
      { title: "p50, ms", of: beside("p50", "referenceP50") },
      { title: "p99, ms", of: beside("p99", "referenceP99") },
      ...costs
    ],
    charts: latency
  },
  scale: {
    title: "Scale",
    what:
      "How long a row takes, as a multiple of what it takes with a tenth of the rows, and with all rows in one pipeline.",
    columns: [rows, perSecond, times("Time for a row"), ...costs],
    charts: scale
  },
  memory: {
    title: "Memory",
    what: "The whole runner, reading a log that is long.",
    columns: [rows, perSecond, { title: "Growth", of: ({ figures }) => value(figures["growth"], " x") }, ...costs],
    charts: memory
  }
}

const order = Object.keys(sections)

const arrow = (text: string): string => text.replaceAll("->", "→").replaceAll("|", "\\|")

const table = (titles: ReadonlyArray<string>, lines: ReadonlyArray<ReadonlyArray<string>>): string =>
  [titles, titles.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n")

const figures = (section: Section, cases: ReadonlyArray<Case>): string => {
  const columns = section.columns.filter(({ of }) => cases.some((found) => of(found) !== ""))
  return table(
    ["Case", ...columns.map(({ title }) => title)],
    cases.map((found) => [arrow(found.case), ...columns.map(({ of }) => of(found))])
  )
}

/** What a bar is about, in words, and its unit. */
const meaning = (bench: string, { of }: Judged, reference: string): readonly [string, string] => {
  switch (of) {
    case "ratio":
      return [bench === "scale" ? `time for a row, to "${reference}"` : `rows/s, to ${reference}`, " x"]
    case "cpuRatio":
      return [`client's CPU, to ${reference}`, " x"]
    case "peakRssMB":
      return ["peak RSS", " MB"]
    case "p50Above":
      return [`p50 above ${reference}'s`, " ms"]
    case "p99Above":
      return [`p99 above ${reference}'s`, " ms"]
    case "growth":
      return ["memory at the end, to that after a fifth", " x"]
    default:
      return [of, " ms"]
  }
}

const summary = (all: ReadonlyArray<Saved>): string => {
  const judged = all.flatMap(({ result }) =>
    result.cases.flatMap((found) => found.bars.map((bar) => ({ bench: result.name, found, bar })))
  )
  const holding = judged.filter(({ bar }) => bar.holds).length
  const elsewhere = (bench: string, name: string, of: string): string =>
    all.filter(({ result }) => result.name === bench).flatMap((saved) => saved.elsewhere ?? []).flatMap(({ cases }) =>
      cases.filter((found) => found.case === name).flatMap((found) => found.bars.filter((bar) => bar.of === of))
    ).map((bar) => `${bar.found === null ? "nothing" : value(bar.found, "", 4)} (${bar.holds ? "yes" : "**no**"})`)
      .join(", ")
  const lines = judged.map(({ bar, bench, found }) => {
    const [words, unit] = meaning(bench, bar, found.reference ?? "")
    return [
      bench,
      arrow(found.case),
      words,
      `${bar.most ? "≤" : "≥"} ${value(bar.limit, unit)}`,
      bar.found === null ? "nothing" : value(bar.found, unit, 4),
      bar.holds ? "yes" : "**no**",
      elsewhere(bench, found.case, bar.of)
    ]
  })
  return `## What is asked for

${holding} of ${judged.length} hold.

${table(["Bench", "Case", "What", "Asked for", "Found", "Holds", "With another processor"], lines)}
`
}

const command = (bench: string, { factor, only, rounds }: Measured): string =>
  [
    `npm run bench -- ${bench} --save --rounds ${rounds}`,
    ...(factor === 1 ? [] : [`--factor ${factor}`]),
    ...(only === null ? [] : [`--only ${only.join(",")}`])
  ].join(" ")

const machine = ({ machine }: Measured): string =>
  `${machine.cores} cores (${machine.processor}), ${machine.memoryGB} GB, ${machine.system}, Node ${machine.node}, PostgreSQL ${machine.postgres}, ${machine.reference}`

/** How and on what the cases of a bench were measured. */
const measured = (one: Saved): string => {
  const said = (of: Measured) => `\`${command(one.result.name, of)}\`, ${of.machine.at.slice(0, 10)}: ${machine(of)}.`
  const { earlier = [], elsewhere = [] } = one
  const here = earlier.length === 0 ? [said(one)] : [
    ...earlier.map((of) => `${of.cases.map((name) => `"${arrow(name)}"`).join(", ")}: ${said(of)}`),
    `The others: ${said(one)}`
  ]
  return [...here, ...elsewhere.map((of) => `With another processor: ${said(of)}`)].join("\n\n")
}

/** The text, and charts by their names; results in any order. */
export const make = (
  saved: ReadonlyArray<Saved>
): { readonly text: string; readonly charts: ReadonlyMap<string, string> } => {
  const all = saved.toSorted((a, b) => order.indexOf(a.result.name) - order.indexOf(b.result.name))
  const charts = new Map<string, string>()
  const parts = all.flatMap((one) => {
    const section = sections[one.result.name]
    if (section === undefined) return []
    const pictures = section.charts(one).map(([end, title, svg]) => {
      const name = `${one.result.name}-${end}`
      charts.set(name, svg)
      return `![${title}](results/${name}.svg)\n\n`
    })
    return [`## ${section.title}

${section.what} Figures are medians over the rounds, peaks of memory the highest of all.

${pictures.join("")}${figures(section, one.result.cases)}

${measured(one)}
`]
  })
  const text = `# What the benches found

Made by \`npm run bench -- <name> --save\` from \`results/\`; [README.md](README.md) says how the figures come about, [PROFILES.md](PROFILES.md) where the time goes. Each ratio is the median over rounds in which the
reference ran beside it. Absolute figures are those of the machine that is named below each table.

${[summary(all), ...parts].join("\n")}`
  return { text, charts }
}
