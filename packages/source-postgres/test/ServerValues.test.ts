import { assert, describe, it } from "@effect/vitest"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as BinaryValues from "@etl-stream/source-postgres/BinaryValues"
import * as PostgresType from "@etl-stream/source-postgres/PostgresType"
import * as TextValues from "@etl-stream/source-postgres/TextValues"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { decodeAll } from "./columnValues.ts"
import { expectedValue } from "./expectedValue.ts"
import { samples } from "./sampleValues.ts"

const Rows = Schema.Array(Schema.Struct({ text: Schema.String, binary: Schema.NullOr(Schema.String) }))
const Column = Schema.Array(Schema.Struct({ oid: Schema.Number, typmod: Schema.Number, name: Schema.String }))
const TypeRows = Schema.Array(Schema.Struct({
  oid: Schema.NumberFromString,
  name: Schema.String,
  schema: Schema.String,
  kind: Schema.String,
  baseType: Schema.NumberFromString,
  baseTypmod: Schema.Number,
  element: Schema.NumberFromString
}))

describe("values of a real server", () => {
  it.live(
    "give the same column from text and from binary format, and the one that the value means",
    () =>
      Effect.gen(function*() {
        const server = yield* EmbeddedPostgres.start()
        for (const [name, { send, values }] of Object.entries(samples)) {
          yield* server.query(`CREATE TABLE one (v ${name})`)
          const [column] = yield* Schema.decodeUnknownEffect(Column)(
            yield* server.query(
              "SELECT atttypid::int AS oid, atttypmod AS typmod, format_type(atttypid, atttypmod) AS name FROM pg_attribute " +
                "WHERE attrelid = 'one'::regclass AND attname = 'v'"
            )
          )
          yield* server.query("DROP TABLE one")
          assert.isDefined(column)
          const type = PostgresType.resolve(PostgresType.emptyCatalog, column.oid, column.typmod)
          if (type.type._tag !== "Other") assert.strictEqual(type.sourceType, column.name)

          const literals = fc.sample(values, 1500)
          const rows = yield* Schema.decodeUnknownEffect(Rows)(
            yield* server.query(
              // A cast to text would strip a char(n)'s padding; the output function is what replication and COPY use.
              `SELECT format('%s', x::${name}) AS text, ${
                send === undefined ? "NULL" : `encode(${send}(x::${name}), 'hex')`
              } AS binary ` +
                "FROM unnest($1::text[]) x",
              [literals]
            )
          )
          assert.strictEqual(rows.length, literals.length)
          const fromText = decodeAll(type.type, TextValues.decoderOf(type), rows.map((row) => Buffer.from(row.text)))
          assert.deepStrictEqual(fromText, rows.map((row) => expectedValue(type.type, row.text)), `${name} as text`)

          const binary = BinaryValues.decoder(type)
          assert.strictEqual(binary !== undefined, send !== undefined, name)
          if (binary !== undefined) {
            const fromBinary = decodeAll(type.type, binary, rows.map((row) => Buffer.from(row.binary ?? "", "hex")))
            assert.deepStrictEqual(fromBinary, fromText, `${name} as binary`)
          }
        }
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "have types as the catalog describes them: domains, enums, arrays of both, ranges, extension types",
    () =>
      Effect.gen(function*() {
        const server = yield* EmbeddedPostgres.start()
        yield* server.query(
          "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN price AS numeric(10,2); CREATE DOMAIN net AS price; " +
            "CREATE TYPE pair AS (a int, b text); CREATE TABLE odd (a mood, b price, c net, d mood[], e net[], f pair, g box[], h oidvector, i varchar(5)[])"
        )
        const types = yield* Schema.decodeUnknownEffect(TypeRows)(yield* server.query(PostgresType.typeQuery))
        const catalog = new Map(types.map((info) => [info.oid, info]))
        const columns = yield* Schema.decodeUnknownEffect(Column)(
          yield* server.query(
            "SELECT atttypid::int AS oid, atttypmod AS typmod, attname AS name FROM pg_attribute " +
              "WHERE attrelid = 'odd'::regclass AND attnum > 0 ORDER BY attnum"
          )
        )
        const Decimal: LogicalType = { _tag: "Decimal", precision: 10, scale: 2 }
        const Text: LogicalType = { _tag: "Text", maxLength: undefined }
        assert.deepStrictEqual(columns.map((column) => PostgresType.resolve(catalog, column.oid, column.typmod).type), [
          Text,
          Decimal,
          Decimal,
          { _tag: "Array", element: Text },
          { _tag: "Array", element: Decimal },
          { _tag: "Other" },
          { _tag: "Other" },
          { _tag: "Other" },
          { _tag: "Array", element: { _tag: "Text", maxLength: 5 } }
        ])
        // Every built-in scalar that we know by its OID is the one that the server means.
        for (const [name, oid] of Object.entries(PostgresType.Oid)) assert.strictEqual(catalog.get(oid)?.name, name)
      }).pipe(Effect.scoped),
    60_000
  )
})
