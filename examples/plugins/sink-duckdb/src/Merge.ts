/**
 * Brings changes into a target, as SQL over sets: what a table of changes (see `Names.meta`) makes of a table.
 *
 * Everything here runs inside the transaction that moves the table's position.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { Identity, TableId, TableSchema } from "@etl-stream/core/TableSchema"
import type { Session } from "./Database.ts"
import * as Failure from "./Failure.ts"
import { literal, meta, quote } from "./Names.ts"
import type { Column } from "./TableState.ts"

export interface Merge {
  readonly session: Session
  /** For errors. */
  readonly table: TableId
  /** Qualified names of the target and of the table that holds the changes. */
  readonly target: string
  readonly changes: string
  readonly columns: ReadonlyArray<Column>
}

const { Delete, KeyChangeNew, KeyChangeOld, Update } = Operation
const removes = `(${Delete}, ${KeyChangeOld})`

/** Names of the columns of a table's key. */
export const keyOf = ({ columns, identity }: TableSchema): ReadonlyArray<string> =>
  identity._tag === "Key" ? identity.columns.map((index) => columns[index]?.name ?? "") : []

/** SQL by which two rows are the same in these columns, NULL being equal to NULL. */
export const same = (names: ReadonlyArray<string>, left: string, right: string): string =>
  names.map((name) => `${left}.${quote(name)} IS NOT DISTINCT FROM ${right}.${quote(name)}`).join(" AND ")

const listed = (names: ReadonlyArray<string>, of = ""): string => names.map((name) => `${of}${quote(name)}`).join(", ")

const broken = (table: TableId, what: string) =>
  Failure.make(
    "Protocol",
    `A change of ${table} doesn't fit what the file holds: ${what}`,
    "The target was changed by hand, or this is a defect of the source or of this plugin: please report it.",
    table
  )

/** Applies the changes in their order. */
export const apply = (merge: Merge, identity: Identity["_tag"], key: ReadonlyArray<string>): Promise<void> => {
  switch (identity) {
    case "Key":
      return applyKeyed(merge, key)
    case "Full":
      return applyFull(merge)
    case "None": {
      const { changes, columns, session, target } = merge
      const names = listed(columns.map(({ name }) => name))
      return session.run(`INSERT INTO ${target} (${names}) SELECT ${names} FROM ${changes}`)
    }
  }
}

const applyKeyed = async (merge: Merge, key: ReadonlyArray<string>): Promise<void> => {
  const { changes, session } = merge
  const incomplete = await session.number(`SELECT count(*) FROM ${changes} WHERE ${meta.unsent} IS NOT NULL`)
  if (incomplete === 0) return mergeComplete(merge, key)
  // Only a few changes don't send all values, and hardly any of those change a key: this loop runs once, nearly always.
  let from: string | undefined
  for (;;) {
    const end = await nextWindow(merge, key, from)
    await fillKeyChanges(merge, key, from, end)
    await mergeIncomplete(merge, key, within(from, end))
    if (end === undefined) return
    from = end
  }
}

const within = (from: string | undefined, end: string | undefined, of = ""): string =>
  [
    ...(from === undefined ? [] : [`${of}${meta.n} >= ${from}`]),
    ...(end === undefined ? [] : [`${of}${meta.n} < ${end}`])
  ].join(" AND ") || "true"

/** Of each key's changes the last one counts when all of them are complete rows. */
const mergeComplete = (
  { changes, columns, session, target }: Merge,
  key: ReadonlyArray<string>
): Promise<void> => {
  const names = columns.map(({ name }) => name)
  return session.run(
    `MERGE INTO ${target} AS t USING (
       SELECT * FROM ${changes} QUALIFY row_number() OVER (PARTITION BY ${listed(key)} ORDER BY ${meta.n} DESC) = 1
     ) AS s ON (${same(key, "t", "s")})
     WHEN MATCHED AND s.${meta.op} IN ${removes} THEN DELETE
     WHEN MATCHED THEN UPDATE SET ${names.map((name) => `${quote(name)} = s.${quote(name)}`).join(", ")}
     WHEN NOT MATCHED AND s.${meta.op} NOT IN ${removes} THEN INSERT (${listed(names)}) VALUES (${listed(names, "s.")})`
  )
}

