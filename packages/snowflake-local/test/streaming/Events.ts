/**
 * The table that most tests of the streaming endpoints write to.
 */
export const events = {
  name: "EVENTS",
  columns: [{ name: "ID", type: "NUMBER", notNull: true }, { name: "NAME", type: "VARCHAR", args: [10] }]
} as const

/** Its ids, in order. */
export const ids = `SELECT "ID" FROM "DB.PUBLIC"."EVENTS" ORDER BY "ID"`

/** Rows with the ids from `from` to `to`. */
export const numbered = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => ({ id: from + index, name: `n${from + index}` }))
