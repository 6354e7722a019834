/**
 * What the demo tells: one calm line per step, a table of results, and the JSON line.
 *
 * Steps go to standard output for people and to standard error under `--json`, where standard output holds the result alone.
 */
import type { TableComparison } from "@etl-stream/testkit/RowComparison"

/** The outcome of a round; the fields of the JSON line. */
export interface Outcome {
  readonly tables: number
  /** Rows at PostgreSQL at the end, all compared. */
  readonly rows: number
  /** Changes that the workload committed. */
  readonly changes: number
  readonly kills: number
  readonly missing: number
  readonly extra: number
  readonly different: number
  readonly journalDuplicates: number
  readonly seconds: number
}

/** Whether the round showed what it should: nothing lost, doubled or changed, through at least two kills. */
export const isGood = (outcome: Outcome): boolean =>
  outcome.missing === 0 && outcome.extra === 0 && outcome.different === 0 && outcome.journalDuplicates === 0 &&
  outcome.kills >= 2

/** One line of the table of results. */
export interface TableResult extends TableComparison {
  /** Rows of the table's journal. */
  readonly changes: number
  readonly journalDuplicates: number
}

export interface Report {
  /** Says what is being done now. */
  readonly step: (text: string) => void
  readonly results: (tables: ReadonlyArray<TableResult>, outcome: Outcome) => void
  /** A query to try, and its answer now. */
  readonly query: (sql: string, answer: ReadonlyArray<string>) => void
  readonly text: (text: string) => void
  /** Says why the demo could not go on, and where its logs are. */
  readonly error: (text: string, folder: string | undefined) => void
}

const grouped = new Intl.NumberFormat("en-US")
export const count = (value: number): string => grouped.format(value)

const columns = ["table", "rows", "changes", "missing", "extra", "different", "doubled"] as const

const resultTable = (tables: ReadonlyArray<TableResult>): ReadonlyArray<string> => {
  const lines = tables.map((table) => [
    table.table.replace(/^public\./, ""),
    ...[table.rows, table.changes, table.missing, table.extra, table.different, table.journalDuplicates].map(count)
  ])
  const total = (pick: (table: TableResult) => number): string =>
    count(tables.reduce((sum, table) => sum + pick(table), 0))
  const sums = [
    "all",
    total(({ rows }) => rows),
    total(({ changes }) => changes),
    total(({ missing }) => missing),
    total(({ extra }) => extra),
    total(({ different }) => different),
    total(({ journalDuplicates }) => journalDuplicates)
  ]
  const widths = columns.map((title, column) =>
    Math.max(title.length, ...[...lines, sums].map((cells) => (cells[column] ?? "").length))
  )
  const line = (cells: ReadonlyArray<string>): string =>
    cells.map((cell, column) => column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)).join(
      "   "
    )
  const rule = widths.map((width) => "─".repeat(width)).join("───")
  return [line(columns), rule, ...lines.map(line), rule, line(sums)]
}

/** Writes to a stream; colours only on a terminal. */
export const make = (options: { readonly json: boolean }): Report => {
  const stream = options.json ? process.stderr : process.stdout
  const colour = stream.isTTY && process.env["NO_COLOR"] === undefined
  const painted = (code: number, text: string): string => colour ? `\u001b[${code}m${text}\u001b[0m` : text
  const startedAt = performance.now()
  const write = (text: string): void => {
    stream.write(`${text}\n`)
  }
  return {
    step: (text) => {
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(6)
      write(`${painted(2, `${seconds} s`)}  ${text}`)
    },
    text: write,
    error: (text, folder) => {
      const where = folder === undefined ? "" : `\nLogs and data are in ${folder}\n`
      process.stderr.write(`\n${painted(31, "The demo failed:")} ${text}\n${where}`)
    },
    query: (sql, answer) => {
      write(`\n  ${painted(2, `${sql};`)}\n`)
      for (const line of answer) write(`    ${line}`)
    },
    results: (tables, outcome) => {
      write("")
      for (const line of resultTable(tables)) write(`  ${line}`)
      write("")
      const verdict = isGood(outcome)
        ? painted(32, "Every row is there once, with every value.")
        : painted(31, "The mirror is not the same as its source.")
      write(
        `  ${verdict} ${count(outcome.rows)} rows compared both ways after ${
          count(outcome.changes)
        } changes and ${outcome.kills} kills, in ${outcome.seconds} s.`
      )
      for (const { examples, table } of tables) {
        for (const { columns, key, kind } of examples) {
          write(`    ${kind} in ${table}: ${key}${columns.length === 0 ? "" : ` (${columns.join(", ")})`}`)
        }
      }
    }
  }
}