/**
 * Where the changes have to be cut: a row that changes its key takes values that weren't sent from its old key's row, which must be there as it is just before.
 * So the window ends before the first such change whose old key was changed within the window. Undefined: there is none.
 */
const nextWindow = async (
  { changes, session }: Merge,
  key: ReadonlyArray<string>,
  from: string | undefined
): Promise<string | undefined> => {
  const [row] = await session.rows(
    `SELECT min(o.${meta.n})::VARCHAR FROM ${changes} AS w JOIN ${changes} AS o ON o.${meta.n} = w.${meta.n} - 1
     WHERE w.${meta.op} = ${KeyChangeNew} AND w.${meta.unsent} IS NOT NULL AND ${within(from, undefined, "o.")}
       AND EXISTS (SELECT 1 FROM ${changes} AS c WHERE ${
      within(from, undefined, "c.")
    } AND c.${meta.n} < o.${meta.n} AND ${same(key, "c", "o")})`
  )
  const end = row?.[0]
  return typeof end === "string" ? end : undefined
}

/** Gives rows under a new key the values that weren't sent, from their old key's rows in the target. */
const fillKeyChanges = async (
  { changes, columns, session, table, target }: Merge,
  key: ReadonlyArray<string>,
  from: string | undefined,
  end: string | undefined
): Promise<void> => {
  const open = `${meta.op} = ${KeyChangeNew} AND ${meta.unsent} IS NOT NULL AND ${within(from, end)}`
  const wanting = await session.number(`SELECT count(*) FROM ${changes} WHERE ${open}`)
  if (wanting === 0) return
  const filled = await session.number(
    `UPDATE ${changes} AS w SET ${
      columns.map(({ name }) =>
        `${quote(name)} = CASE WHEN list_contains(w.${meta.unsent}, ${literal(name)}) THEN f.${quote(name)} ELSE w.${
          quote(name)
        } END`
      ).join(", ")
    }, ${meta.unsent} = NULL
     FROM (
       SELECT o.${meta.n} + 1 AS n, ${listed(columns.map(({ name }) => name), "t.")}
       FROM ${changes} AS o JOIN ${target} AS t ON ${same(key, "t", "o")}
       WHERE o.${meta.op} = ${KeyChangeOld} AND ${within(from, end, "o.")}
     ) AS f
     WHERE w.${meta.n} = f.n AND w.${meta.op} = ${KeyChangeNew} AND w.${meta.unsent} IS NOT NULL`
  )
  if (filled !== wanting) throw broken(table, "a row got a new key, and under its old one there is none")
}

