/**
 * What is to be done about changes of a target's columns: from the changes and the table's policies to statements, or to an error that stops
 * the table.
 *
 * A change that leaves values missing which only the source has (`void`) means that the table is copied again. Where a policy leaves a
 * column out, under its old name, or as text, the layout that is worked with from then on says so. Pure: nothing is executed here.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import type { ColumnChange } from "./ColumnChange.ts"
import { failure } from "./ErrorPolicy.ts"
import type { ExistingTable } from "./ExistingTable.ts"
import { quote } from "./Identifier.ts"
import type { KnownColumn, KnownColumns } from "./KnownColumns.ts"
import type { SchemaPolicies } from "./SchemaPolicies.ts"
import type { ColumnLayout, TableLayout } from "./TableLayout.ts"
import * as Layout from "./TableLayout.ts"
import * as TypeMapping from "./TypeMapping.ts"

type Failed = ConnectorError.ConnectorError

export interface Warning {
  readonly message: string
  readonly hint: string
}

export interface Decision {
  /** The layout to work with. */
  readonly layout: TableLayout
  /** What follows `ALTER TABLE <target>`, in order. */
  readonly alterations: ReadonlyArray<string>
  /** Names that columns had in Snowflake before, by their names from now on. */
  readonly renamed: ReadonlyMap<string, string>
  /** Columns that go. */
  readonly dropped: ReadonlyArray<string>
  /** What to remember. */
  readonly known: KnownColumns
  /** Why what the target holds isn't a complete copy any more, undefined when it is. */
  readonly void: string | undefined
  /** A column of the key is made anew, for which the table has to be empty. */
  readonly remakesKey: boolean
  readonly warnings: ReadonlyArray<Warning>
}

const quarantined = (layout: TableLayout, policy: keyof SchemaPolicies, what: string): Failed =>
  failure(
    "Unsupported",
    `${what}, and schemaEvolution.${policy} of ${layout.id} is quarantine`,
    `Change the target by hand, or set schemaEvolution.${policy} of the table to another policy; then have the table copied again (etl-stream resync).`,
    { table: layout.id }
  )

const unfillable = (layout: TableLayout, table: string, name: string): Failed =>
  failure(
    "Unsupported",
    `The column ${name} of ${table} is NOT NULL without a default, and nothing of ${layout.id} is written to it: Snowflake would refuse every row`,
    `Run: ALTER TABLE ${table} ALTER COLUMN ${
      quote(name)
    } DROP NOT NULL; then have the table copied again (etl-stream resync).`,
    { table: layout.id }
  )

/** A name for the column that `name` was, which no column has. */
const aside = (name: string, taken: (name: string) => boolean): string => {
  for (let number = 1;; number++) {
    const old = `${name}__OLD${number === 1 ? "" : `_${number}`}`
    if (!taken(old)) return old
  }
}

/** Works through the changes of one table, in order. */
class Deciding {
  readonly alterations: Array<string> = []
  readonly warnings: Array<Warning> = []
  readonly renamed = new Map<string, string>()
  readonly dropped: Array<string> = []
  readonly omitted = new Set<ColumnLayout>()
  /** Columns that have another name in Snowflake than they would be given. */
  readonly names = new Map<ColumnLayout, string>()
  readonly texts = new Set<ColumnLayout>()
  readonly gone: Array<KnownColumn> = []
  void: string | undefined
  remakesKey = false
  private readonly layout: TableLayout
  private readonly policies: SchemaPolicies
  private readonly existing: ExistingTable
  private readonly made = new Set<string>()

  constructor(layout: TableLayout, policies: SchemaPolicies, existing: ExistingTable) {
    this.layout = layout
    this.policies = policies
    this.existing = existing
  }

  private warn(message: string, hint: string): undefined {
    this.warnings.push({ message, hint })
    return undefined
  }

  private get target(): string {
    return Layout.sqlName(this.layout.target)
  }

  private add({ name, target }: ColumnLayout): undefined {
    this.alterations.push(`ADD COLUMN ${quote(name)} ${target}`)
    return undefined
  }

