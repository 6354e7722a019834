/**
 * ALTER TABLE, and COMMENT ON.
 */
import * as Effect from "effect/Effect"
import type { Changes, Column, Table } from "../Catalog.ts"
import * as CatalogRecords from "../Catalog.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import * as Collation from "../sql/Collation.ts"
import { Cursor, isWord } from "../sql/Cursor.ts"
import * as Identifier from "../sql/Identifier.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import * as Types from "../sql/SnowflakeType.ts"
import type { Token } from "../sql/Token.ts"
import { commas } from "../sql/Token.ts"
import * as Storage from "../Storage.ts"
import * as Definition from "./DefinitionChange.ts"
import * as Dml from "./DmlStatement.ts"
import * as Privileges from "./Privileges.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"
import * as TableDefinition from "./TableDefinition.ts"

type Failure = SnowflakeError.SnowflakeError | Storage.StorageError

/** Makes one change to a table inside a catalog change. */
type Change = (table: Table, changes: Changes) => Effect.Effect<Table, Failure>

const ddl = (changes: Changes, table: Table, sql: string) =>
  Storage.run(changes.connection, `ALTER TABLE ${table.duckdb} ${sql}`)
const quoted = (column: Column): string => Identifier.quote(column.duckdbName)
const replaced = (table: Table, column: Column): Table => ({
  ...table,
  columns: table.columns.map((other) => other.name === column.name ? column : other)
})

const addColumn = (column: Column, ifNotExists: boolean): Change => (table, changes) =>
  Effect.gen(function*() {
    if (table.columns.some((other) => other.name === column.name)) {
      if (ifNotExists) return table
      return yield* SnowflakeError.columnExists(Identifier.print(column.name))
    }
    const standard = column.default === undefined ? "" : ` DEFAULT (${column.default.sql})`
    yield* ddl(
      changes,
      table,
      `ADD COLUMN ${quoted(column)} ${column.duckdbType}${Collation.duckdb(column.collation)}${standard}`
    )
    if (!column.nullable) {
      const [row] = yield* Storage.rows(
        changes.connection,
        `SELECT count(*) FROM ${table.duckdb} WHERE ${quoted(column)} IS NULL`
      )
      if (Number(row?.[0] ?? 0) > 0) return yield* SnowflakeError.notNullOnFilledTable(Identifier.print(column.name))
      yield* ddl(changes, table, `ALTER COLUMN ${quoted(column)} SET NOT NULL`)
    }
    return { ...table, columns: [...table.columns, column] }
  })

const dropColumn = (name: string, ifExists: boolean): Change => (table, changes) =>
  Effect.gen(function*() {
    const column = table.columns.find((other) => other.name === name)
    if (column === undefined) {
      if (ifExists) return table
      return yield* SnowflakeError.columnMissing(Identifier.print(name))
    }
    if (table.columns.length === 1) {
      return yield* SnowflakeError.invalidOption("Cannot drop the only column of a table.")
    }
    yield* ddl(changes, table, `DROP COLUMN ${quoted(column)}`)
    return {
      ...table,
      columns: table.columns.filter((other) => other !== column),
      primaryKey: table.primaryKey.filter((key) => key !== name)
    }
  })

const renameColumn = (from: string, to: string): Change => (table, changes) =>
  Effect.gen(function*() {
    const column = table.columns.find((other) => other.name === from)
    if (column === undefined) return yield* SnowflakeError.columnMissing(Identifier.print(from))
    if (table.columns.some((other) => other.name === to)) {
      return yield* SnowflakeError.columnExists(Identifier.print(to))
    }
    const renamed = { ...column, name: to, duckdbName: Identifier.encode(to) }
    yield* ddl(changes, table, `RENAME COLUMN ${quoted(column)} TO ${quoted(renamed)}`)
    return {
      ...table,
      columns: table.columns.map((other) => other === column ? renamed : other),
      primaryKey: table.primaryKey.map((key) => key === from ? to : key)
    }
  })

