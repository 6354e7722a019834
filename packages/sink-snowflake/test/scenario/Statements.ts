/**
 * The statements that the sink runs in scenarios, told apart by what they are for: the rows of the matrix.
 *
 * A statement that is in none of these fails the matrix, so that what the sink begins to use gets its faults, too; but for scenarios with a run that is overtaken, which may
 * come to anything. No text fits two of them, because a fault is
 * asked for by its pattern alone.
 */
import type { Scenario } from "./Scenario.ts"

export const modeNames = ["mirror", "softDelete", "history", "changelog"] as const
export type ModeName = typeof modeNames[number]

export interface Statement {
  readonly name: string
  /** A regular expression that its text matches, without regard to case. */
  readonly match: string
  /** Where it is run. */
  readonly modes: ReadonlyArray<ModeName>
  /** Which scenarios are likely to come to it, where few do. */
  readonly likely?: (scenario: Scenario, shape: string) => boolean
  /** Depends on how two runs meet in time: its faults strike it when it comes, and that they did isn't asked for. */
  readonly seldom?: boolean
}

/** Every table of the scenarios is named like this. */
export const tableName = (serial: number): string => `seq_${serial}`

const state = (name: string): string => String.raw`"RAW"\."ETL_STREAM"\."${name}"`
const target = String.raw`"RAW"\."SHOP"\."SEQ_\d+"`
const journal = String.raw`"RAW"\."ETL_STREAM"\."SHOP__SEQ_\d+__JOURNAL"`
const links = String.raw`"RAW"\."ETL_STREAM"\."SHOP__SEQ_\d+__JOURNAL_LINKS"`
const copy = String.raw`"RAW"\."ETL_STREAM"\."SHOP__SEQ_\d+__JOURNAL_COPY"`
const value = "'[^']*'"

const mirrors: ReadonlyArray<ModeName> = ["mirror", "softDelete"]
const merged: ReadonlyArray<ModeName> = [...mirrors, "history"]

const has = ({ commands }: Scenario, ...names: ReadonlyArray<string>): boolean =>
  commands.some(({ name }) => names.includes(name))
const keyed = (shape: string): boolean => shape.startsWith("a key")
/** Runs that break off: what they leave is for the next one. */
const breaks = ({ runs }: Scenario): boolean => runs.some(({ end }) => end !== "drains")
const overtaken = (scenario: Scenario, shape: string): boolean =>
  keyed(shape) && scenario.merges &&
  scenario.runs.some(({ end, overtaken }) => overtaken && end !== "drains" && end.breaksAfter > 8)
const altered = (scenario: Scenario): boolean => has(scenario, "addColumn")
const moved = (scenario: Scenario, shape: string): boolean => keyed(shape) && has(scenario, "move", "swap")
const truncated = (scenario: Scenario): boolean => has(scenario, "truncate")
const spread = (scenario: Scenario, shape: string): boolean => keyed(shape) && scenario.channels > 1
const whole = (_scenario: Scenario, shape: string): boolean => shape.startsWith("no key, identified")
const appended = (_scenario: Scenario, shape: string): boolean => shape.startsWith("no identity")

const everywhere = (
  name: string,
  match: string,
  more: Pick<Statement, "likely"> = {}
): Statement => ({ name, match, modes: modeNames, ...more })

