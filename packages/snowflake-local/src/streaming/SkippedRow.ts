/**
 * The injected fault that skips a row: as if the service had refused it, for no reason that the client could know.
 */
import type * as NdjsonRows from "./NdjsonRows.ts"

/** Takes the first good row back out of the spool and counts it as rejected. */
export const withoutFirst = (
  encoded: Extract<NdjsonRows.Encoded, { readonly _tag: "Rows" }>,
  firstRow: number,
  spool: NdjsonRows.SpoolBuffer,
  body: Uint8Array
): Extract<NdjsonRows.Encoded, { readonly _tag: "Rows" }> => {
  if (spool.length === 0) return encoded
  const end = spool.bytes.indexOf("\n") + 1
  spool.bytes.copyWithin(0, end, spool.length)
  spool.length -= end
  const rejected = new Set(encoded.rejected.map(({ row }) => row))
  let row = firstRow
  while (rejected.has(row)) row++
  const place = lineOf(body, row - firstRow)
  return {
    ...encoded,
    rejected: [...encoded.rejected, { row, message: "The row was skipped by an injected fault", ...place }]
  }
}

/** Where the nth line (from 0) of a body lies. */
const lineOf = (body: Uint8Array, line: number): { readonly start: number; readonly end: number } => {
  let start = 0
  for (let left = line; left > 0; left--) start = body.indexOf(10, start) + 1
  return { start, end: body.indexOf(10, start) }
}