/** What Snowflake changes in place: longer text and bytes, more digits before the point with the same scale. */
const widens = (from: SnowflakeType, to: SnowflakeType): boolean => {
  if (from.kind === "TEXT" && to.kind === "TEXT") return to.length >= from.length
  if (from.kind === "BINARY" && to.kind === "BINARY") return to.length >= from.length
  if (from.kind === "FIXED" && to.kind === "FIXED") return to.scale === from.scale && to.precision >= from.precision
  return Types.print(from) === Types.print(to)
}

const changeType = (name: string, type: SnowflakeType): Change => (table, changes) =>
  Effect.gen(function*() {
    const column = table.columns.find((other) => other.name === name)
    if (column === undefined) return yield* SnowflakeError.columnMissing(Identifier.print(name))
    if (!widens(column.type, type)) {
      return yield* SnowflakeError.cannotChangeType(Identifier.print(name), Types.print(column.type), Types.print(type))
    }
    const changed = { ...column, type, duckdbType: Types.duckdbType(type) }
    if (changed.duckdbType !== column.duckdbType) {
      yield* ddl(changes, table, `ALTER COLUMN ${quoted(column)} TYPE ${changed.duckdbType}`)
    }
    return replaced(table, changed)
  })

const nullability = (name: string, nullable: boolean): Change => (table, changes) =>
  Effect.gen(function*() {
    const column = table.columns.find((other) => other.name === name)
    if (column === undefined) return yield* SnowflakeError.columnMissing(Identifier.print(name))
    if (column.nullable === nullable) return table
    yield* ddl(changes, table, `ALTER COLUMN ${quoted(column)} ${nullable ? "DROP" : "SET"} NOT NULL`)
    return replaced(table, { ...column, nullable })
  })

const withoutDefault = (name: string): Change => (table, changes) =>
  Effect.gen(function*() {
    const column = table.columns.find((other) => other.name === name)
    if (column === undefined) return yield* SnowflakeError.columnMissing(Identifier.print(name))
    yield* ddl(changes, table, `ALTER COLUMN ${quoted(column)} DROP DEFAULT`)
    return replaced(table, { ...column, default: undefined })
  })

const columnComment = (name: string, comment: string | undefined): Change => (table) =>
  Effect.gen(function*() {
    const column = table.columns.find((other) => other.name === name)
    if (column === undefined) return yield* SnowflakeError.columnMissing(Identifier.print(name))
    return replaced(table, { ...column, comment })
  })

/** ADD [COLUMN] [IF NOT EXISTS] a T …, b T … */
const adds = (context: StatementContext, cursor: Cursor, table: Table): ReadonlyArray<Change> => {
  if (isWord(cursor.peek(), "PRIMARY", "UNIQUE", "CONSTRAINT", "FOREIGN")) {
    const tokens = cursor.rest()
    const group = tokens.find((token) => token.kind === "group")
    const keys = group?.kind === "group" && tokens.some((token) => isWord(token, "PRIMARY"))
      ? group.items.flatMap((token) => token.kind === "word" || token.kind === "quoted" ? [token.text] : [])
      : undefined
    return [(table) => Effect.succeed(keys === undefined ? table : { ...table, primaryKey: keys })]
  }
  const collation = TableDefinition.defaultCollation(context, table)
  return commas(cursor.rest()).map((tokens, index) => {
    const part = new Cursor(context.source, tokens)
    if (index === 0 || isWord(part.peek(), "COLUMN")) part.accept("COLUMN")
    const ifNotExists = part.accept("IF", "NOT", "EXISTS")
    return addColumn(TableDefinition.columnDefinition(context, part, collation).column, ifNotExists)
  })
}

const drops = (context: StatementContext, cursor: Cursor): ReadonlyArray<Change> => {
  if (cursor.accept("PRIMARY", "KEY")) return [(table) => Effect.succeed({ ...table, primaryKey: [] })]
  if (isWord(cursor.peek(), "CONSTRAINT", "UNIQUE", "FOREIGN")) {
    cursor.rest()
    return [Effect.succeed]
  }
  cursor.accept("COLUMN")
  const ifExists = cursor.accept("IF", "EXISTS")
  return commas(cursor.rest()).map((tokens) => {
    const part = new Cursor(context.source, tokens)
    const name = part.identifier()
    part.end()
    return dropColumn(name, ifExists)
  })
}