export const statements: ReadonlyArray<Statement> = [
  // ---- a session and a transaction
  everywhere("setting the session's parameters", "^ALTER SESSION SET TIMEZONE"),
  everywhere("looking at the session", String.raw`^SELECT CURRENT_WAREHOUSE\(\)`),
  everywhere("BEGIN", "^BEGIN$"),
  everywhere("COMMIT", "^COMMIT$"),
  // A transaction that is left is one of a run that was overtaken: a session that a failure ended isn't asked to roll back.
  { name: "ROLLBACK", match: "^ROLLBACK$", modes: merged, likely: overtaken, seldom: true },
  // ---- a run that was overtaken meets a table as it doesn't know it, and may not put it in quarantine
  ...[
    everywhere("putting a table in quarantine", `^UPDATE ${state("TABLES")} SET "QUARANTINED_AT" =`),
    everywhere("putting an unknown table in quarantine", `^INSERT INTO ${state("TABLES")}`),
    everywhere("looking for who may put a table in quarantine", `^SELECT "RUNNER" FROM ${state("TABLES")}`)
  ].map((statement) => ({ ...statement, likely: overtaken, seldom: true })),
  // ---- the sink's own tables
  everywhere("creating the journals' schema", String.raw`^CREATE SCHEMA IF NOT EXISTS "RAW"\."ETL_STREAM"`),
  ...["TABLES", "CHUNKS", "CHANNELS"].map((name) =>
    everywhere(`creating the table ${name}`, `^CREATE TABLE IF NOT EXISTS ${state(name)}`)
  ),
  everywhere("creating the stage", "^CREATE STAGE IF NOT EXISTS"),
  ...["TABLES", "CHUNKS"].map((name) => everywhere(`describing the table ${name}`, `^DESCRIBE TABLE ${state(name)}`)),
  everywhere("claiming the tables' states", `^UPDATE ${state("TABLES")} SET "RUNNER" =`),
  everywhere("reading the tables' states", `^SELECT "SOURCE_TABLE", "TARGET",.* FROM ${state("TABLES")}`),
  everywhere("reading an unfinished copy's chunks", `^SELECT "SOURCE_TABLE", "COPY", "CHUNK",`, {
    likely: (scenario) => breaks(scenario) && scenario.chunks > 1
  }),
  everywhere("reading channels", `^SELECT "SOURCE_TABLE", "EPOCH",`),
  everywhere("registering a table", `^MERGE INTO ${state("TABLES")}`),
  everywhere("looking for other owners of a target", `^SELECT "PIPELINE", "SOURCE_TABLE" FROM ${state("TABLES")}`),
  everywhere("keeping a table's columns", `^UPDATE ${state("TABLES")} SET "COLUMNS" = [?]`),
  // ---- the table and its journal
  everywhere("creating the target's schema", String.raw`^CREATE SCHEMA IF NOT EXISTS "RAW"\."SHOP"`),
  everywhere("describing a target", `^DESCRIBE TABLE ${target}`),
  everywhere("creating a target", `^CREATE TABLE ${target}`),
  everywhere("adding a column to a target", `^ALTER TABLE ${target} ADD COLUMN`, { likely: altered }),
  everywhere("freeing a target from collations", `^ALTER TABLE ${target} SET DEFAULT_DDL_COLLATION`, {
    likely: altered
  }),
  {
    name: "freeing a journal from collations",
    match: `^ALTER TABLE ${journal} SET DEFAULT_DDL_COLLATION`,
    modes: merged,
    likely: altered
  },
  { name: "describing a journal", match: `^DESCRIBE TABLE ${journal}`, modes: merged },
  { name: "creating a journal", match: `^CREATE TABLE ${journal}`, modes: merged },
  {
    name: "adding a column to a journal",
    match: `^ALTER TABLE ${journal} ADD COLUMN`,
    modes: merged,
    likely: altered
  },
  // ---- channels
  everywhere("claiming channels", `^MERGE INTO ${state("CHANNELS")}`, { likely: spread }),
  everywhere("owning channels", `^UPDATE ${state("CHANNELS")} SET "OWNER" =`, { likely: spread }),
  everywhere("replacing channels", `^UPDATE ${state("CHANNELS")} SET "EPOCH" =`, { likely: spread }),
  everywhere("looking for the last change in a journal", String.raw`^SELECT MAX\("_ETL_SEQ"\) AS "last" FROM`),
  everywhere("looking for changes in a journal", `^SELECT DISTINCT "_ETL_SEQ" AS "sequence" FROM`, { likely: spread }),
  // ---- copies
  everywhere("beginning a copy", `^UPDATE ${state("TABLES")} SET "COPYING" = ${value}, "COPY" =`),
  everywhere("keeping a copy's plan", `^UPDATE ${state("TABLES")} SET "COPY_PLAN" = [?]`),
  everywhere("looking for a copy", `^SELECT "COPYING" FROM ${state("TABLES")}`),
  everywhere("confirming a copy", `^UPDATE ${state("TABLES")} SET "COPYING" = ${value}, "UPDATED_AT" =`),
  everywhere("ending a copy", `^UPDATE ${state("TABLES")} SET "COPYING" = NULL`),
  everywhere("recording chunks", `^INSERT INTO ${state("CHUNKS")}`),
  everywhere("counting chunks", String.raw`^SELECT COUNT\(\*\) AS "chunks"`),
  everywhere("forgetting chunks", `^DELETE FROM ${state("CHUNKS")}`),
  everywhere("uploading a file", "^PUT "),
  everywhere("loading files", "^COPY INTO "),
  everywhere("removing files", "^REMOVE "),
  everywhere("counting loaded rows", String.raw`^SELECT COUNT\(\*\) AS "rows"(?!.* AS "(?:moved|overdue)")`),
  {
    name: "emptying a target",
    match: `^DELETE FROM ${target}(?: WHERE "_ETL_OP" = 'read')?$`,
    modes: [...mirrors, "changelog"]
  },
  { name: "emptying a journal", match: `^DELETE FROM ${journal}`, modes: merged },
  // ---- merges
  { name: "looking for changes", match: String.raw`^SELECT COUNT\(\*\) AS "rows",.* AS "moved"`, modes: merged },
  {
    name: "looking for unsent columns",
    match: `^SELECT DISTINCT "_ETL_UNSENT"`,
    modes: merged,
    likely: (_, shape) => keyed(shape)
  },
  {
    name: "creating the table of links",
    match: `^CREATE TEMPORARY TABLE IF NOT EXISTS ${links}`,
    modes: merged,
    likely: moved
  },
  { name: "emptying the table of links", match: `^DELETE FROM ${links}`, modes: merged, likely: moved },
  { name: "linking rows that moved", match: `^INSERT INTO ${links}`, modes: merged, likely: moved },
  { name: "following links", match: `^UPDATE ${links} SET "ROOT" =`, modes: merged, likely: moved },
  { name: "merging changes", match: `^MERGE INTO ${target}`, modes: merged, likely: (_, shape) => keyed(shape) },
  { name: "recording what is merged", match: `^UPDATE ${state("TABLES")} SET "MERGED" =`, modes: merged },
  {
    name: "looking for rows to prune",
    match: String.raw`^SELECT COUNT\(\*\) AS "rows",.* AS "overdue"`,
    modes: merged
  },
  {
    name: "counting copies of rows that go",
    match: String.raw`^SELECT COALESCE\(SUM\(n\.`,
    modes: ["mirror"],
    likely: whole
  },
  {
    name: "adding rows",
    match: `^INSERT INTO ${target}`,
    modes: ["mirror"],
    likely: (scenario, shape) => whole(scenario, shape) || appended(scenario, shape)
  },
  { name: "removing copies of rows", match: `^DELETE FROM ${target} USING`, modes: ["mirror"], likely: whole },
  {
    name: "removing rows of a target",
    match: `^DELETE FROM ${target} WHERE "_ETL_(?!OP)`,
    modes: ["mirror", "history"],
    likely: truncated
  },
  // ---- soft deletes
  {
    name: "marking all rows as deleted",
    match: `^UPDATE ${target} SET "_ETL_DELETED" = TRUE`,
    modes: ["softDelete"],
    likely: truncated
  },
  // ---- histories
  { name: "creating the table of a copy", match: `^CREATE OR REPLACE TABLE ${copy}`, modes: ["history"] },
  { name: "describing the table of a copy", match: `^DESCRIBE TABLE ${copy}`, modes: ["history"], likely: breaks },
  { name: "dropping the table of a copy", match: `^DROP TABLE IF EXISTS ${copy}`, modes: ["history"] },
  { name: "emptying the table of a copy", match: `^DELETE FROM ${copy}`, modes: ["history"] },
  { name: "looking for truncates", match: `^SELECT "_ETL_SEQ" AS "truncated"`, modes: ["history"], likely: truncated },
  {
    name: "ending all versions",
    match: `^UPDATE ${target} SET "_ETL_VALID_TO" =`,
    modes: ["history"],
    likely: truncated
  },
  // ---- views of changelogs
  { name: "looking for a view", match: "^SHOW VIEWS LIKE", modes: ["changelog"] },
  { name: "creating a view", match: String.raw`^CREATE VIEW "RAW"\."SHOP"\."SEQ_\d+_CURRENT"`, modes: ["changelog"] },
  {
    name: "replacing a view",
    match: String.raw`^CREATE OR REPLACE VIEW "RAW"\."SHOP"\."SEQ_\d+_CURRENT"`,
    modes: ["changelog"],
    likely: altered
  }
]

const compiled = statements.map((statement) => ({ statement, pattern: new RegExp(statement.match, "is") }))

/** What a text is for; undefined for one that isn't listed. */
export const find = (sql: string): Statement | undefined => {
  const fitting = compiled.filter(({ pattern }) => pattern.test(sql))
  if (fitting.length > 1) {
    throw new Error(`${fitting.map(({ statement }) => statement.name).join(" and ")} can't be told apart: ${sql}`)
  }
  return fitting[0]?.statement
}
