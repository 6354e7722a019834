/**
 * What the query history of Snowflake says of the sink's statements.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as QueryTag from "../src/QueryTag.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const Tag = Schema.fromJsonString(Schema.Struct({
  app: Schema.Literal("etl-stream"),
  pipeline: Schema.String,
  table: Schema.optionalKey(Schema.String),
  purpose: Schema.String
}))

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Statement tags", (it) => {
  it.effect("say of every statement which pipeline runs it, for which table and to what end", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* local.clearStatements
      const table = Batches.table("tagged", { id: { _tag: "Int32" } }, { _tag: "Key", columns: [0] })
      const running = yield* Local.run(local, { journal: { retention: "0 seconds" } }, "tags")
      const opened = yield* running.open(table)
      yield* Local.copy(opened, table, 10n, [
        Batches.batch(table, [{ op: Operation.Read, sequence: Sequence.make(10n, 0n), values: [1] }])
      ])
      const last = Sequence.make(20n, 1n)
      yield* opened.rows(Batches.batch(table, [{ op: Operation.Insert, sequence: last, values: [2] }]))
      yield* opened.durable(last)
      yield* running.sink.settle
      const statements = yield* local.statements
      const tagged = statements.map(({ sql, tag }) => ({ sql, ...Schema.decodeUnknownSync(Tag)(tag) }))
      assert.deepStrictEqual(new Set(tagged.map(({ pipeline }) => pipeline)), new Set(["tags"]))
      const found = (start: string, part: string) => {
        const [statement] = tagged.filter(({ sql }) => sql.startsWith(start) && sql.includes(part))
        return statement === undefined ? undefined : [statement.table, statement.purpose]
      }
      assert.deepStrictEqual(found("CREATE SCHEMA", "ETL_STREAM"), [undefined, "setup"])
      assert.deepStrictEqual(found("CREATE TABLE", "\"TAGGED\""), ["public.tagged", "setup"])
      assert.deepStrictEqual(found("COPY", "\"TAGGED\""), ["public.tagged", "copy"])
      assert.deepStrictEqual(found("PUT", ""), ["public.tagged", "copy"])
      assert.deepStrictEqual(found("MERGE", "\"SHOP\".\"TAGGED\" AS t"), ["public.tagged", "merge"])
      assert.deepStrictEqual(found("DELETE", "\"SHOP__TAGGED__JOURNAL\" WHERE \"_ETL_SEQ\""), [
        "public.tagged",
        "prune"
      ])
      // Work of a transaction that is for a table is the table's from BEGIN to COMMIT.
      const transactions = tagged.filter(({ sql }) => sql === "BEGIN" || sql === "COMMIT")
      assert.isAbove(transactions.length, 3)
      for (const { sql, table } of transactions) assert.strictEqual(table, "public.tagged", sql)
    }))
})

describe("A statement's tag", () => {
  it("is never longer than Snowflake takes, whatever the names hold", () => {
    for (const name of ["x", "\u0001".repeat(63), "\"\\".repeat(5000), "ä".repeat(3000)]) {
      const tag = QueryTag.make(name, name, "merge")
      assert.isAtMost(tag.length, 2000)
      assert.strictEqual(Schema.decodeUnknownSync(Tag)(tag).purpose, "merge")
    }
  })
})