  /** A column that the target lacks. `missing`: why its values are, where rows have had some. */
  private lacking(column: ColumnLayout, what: string, missing: string | undefined): Failed | undefined {
    // Rows can't be told apart without their key.
    const policy = column.isKey ? "apply" : this.policies.addColumn
    if (policy === "quarantine") return quarantined(this.layout, "addColumn", what)
    if (policy === "alert") {
      this.omitted.add(column)
      return this.warn(
        `${what}, and is left out: schemaEvolution.addColumn is alert`,
        `Add the column to ${this.target} by hand or set the policy to apply: the table is then copied again with it.`
      )
    }
    this.void ??= missing
    return this.add(column)
  }

  /** The error that the change is; undefined when it was seen to. */
  take(change: ColumnChange): Failed | undefined {
    const { layout, policies, target } = this
    switch (change._tag) {
      case "Added":
        return this.lacking(change.column, `The column ${change.column.name} is new in ${layout.id}`, undefined)
      case "Adopted":
        return this.warn(
          `The column ${change.column.name} of ${target} was made by hand, and is one of ${layout.id} now`,
          "Rows that are there keep what it holds until they change at the source. Have the table copied again to be rid of that."
        )
      case "Returned": {
        const { column, held, omitted } = change
        const why = `the column ${column.name} was not written for a while`
        if (!held) return this.lacking(column, `The column ${column.name} of ${layout.id} is not in ${target}`, why)
        if (omitted || layout.mode !== "changelog") this.void ??= why
        return undefined
      }
      case "Lost": {
        const { column } = change
        const what = `The column ${column.name} was dropped from ${target} by somebody else`
        return this.lacking(column, what, `the column ${column.name} was dropped in Snowflake`)
      }
      case "Renamed": {
        const { column, from } = change
        const what = `The column ${from} of ${layout.id} is named ${column.name} now`
        if (policies.renameColumn === "quarantine") return quarantined(layout, "renameColumn", what)
        if (policies.renameColumn === "alert") {
          this.names.set(column, from)
          return this.warn(
            `${what}, and goes on as ${from} in ${target}: schemaEvolution.renameColumn is alert`,
            "Set the policy to apply to have it renamed."
          )
        }
        this.alterations.push(`RENAME COLUMN ${quote(from)} TO ${quote(column.name)}`)
        this.renamed.set(column.name, from)
        // Rows are told apart by a hash over names and values.
        if (layout.keyless) this.void ??= `the column ${from} was renamed, and ${layout.id} has no key`
        return undefined
      }
      case "NameTaken": {
        const { column, from } = change
        const what =
          `The column ${from} of ${layout.id} is named ${column.name} now, and ${target} has another one of that name`
        if (policies.renameColumn === "quarantine") return quarantined(layout, "renameColumn", what)
        this.void ??= `the column ${from} was renamed to ${column.name}, which Snowflake had already`
        return this.warn(what, "The table is copied again into that column.")
      }
      case "Replaced":
        if (layout.mode !== "changelog") {
          this.void ??= `the column ${change.column.name} was replaced by another of its name`
        }
        return undefined
      case "Widened": {
        const { at, column, from } = change
        const what =
          `The column ${column.name} of ${target} has the type ${from}, and ${layout.id} needs ${column.target}`
        if (policies.widen === "quarantine") return quarantined(layout, "widen", what)
        this.alterations.push(`ALTER COLUMN ${quote(at)} SET DATA TYPE ${column.target}`)
        return undefined
      }
      case "Incompatible":
        return this.incompatible(change)
      case "Required": {
        const what = `The column ${change.at} of ${target} is NOT NULL, and may be NULL in ${layout.id}`
        if (policies.nullability === "quarantine") return quarantined(layout, "nullability", what)
        if (!this.made.has(change.at)) this.alterations.push(`ALTER COLUMN ${quote(change.at)} DROP NOT NULL`)
        return undefined
      }
      case "Dropped":
        return this.goes(change)
      case "Unfillable":
        return unfillable(layout, target, change.name)
    }
  }

