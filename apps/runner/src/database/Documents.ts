/**
 * Rows as the document that a configuration file would be, and a document as rows.
 *
 * The two forms say the same: a table is a section, a row an entry of it; rows of `settings` are the sections that have no table. A source or sink that
 * a pipeline of a file spells out is a row with the pipeline's name.
 */
import * as Config from "../Config.ts"
import type { Finding, Path } from "../Problem.ts"
import { type Content, isStageTable, type Row } from "./Rows.ts"
import type { Table } from "./Tables.ts"

type Mapping = Readonly<Record<string, unknown>>

const isMapping = (value: unknown): value is Mapping =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The document of `rows`: plain, without an entry for a section that has no rows. */
export const documentOf = (rows: ReadonlyArray<Content>): Mapping => {
  const sections = new Map<string, Array<readonly [string, unknown]>>()
  const own: Array<readonly [string, unknown]> = []
  for (const { name, table, value } of rows) {
    if (table === "settings") own.push([name, value])
    else {
      const entries = sections.get(table) ?? []
      entries.push([name, value])
      sections.set(table, entries)
    }
  }
  return Object.fromEntries([
    ["apiVersion", Config.apiVersion],
    ...own.filter(([name]) => !isReserved(name)),
    ...[...sections].map(([table, entries]) => [table, Object.fromEntries(entries)] as const),
    ["pipelines", Object.fromEntries(sections.get("pipelines") ?? [])]
  ])
}

/** Whether a row of `settings` can't be called `name`: the document has something else there. */
export const isReserved = (name: string): boolean => name === "apiVersion" || name === "pipelines" || isStageTable(name)

/** The row that says what stands at `path` of a document, and where in it. */
export const rowAt = (
  path: Path
): { readonly table: Table; readonly name: string; readonly path: Path } | undefined => {
  const [section, name, ...rest] = path
  if (typeof section !== "string") return undefined
  if (section === "pipelines" || isStageTable(section)) {
    return typeof name === "string" ? { table: section, name, path: rest } : undefined
  }
  return { table: "settings", name: section, path: path.slice(1) }
}

export interface Written {
  readonly rows: ReadonlyArray<Content>
  /** Stages that would be the same row. */
  readonly findings: ReadonlyArray<Finding>
}

/** The rows of a file's `document`, which has been decoded without a finding. */
export const rowsOf = (document: unknown): Written => {
  const rows: Array<Content> = []
  const findings: Array<Finding> = []
  if (!isMapping(document)) return { rows, findings }
  for (const [section, value] of Object.entries(document)) {
    if (section === "apiVersion" || section === "pipelines") continue
    if (!isStageTable(section)) rows.push({ table: "settings", name: section, value })
    else if (isMapping(value)) {
      for (const [name, stage] of Object.entries(value)) rows.push({ table: section, name, value: stage })
    }
  }
  const taken = new Set(rows.map(({ name, table }) => `${table}/${name}`))
  const pipelines = isMapping(document["pipelines"]) ? document["pipelines"] : {}
  for (const [name, pipeline] of Object.entries(pipelines)) {
    if (!isMapping(pipeline)) continue
    const named = (["source", "sink"] as const).map((kind) => {
      const stage = pipeline[kind]
      if (typeof stage === "string") return [kind, stage] as const
      const table = `${kind}s` as const
      if (taken.has(`${table}/${name}`)) {
        findings.push({
          path: ["pipelines", name, kind],
          at: "value",
          message: `In the database this ${kind} would be called \`${name}\`, as the one in \`${table}\` is.`,
          remedy: `Use that one (\`${kind}: ${name}\`), or give it another name.`
        })
      } else rows.push({ table, name, value: stage })
      return [kind, name] as const
    })
    rows.push({ table: "pipelines", name, value: Object.fromEntries([...Object.entries(pipeline), ...named]) })
  }
  return { rows, findings }
}

/** Where in a file's `document` that stands which the database has at `path`. */
export const pathInFile = (document: unknown, path: Path): Path => {
  const [section, name, ...rest] = path
  const kind = section === "sources" ? "source" : section === "sinks" ? "sink" : undefined
  if (kind === undefined || name === undefined) return path
  const named = isMapping(document) && isMapping(document[section ?? ""]) ? document[section ?? ""] : undefined
  return isMapping(named) && Object.hasOwn(named, name) ? path : ["pipelines", name, kind, ...rest]
}

/**
 * `rows` as a document for people: a source or sink that only the pipeline of its name uses is spelled out there. `rowsOf` of it gives the rows again.
 */
export const exported = (rows: ReadonlyArray<Row>): Mapping => {
  const users = new Map<string, Array<string>>()
  const kinds = [["source", "sources"], ["sink", "sinks"]] as const
  for (const { name, table, value } of rows) {
    if (table !== "pipelines" || !isMapping(value)) continue
    for (const [kind, section] of kinds) {
      const key = `${section}/${String(value[kind])}`
      users.set(key, [...users.get(key) ?? [], name])
    }
  }
  const isOwn = (table: string, name: string): boolean => {
    const found = users.get(`${table}/${name}`)
    return found?.length === 1 && found[0] === name
  }
  const stages = new Map(rows.map((row) => [`${row.table}/${row.name}`, row.value]))
  const spelled = rows.flatMap((row): ReadonlyArray<Content> => {
    if ((row.table === "sources" || row.table === "sinks") && isOwn(row.table, row.name)) return []
    if (row.table !== "pipelines" || !isMapping(row.value)) return [row]
    const { status, ...rest } = row.value
    const own = kinds.flatMap(([kind, section]) =>
      isOwn(section, row.name) && rest[kind] === row.name
        ? [[kind, tidy(stages.get(`${section}/${row.name}`))] as const]
        : []
    )
    const transforms = rest["transforms"]
    const entries = [...Object.entries(rest), ...own].filter(([key]) =>
      key !== "transforms" || !Array.isArray(transforms) || transforms.length > 0
    )
    return [{
      ...row,
      value: Object.fromEntries([...(status === "running" ? [] : [["status", status] as const]), ...entries])
    }]
  })
  return documentOf(
    spelled.map((row) =>
      row.table === "pipelines" || row.table === "settings" ? row : { ...row, value: tidy(row.value) }
    )
  )
}

/** A stage without options when it has none. */
const tidy = (stage: unknown): unknown => {
  if (!isMapping(stage)) return stage
  const { options } = stage
  return Object.fromEntries(
    Object.entries(stage).filter(([key]) => key !== "options" || !isMapping(options) || Object.keys(options).length > 0)
  )
}