/** ALTER [COLUMN] a SET DATA TYPE T, COLUMN b DROP NOT NULL, … */
const columnChange = (cursor: Cursor): Change => {
  cursor.accept("COLUMN")
  const name = cursor.identifier()
  let result: Change
  if (cursor.accept("DROP", "NOT", "NULL")) result = nullability(name, true)
  else if (cursor.accept("SET", "NOT", "NULL")) result = nullability(name, false)
  else if (cursor.accept("DROP", "DEFAULT")) result = withoutDefault(name)
  else if (cursor.accept("COMMENT")) result = columnComment(name, cursor.string())
  else if (cursor.accept("UNSET", "COMMENT")) result = columnComment(name, undefined)
  else {
    if (!cursor.accept("SET", "DATA", "TYPE")) cursor.accept("TYPE")
    result = changeType(name, cursor.type())
  }
  cursor.end()
  return result
}

const columnChanges = (context: StatementContext, tokens: ReadonlyArray<Token>): ReadonlyArray<Change> => {
  const [only] = tokens
  const items = tokens.length === 1 && only?.kind === "group" ? only.items : tokens
  return commas(items).map((item) => columnChange(new Cursor(context.source, item)))
}

const setOptions = (cursor: Cursor): Change => {
  const { COMMENT: comment, ...settings } = Definition.options(cursor, Definition.tableOptions)
  return (table) =>
    Effect.succeed({ ...table, comment: comment ?? table.comment, options: { ...table.options, ...settings } })
}

const unsetOptions = (cursor: Cursor): Change => {
  const names: Array<string> = []
  do names.push(cursor.identifier())
  while (cursor.acceptOp(","))
  cursor.end()
  return (table) => {
    const options = Object.fromEntries(Object.entries(table.options).filter(([name]) => !names.includes(name)))
    return Effect.succeed({ ...table, options, comment: names.includes("COMMENT") ? undefined : table.comment })
  }
}

/** ALTER TABLE, whose first two words have been read. */
export const alter = (context: StatementContext, cursor: Cursor): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifExists = cursor.accept("IF", "EXISTS")
      const path = cursor.path()
      if (ifExists && Statement.findRelation(context, path) === undefined) return undefined
      const table = Statement.requireTable(context, path)
      Privileges.requireOwnership(context, table)
      if (cursor.accept("RENAME", "TO")) return { table, rename: Statement.fullPath(context.session, cursor.path()) }
      if (cursor.accept("SWAP", "WITH")) {
        const swap = Statement.requireTable(context, cursor.path())
        Privileges.requireOwnership(context, swap)
        return { table, swap }
      }
      if (cursor.accept("ADD")) return { table, steps: adds(context, cursor, table) }
      if (cursor.accept("DROP")) return { table, steps: drops(context, cursor) }
      if (cursor.accept("RENAME", "COLUMN")) {
        const from = cursor.identifier()
        cursor.expect("TO")
        const to = cursor.identifier()
        cursor.end()
        return { table, steps: [renameColumn(from, to)] }
      }
      if (cursor.accept("ALTER") || cursor.accept("MODIFY")) {
        return { table, steps: columnChanges(context, cursor.rest()) }
      }
      if (cursor.accept("SET")) {
        return { table, steps: [setOptions(cursor)] }
      }
      if (cursor.accept("UNSET")) return { table, steps: [unsetOptions(cursor)] }
      if (cursor.accept("CLUSTER", "BY")) {
        cursor.group()
        cursor.end()
        return { table, steps: [] }
      }
      throw cursor.unexpected()
    })
    const finished = Definition.done("ALTER_TABLE", "Statement executed successfully.")
    if (plan === undefined) return finished
    if (plan.rename !== undefined) yield* rename(context, plan.table, plan.rename)
    else if (plan.swap !== undefined) yield* swap(context, plan.table, plan.swap)
    else yield* alterTable(context, plan.table, plan.steps ?? [])
    return finished
  })

