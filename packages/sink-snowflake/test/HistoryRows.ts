/**
 * A history as Snowflake holds it.
 */
import * as Effect from "effect/Effect"
import { quote } from "../src/Identifier.ts"
import type { TableLayout } from "../src/TableLayout.ts"
import * as Layout from "../src/TableLayout.ts"
import { printVersion } from "./HistoryModel.ts"
import type * as Local from "./Local.ts"

/** The versions, as the model prints them. */
export const historyRows = (local: Local.Local, layout: TableLayout) =>
  Effect.map(
    local.query(
      `SELECT ${
        layout.columns.map(({ name, target }, index) => {
          const column = quote(name)
          return `${target === "VARIANT" ? `TO_JSON(${column})` : `${column}::VARCHAR`} AS "C${index}"`
        }).join(", ")
      }, DATE_PART(EPOCH_SECOND, "_ETL_VALID_FROM") AS "FROM", COALESCE(DATE_PART(EPOCH_SECOND, "_ETL_VALID_TO"), 0) AS "TO", "_ETL_SEQ" AS "SEQ" ` +
        `FROM ${Layout.sqlName(layout.target)}`
    ),
    (rows) =>
      rows.map((row) =>
        printVersion({
          values: layout.columns.map((_, index) => {
            const value = row[`C${index}`]
            return value === null ? null : String(value)
          }),
          from: BigInt(String(row["FROM"])),
          to: row["TO"] === "0" ? undefined : BigInt(String(row["TO"])),
          sequence: String(row["SEQ"])
        })
      ).sort()
  )
