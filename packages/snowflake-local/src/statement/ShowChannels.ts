/**
 * SHOW CHANNELS: the channels of Snowpipe Streaming.
 */
import * as ResultRows from "../ResultRows.ts"
import * as Types from "../sql/SnowflakeType.ts"
import type { Filter } from "./ShowFilter.ts"
import { at, created, inScope, keep, named, outcome } from "./ShowFilter.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

/** SHOW CHANNELS; IN TABLE names a table. */
export const channels = (context: StatementContext, given: Filter): Run<Outcome> =>
  Statement.parse(() => {
    const { catalog, channels } = context.services
    const table = given.scopeKind === "TABLE" && Array.isArray(given.scope)
      ? Statement.requireTable(context, given.scope)
      : undefined
    const within = table === undefined ? inScope(context, given) : () => true
    const rows = channels().flatMap((record) => {
      const target = catalog.relation(record.tableDatabase, record.tableSchema, record.table)
      if (target === undefined || !within(target) || (table !== undefined && table.id !== record.tableId)) return []
      return [{ name: record.channel, record }]
    })
    return outcome(
      [
        created,
        ...named("name", "database_name", "schema_name", "table_name"),
        ResultRows.column("client_sequencer", Types.number38),
        ResultRows.column("row_sequencer", Types.number38),
        ...named("offset_token")
      ],
      keep(given, rows).map(({ record }) => [
        at(record.createdOnMs),
        record.channel,
        record.database,
        record.schema,
        record.table,
        String(record.clientSequencer),
        String(record.rowSequencer),
        record.offsetToken
      ])
    )
  })