/** For each key and column the last value that was sent counts, or the target's. */
const mergeIncomplete = async (
  { changes, columns, session, table, target }: Merge,
  key: ReadonlyArray<string>,
  window: string
): Promise<void> => {
  const isKey = new Set(key)
  const others = columns.flatMap(({ name }) => isKey.has(name) ? [] : [name])
  const sent = (name: string): string => `NOT coalesce(list_contains(${meta.unsent}, ${literal(name)}), false)`
  const flag = (name: string): string => quote(`sent ${name}`)
  await session.run(
    `CREATE OR REPLACE TEMP TABLE merged AS
     WITH w AS (SELECT * FROM ${changes} WHERE ${window}),
     -- What comes before a key's last complete row doesn't count any more.
     b AS (SELECT ${
      listed(key)
    }, max(${meta.n}) FILTER (WHERE ${meta.op} <> ${Update} OR ${meta.unsent} IS NULL) AS since FROM w GROUP BY ALL)
     SELECT ${listed(key, "w.")}, arg_max(w.${meta.op}, w.${meta.n}) AS ${meta.op}${
      others.map((name) =>
        `, arg_max_null(w.${quote(name)}, w.${meta.n}) FILTER (WHERE ${sent(name)}) AS ${quote(name)}, bool_or(${
          sent(name)
        }) AS ${flag(name)}`
      ).join("")
    }
     FROM w JOIN b ON ${same(key, "w", "b")} WHERE w.${meta.n} >= coalesce(b.since, w.${meta.n}) GROUP BY ${
      listed(key, "w.")
    }`
  )
  if (others.length > 0) {
    const orphans = await session.number(
      `SELECT count(*) FROM temp.main.merged AS s
       WHERE s.${meta.op} NOT IN ${removes} AND NOT (${others.map((name) => `s.${flag(name)}`).join(" AND ")})
         AND NOT EXISTS (SELECT 1 FROM ${target} AS t WHERE ${same(key, "t", "s")})`
    )
    // NULL would be wrong where a value was not sent: that is not the same thing.
    if (orphans > 0) throw broken(table, "a row was changed in part, and there is none")
  }
  const all = [...key, ...others]
  await session.run(
    `MERGE INTO ${target} AS t USING temp.main.merged AS s ON (${same(key, "t", "s")})
     WHEN MATCHED AND s.${meta.op} IN ${removes} THEN DELETE
     ${
      others.length === 0 ?
        "" :
        `WHEN MATCHED THEN UPDATE SET ${
          others.map((name) =>
            `${quote(name)} = CASE WHEN s.${flag(name)} THEN s.${quote(name)} ELSE t.${quote(name)} END`
          )
            .join(", ")
        }`
    }
     WHEN NOT MATCHED AND s.${meta.op} NOT IN ${removes} THEN INSERT (${listed(all)}) VALUES (${listed(all, "s.")})`
  )
}

/** Without a key a table is a bag of rows: what counts is how many of each are added and removed. */
const applyFull = async ({ changes, columns, session, table, target }: Merge): Promise<void> => {
  const names = columns.map(({ name }) => name)
  // A new row's values that weren't sent are those of the old row, which is complete and just before it.
  await session.run(
    `UPDATE ${changes} AS w SET ${
      names.map((name) =>
        `${quote(name)} = CASE WHEN list_contains(w.${meta.unsent}, ${literal(name)}) THEN o.${quote(name)} ELSE w.${
          quote(name)
        } END`
      ).join(", ")
    }, ${meta.unsent} = NULL FROM ${changes} AS o
     WHERE o.${meta.n} = w.${meta.n} - 1 AND w.${meta.op} = ${KeyChangeNew} AND w.${meta.unsent} IS NOT NULL`
  )
  await session.run(
    `CREATE OR REPLACE TEMP TABLE net AS
     SELECT row_number() OVER () AS ${meta.n}, * FROM (
       SELECT ${listed(names)}, sum(CASE WHEN ${meta.op} IN ${removes} THEN -1 ELSE 1 END)::BIGINT AS ${meta.count}
       FROM ${changes} GROUP BY ${listed(names)}
     ) WHERE ${meta.count} <> 0`
  )
  const wanted = await session.number(
    `SELECT coalesce(-sum(${meta.count}), 0)::BIGINT FROM temp.main.net WHERE ${meta.count} < 0`
  )
  if (wanted > 0) {
    const removed = await session.number(
      `DELETE FROM ${target} WHERE rowid IN (
         SELECT r FROM (
           SELECT t.rowid AS r, s.${meta.count} AS c, row_number() OVER (PARTITION BY s.${meta.n}) AS i
           FROM ${target} AS t JOIN temp.main.net AS s ON ${same(names, "t", "s")} WHERE s.${meta.count} < 0
         ) WHERE i <= -c)`
    )
    if (removed !== wanted) throw broken(table, "a row was removed, and there is none like it")
  }
  await session.run(
    `INSERT INTO ${target} (${listed(names)})
     SELECT ${listed(names, "s.")} FROM temp.main.net AS s, unnest(range(s.${meta.count})) WHERE s.${meta.count} > 0`
  )
}
