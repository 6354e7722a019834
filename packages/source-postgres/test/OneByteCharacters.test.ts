/**
 * The type `"char"` holds one byte, which need not be a character: it arrives in the same form from every version of PostgreSQL.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** As PostgreSQL writes them since version 16: bytes beyond ASCII as a backslash and three octal digits. */
const written = (byte: number): string => byte < 0x80 ? String.fromCharCode(byte) : `\\${byte.toString(8)}`

layer(Server.layer, { excludeTestServices: true })("\"char\"", (it) => {
  it.effect("bytes beyond ASCII are escaped by the copy and by the stream, alone, in a domain and in arrays", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* Effect.orDie(pg.query("CREATE DOMAIN flag AS \"char\"; CREATE DOMAIN flags AS \"char\"[]"))
      // A value is the first byte of its text: those of é are C3 A9, of 😀 F0 9F 98 80.
      const write = yield* SourceRun.schema(
        "one_byte",
        `CREATE TABLE t (id int PRIMARY KEY, v "char", d flag, a "char"[], da flags);
         INSERT INTO t VALUES (0, 'é', '😀', ARRAY['a', 'é', NULL, '😀', ',', '"', '\\', '']::"char"[], ARRAY[['é'], ['b']]::"char"[]),
           (1, 'a', '\\', '[0:1]={é,z}', '{}')`
      )
      const mirror = new Mirror()
      const run = yield* SourceRun.start("one_byte", mirror)
      yield* run.until(() => mirror.watermarks.length > 0)
      yield* write("INSERT INTO t SELECT id + 10, v, d, a, da FROM t")
      yield* run.caughtUp
      const [c3, f0] = [written(0xc3), written(0xf0)]
      const [quotedC3, quotedF0] = [c3, f0].map((text) => `"\\${text}"`)
      const first = [c3, f0, `{a,${quotedC3},NULL,${quotedF0},",","\\"","\\\\",""}`, `{{${quotedC3}},{b}}`]
      const second = ["a", "\\", `[0:1]={${quotedC3},z}`, "{}"]
      const rows = new Map(
        [...mirror.tables.get("one_byte.t")?.rows.values() ?? []].map(({ row: [id, ...values] }) => [id, values])
      )
      for (const id of ["0", "10"]) assert.deepStrictEqual(rows.get(id), first)
      for (const id of ["1", "11"]) assert.deepStrictEqual(rows.get(id), second)
      assert.deepStrictEqual(mirror.problems, [])
    }))
})