  private incompatible(
    { at, column, from }: Extract<ColumnChange, { readonly _tag: "Incompatible" }>
  ): Failed | undefined {
    const { existing, layout, policies, target } = this
    const what = `The column ${at} of ${target} has the type ${from}, and ${layout.id} needs ${column.target}`
    if (policies.incompatible === "quarantine") return quarantined(layout, "incompatible", what)
    const text = policies.incompatible === "text"
    if (text) this.texts.add(column)
    if (text && TypeMapping.isText(from)) return undefined
    const type = text ? TypeMapping.asText(column.type).target : column.target
    this.made.add(at)
    if (layout.mode === "history" && column.isKey) {
      return failure(
        "Unsupported",
        `${what}, which is a column of its key`,
        `Rename ${target} in Snowflake to keep its history: a new one begins then.`,
        { table: layout.id }
      )
    }
    // What they hold is not to be had from the source any more.
    if (layout.mode !== "mirror") {
      if (layout.mode === "history") this.void ??= `the type of the column ${at} changed from ${from} to ${type}`
      const wanted = new Set(layout.columns.map(({ name }) => name))
      const old = aside(at, (name) => existing.columns.has(name) || wanted.has(name))
      this.alterations.push(`RENAME COLUMN ${quote(at)} TO ${quote(old)}`, `ADD COLUMN ${quote(at)} ${type}`)
      return this.warn(
        `The type of the column ${at} of ${target} changed from ${from} to ${type}: what it held until now is in ${old}`,
        "Drop that column when nobody needs it."
      )
    }
    this.void ??= `the type of the column ${at} changed from ${from} to ${type}`
    if (column.isKey) this.remakesKey = true
    this.alterations.push(`DROP COLUMN ${quote(at)}`, `ADD COLUMN ${quote(at)} ${type}`)
    return undefined
  }

  private goes(
    { held, known, nullable, required }: Extract<ColumnChange, { readonly _tag: "Dropped" }>
  ): Failed | undefined {
    const { layout, policies, target } = this
    const { name } = known
    // Somebody was first.
    if (!held) return undefined
    const what = `The column ${name} of ${target} is not in ${layout.id} any more`
    switch (policies.dropColumn) {
      case "quarantine":
        return quarantined(layout, "dropColumn", what)
      case "drop":
        this.alterations.push(`DROP COLUMN ${quote(name)}`)
        this.dropped.push(name)
        break
      case "alert":
        if (required) return unfillable(layout, target, name)
        this.warn(`${what}, and keeps its values: schemaEvolution.dropColumn is alert`, "Drop it when nobody needs it.")
        this.gone.push(known)
        break
      case "apply":
        if (!nullable) this.alterations.push(`ALTER COLUMN ${quote(name)} DROP NOT NULL`)
        this.gone.push(known)
    }
    if (layout.keyless) this.void ??= `the column ${name} was dropped, and ${layout.id} has no key`
    return undefined
  }
}

/** The layout with what policies made of its columns; fails when two of them have one name then. */
const adjusted = (layout: TableLayout, { names, omitted, texts }: Deciding): Effect.Effect<TableLayout, Failed> => {
  if (names.size === 0 && omitted.size === 0 && texts.size === 0) return Effect.succeed(layout)
  const adjust = (column: ColumnLayout): ReadonlyArray<ColumnLayout> => {
    if (omitted.has(column)) return []
    const name = names.get(column) ?? column.name
    return [texts.has(column) ? { ...column, ...TypeMapping.asText(column.type), name } : { ...column, name }]
  }
  const columns = layout.columns.flatMap(adjust)
  const [twice] = columns.filter(({ name }, index) =>
    columns.findIndex((other) => other.name.toUpperCase() === name.toUpperCase()) !== index
  )
  return twice === undefined
    ? Effect.succeed({ ...layout, columns, keys: layout.keys.flatMap(adjust) })
    : Effect.fail(failure(
      "Unsupported",
      `Two columns of ${layout.id} would have the name ${twice.name} in Snowflake, one of them from before it was renamed`,
      "Set schemaEvolution.renameColumn of the table to apply.",
      { table: layout.id }
    ))
}

