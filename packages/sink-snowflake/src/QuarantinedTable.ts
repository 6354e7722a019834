/**
 * The writer of a table in quarantine: nothing is done about the table before it is copied anew, or leaves. Whatever made it fail may still be there,
 * so not even its channel is opened.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { Quarantine } from "@etl-stream/core/Quarantine"
import type { TableWriter } from "@etl-stream/core/Sink"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import { failure } from "./ErrorPolicy.ts"

type Failed = ConnectorError.ConnectorError

/** `open` opens the table as one of which nothing is held. */
export const make = (
  table: TableSchema,
  quarantined: Quarantine,
  open: (table: TableSchema) => Effect.Effect<TableWriter, Failed>
): TableWriter => {
  let writer: TableWriter | undefined
  return {
    position: { copied: undefined, committed: undefined, quarantined },
    write: Effect.fnUntraced(function*(element) {
      if (writer === undefined && element._tag !== "SnapshotBegin" && element._tag !== "TableLeft") {
        return yield* failure(
          "Protocol",
          `${tableId(table.table)} is in quarantine, but something of it came`,
          "Report it.",
          { table: tableId(table.table) }
        )
      }
      writer ??= yield* open("table" in element ? element.table : table)
      yield* writer.write(element)
    })
  }
}
