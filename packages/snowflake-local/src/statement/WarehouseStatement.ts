/**
 * ALTER WAREHOUSE and SHOW WAREHOUSES. Which warehouses there are is the server's configuration.
 */
import * as Effect from "effect/Effect"
import * as Grants from "../Grants.ts"
import * as ResultRows from "../ResultRows.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Cursor } from "../sql/Cursor.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Types from "../sql/SnowflakeType.ts"
import type { Warehouse } from "../Warehouses.ts"
import * as Definition from "./DefinitionChange.ts"
import * as Privileges from "./Privileges.ts"
import type { Filter } from "./ShowFilter.ts"
import { keep, named, outcome } from "./ShowFilter.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

const options = new Set(["WAREHOUSE_SIZE", "AUTO_SUSPEND", "AUTO_RESUME", "COMMENT"])

const set = (warehouse: Warehouse, settings: Readonly<Record<string, string>>): void => {
  const { AUTO_RESUME: autoResume, AUTO_SUSPEND: autoSuspend, COMMENT: comment, WAREHOUSE_SIZE: size } = settings
  if (autoSuspend !== undefined) {
    const seconds = autoSuspend.toUpperCase() === "NULL" ? "0" : autoSuspend
    if (!/^\d+$/.test(seconds)) {
      throw SnowflakeError.invalidOption(`invalid value [${autoSuspend}] for parameter 'AUTO_SUSPEND'`)
    }
    warehouse.autoSuspend = Number(seconds)
  }
  if (autoResume !== undefined) warehouse.autoResume = autoResume.toUpperCase() === "TRUE"
  if (size !== undefined) warehouse.size = size
  if (comment !== undefined) warehouse.comment = comment
}

/** ALTER WAREHOUSE, whose words have been read. */
export const alter = (context: StatementContext, cursor: Cursor): Run<Outcome> =>
  Statement.parse(() => {
    const { grants, warehouses } = context.services
    const ifExists = cursor.accept("IF", "EXISTS")
    const name = cursor.identifier()
    const done = Definition.done("ALTER_WAREHOUSE", "Statement executed successfully.")
    const { role } = context.session
    const seen = warehouses.has(name) && grants.sees(role, Grants.warehouse(name))
    const found = seen ? warehouses.find(name, context.now) : undefined
    if (found === undefined) {
      if (ifExists) return done
      throw SnowflakeError.objectNotFound("Warehouse", Identifier.print(name))
    }
    const requirePrivilege = (privilege: string) => {
      if (!grants.allows(role, privilege, Grants.warehouse(name))) {
        throw SnowflakeError.insufficientPrivileges("warehouse", Identifier.print(name))
      }
    }
    if (cursor.accept("SUSPEND")) {
      requirePrivilege("OPERATE")
      if (found.suspended) throw SnowflakeError.warehouseState("090064", name, "suspended")
      found.suspended = true
    } else if (cursor.accept("RESUME")) {
      requirePrivilege("OPERATE")
      const ifSuspended = cursor.accept("IF", "SUSPENDED")
      if (!found.suspended && !ifSuspended) throw SnowflakeError.warehouseState("090063", name, "resumed")
      if (found.suspended) found.lastUsedAt = context.now
      found.suspended = false
    } else if (cursor.accept("SET")) {
      requirePrivilege("MODIFY")
      set(found, Definition.options(cursor, options))
    } else throw cursor.unexpected()
    cursor.end()
    return done
  })

export const show = (context: StatementContext, given: Filter): Run<Outcome> =>
  Effect.sync(() =>
    outcome(
      [
        ...named("name", "state", "type", "size", "is_current"),
        ResultRows.column("auto_suspend", Types.number38),
        ...named("auto_resume", "comment")
      ],
      keep(
        given,
        context.services.warehouses.list(context.now).filter(({ name }) => Privileges.usesWarehouse(context, name))
      ).map((warehouse) => [
        warehouse.name,
        warehouse.suspended ? "SUSPENDED" : "STARTED",
        "STANDARD",
        warehouse.size,
        warehouse.name === context.session.warehouse ? "Y" : "N",
        String(warehouse.autoSuspend),
        String(warehouse.autoResume),
        warehouse.comment
      ])
    )
  )