/** Decides about all changes of a table, or fails with the first one that must not be. */
export const decide = (
  known: KnownColumns | undefined,
  layout: TableLayout,
  existing: ExistingTable,
  changes: ReadonlyArray<ColumnChange>,
  policies: SchemaPolicies
): Effect.Effect<Decision, Failed> =>
  Effect.gen(function*() {
    const deciding = new Deciding(layout, policies, existing)
    for (const change of changes) {
      const error = deciding.take(change)
      if (error !== undefined) return yield* error
    }
    const worked = yield* adjusted(layout, deciding)
    return {
      layout: worked,
      alterations: deciding.alterations,
      renamed: deciding.renamed,
      dropped: deciding.dropped,
      known: remembered(known, layout, deciding, existing),
      void: deciding.void,
      remakesKey: deciding.remakesKey,
      warnings: deciding.warnings
    }
  })

/** What to remember of a table: its columns as they are now, and those of ours that are still there. */
const remembered = (
  known: KnownColumns | undefined,
  layout: TableLayout,
  { gone, names, omitted }: Deciding,
  existing: ExistingTable
): KnownColumns => {
  const columns = layout.columns.map((column): KnownColumn => {
    const schema = layout.table.columns[column.index]
    return {
      name: names.get(column) ?? column.name,
      source: schema?.name ?? column.name,
      ...(schema?.id === undefined ? {} : { id: schema.id }),
      ...(omitted.has(column) ? { state: "omitted" as const } : {})
    }
  })
  const taken = new Set(columns.map(({ name }) => name))
  const before = (known ?? []).filter(({ name, state }) => state === "dropped" && existing.columns.has(name))
  const left = [...before, ...gone.map((column): KnownColumn => ({ ...column, state: "dropped" }))]
  return [...columns, ...left.filter(({ name }) => !taken.has(name))]
}

/** What follows `ALTER TABLE <journal>` so that the journal fits the layout, and why its rows are void after that. */
export const followJournal = (
  known: KnownColumns | undefined,
  { dropped, layout, renamed }: Pick<Decision, "dropped" | "layout" | "renamed">,
  journal: ExistingTable
): Effect.Effect<{ readonly alterations: ReadonlyArray<string>; readonly void: string | undefined }, Failed> => {
  const alterations: Array<string> = []
  let voided: string | undefined
  const wanted = Layout.journalColumns(layout)
  const written = new Map(
    (known ?? []).filter(({ state }) => state === undefined).map((column) => [column.name, column])
  )
  /** Where a run that died between the two tables has left the column. */
  const before = new Map(layout.columns.flatMap(({ index, name }) => {
    const id = layout.table.columns[index]?.id
    const entry = id === undefined ? undefined : known?.find((column) => column.id === id && column.state === undefined)
    return entry === undefined || entry.name === name ? [] : [[name, entry.name] as const]
  }))
  const used = new Set<string>()
  for (const { name, type } of wanted) {
    const from = renamed.get(name) ?? before.get(name)
    const old = from !== undefined && !journal.columns.has(name) && journal.columns.has(from) ? from : name
    const have = journal.columns.get(old)
    used.add(old)
    if (have === undefined) {
      alterations.push(`ADD COLUMN ${quote(name)} ${type}`)
      if (written.has(name)) voided ??= `the column ${name} was dropped from the journal`
      continue
    }
    if (old !== name) alterations.push(`RENAME COLUMN ${quote(old)} TO ${quote(name)}`)
    const fits = TypeMapping.compare(have.type, type)
    if (fits === "widens") alterations.push(`ALTER COLUMN ${quote(name)} SET DATA TYPE ${type}`)
    if (fits === "differs") {
      alterations.push(`DROP COLUMN ${quote(name)}`, `ADD COLUMN ${quote(name)} ${type}`)
      voided ??= `the type of the column ${name} changed from ${have.type} to ${type}`
    } else if (!have.nullable) alterations.push(`ALTER COLUMN ${quote(name)} DROP NOT NULL`)
  }
  for (const name of dropped) {
    if (journal.columns.has(name) && !used.has(name)) alterations.push(`DROP COLUMN ${quote(name)}`)
    used.add(name)
  }
  for (const [name, { filled, nullable }] of journal.columns) {
    if (!nullable && !filled && !used.has(name)) {
      return Effect.fail(unfillable(layout, Layout.sqlName(layout.journal), name))
    }
  }
  return Effect.succeed({ alterations, void: voided })
}
