import { Decoder } from "../src/internal/pgoutput.ts"
import * as PostgresType from "../src/PostgresType.ts"
import { readFileSync } from "node:fs"
for (let round = 0; round < 4; round++) for (const mode of ["false", "true"]) {
  const bytes = readFileSync(`/tmp/hot/cap-${mode}.bin`)
  const d = new Decoder({ tables: [], types: PostgresType.emptyCatalog, copied: new Map(), maxRows: 16384, maxBytes: 4 << 20,
    resolveRelation: (r) => ({ table: { schema: r.schema, name: r.name }, version: 1, identity: { _tag: "Key", columns: [0] },
      columns: r.columns.map((c) => { const t = PostgresType.resolve(PostgresType.emptyCatalog, c.typeOid, c.typmod); return { name: c.name, type: t.type, sourceType: t.sourceType, nullable: true } }) }) })
  // cut in 1 MiB views at frame borders
  const cuts = [0]; let at = 0
  while (at < bytes.length) { at += 1 + bytes.readUInt32BE(at + 1); if (at - cuts.at(-1)! > 1 << 20) cuts.push(at) }
  cuts.push(bytes.length)
  const t = performance.now(); let rows = 0
  for (let i = 1; i < cuts.length; i++) for (const e of d.decode({ bytes, start: cuts[i - 1]!, end: cuts[i]! })) if (e._tag === "Rows") rows += e.batch.rows
  console.log(mode, rows, Math.round(rows / (performance.now() - t)), "krow/s")
}