const alterTable = (context: StatementContext, table: Table, steps: ReadonlyArray<Change>): Run<void> =>
  Effect.gen(function*() {
    const temporary = table.lifetime === "TEMPORARY"
    const altered = yield* Definition.changeExisting(context, (changes) =>
      Effect.gen(function*() {
        // The definition may have changed while this one waited.
        const current = temporary ? table : context.services.catalog.relation(table.database, table.schema, table.name)
        if (current?.kind !== "TABLE" || current.id !== table.id) {
          return yield* SnowflakeError.objectNotFound("Table", Identifier.print(table.name))
        }
        let next: Table = current
        for (const step of steps) next = yield* step(next, changes)
        if (!temporary) yield* changes.put(next)
        return next
      }))
    if (temporary) Statement.putTemporary(context.session, altered)
  })

const rename = (
  context: StatementContext,
  table: Table,
  [database, schema, name]: readonly [string, string, string]
): Run<void> =>
  Effect.gen(function*() {
    if (table.lifetime === "TEMPORARY") return yield* SnowflakeError.unsupported("renaming a temporary table")
    if (database !== table.database || schema !== table.schema) {
      return yield* SnowflakeError.unsupported("RENAME TO another schema")
    }
    yield* Definition.changeExisting(context, (changes) =>
      Effect.gen(function*() {
        if (context.services.catalog.relation(database, schema, name) !== undefined) {
          return yield* SnowflakeError.alreadyExists(Statement.printPath([database, schema, name]))
        }
        yield* ddl(changes, table, `RENAME TO ${Identifier.column(name)}`)
        yield* changes.remove(table)
        yield* changes.put({ ...table, name, duckdb: Identifier.qualified(database, schema, name) })
      }))
  })

/** Both tables keep their identity (and what was loaded into them) and exchange their names. */
const swap = (context: StatementContext, one: Table, other: Table): Run<void> =>
  Effect.gen(function*() {
    if (one.database !== other.database || one.schema !== other.schema) {
      return yield* SnowflakeError.unsupported("SWAP WITH a table of another schema")
    }
    if (one.lifetime === "TEMPORARY" || other.lifetime === "TEMPORARY") {
      return yield* SnowflakeError.unsupported("SWAP WITH a temporary table")
    }
    const between = Identifier.quote(`sf_swap_${CatalogRecords.newId()}`)
    yield* Definition.changeExisting(context, (changes) =>
      Effect.gen(function*() {
        const schema = Identifier.quote(Identifier.schemaName(one.database, one.schema))
        yield* ddl(changes, one, `RENAME TO ${between}`)
        yield* ddl(changes, other, `RENAME TO ${Identifier.column(one.name)}`)
        yield* Storage.run(
          changes.connection,
          `ALTER TABLE ${schema}.${between} RENAME TO ${Identifier.column(other.name)}`
        )
        yield* changes.put({ ...one, name: other.name, duckdb: other.duckdb })
        yield* changes.put({ ...other, name: one.name, duckdb: one.duckdb })
      }))
  })

/** COMMENT [IF EXISTS] ON TABLE t IS '…' | ON COLUMN t.c IS '…'. */
export const comment = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const plan = yield* Statement.parse(() => {
      cursor.expect("COMMENT")
      const ifExists = cursor.accept("IF", "EXISTS")
      cursor.expect("ON")
      const kind = cursor.identifier()
      const parts = [cursor.identifier()]
      while (cursor.acceptOp(".")) parts.push(cursor.identifier())
      cursor.expect("IS")
      const text = cursor.string()
      cursor.end()
      if (kind !== "TABLE" && kind !== "COLUMN") throw SnowflakeError.unsupported(`COMMENT ON ${kind}`)
      const path = kind === "TABLE" ? parts : parts.slice(0, -1)
      if (ifExists && Statement.findRelation(context, path) === undefined) return undefined
      const table = Statement.requireTable(context, path)
      Privileges.requireOwnership(context, table)
      if (kind === "TABLE") {
        return {
          table,
          step: ((current) => Effect.succeed({ ...current, comment: text })) satisfies Change
        }
      }
      const column = Dml.columnOf(table, parts[parts.length - 1] ?? "")
      return { table, step: columnComment(column.name, text) }
    })
    if (plan !== undefined) yield* alterTable(context, plan.table, [plan.step])
    return Definition.done("COMMENT", "Statement executed successfully.")
  })
