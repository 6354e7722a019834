/**
 * Names of metadata columns that the options say.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { failure } from "../src/ErrorPolicy.ts"
import * as MetadataColumns from "../src/MetadataColumns.ts"
import type * as SqlClient from "../src/SqlClient.ts"
import * as StateTable from "../src/StateTable.ts"
import * as TableDdl from "../src/TableDdl.ts"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"
import { server } from "./MirrorReplay.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, server)
}

const at = (commit: bigint) => Sequence.make(commit, 1n)
const table = (name: string, columns: Parameters<typeof Batches.table>[1] = {}) =>
  Batches.table(name, { id: { _tag: "Int32" }, body: { _tag: "Text", maxLength: undefined }, ...columns }, {
    _tag: "Key",
    columns: [0]
  })

/** Runs a pipeline of one table: a copy of the ids 1 to 4 when there is none, then the changes. */
const run = (
  local: Local.Local,
  name: string,
  options: object,
  changes: ReadonlyArray<Batches.Row>
) =>
  Effect.scoped(Effect.gen(function*() {
    const running = yield* Local.run(local, options, name)
    const opened = yield* running.open(table(name))
    if (opened.writer.position.copied === undefined) {
      yield* Local.copy(opened, table(name), 10n, [
        Batches.batch(
          table(name),
          [1, 2, 3, 4].map((id) => ({
            op: Operation.Read,
            sequence: Sequence.make(10n, 0n),
            values: [id, `row ${id}`]
          }))
        )
      ])
    }
    yield* opened.rows(Batches.batch(table(name), changes))
    const last = changes.at(-1)?.sequence
    if (last !== undefined) yield* opened.durable(last)
    yield* running.sink.settle
    return yield* local.query(`SELECT * FROM RAW.SHOP.${name.toUpperCase()} ORDER BY "ID", "_ETL_SEQ"`)
  }))

const gone = (id: number, commit: bigint): Batches.Row => ({
  op: Operation.Delete,
  sequence: at(commit),
  values: [id, null]
})

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Names of metadata columns", (it) => {
  it.effect(
    "are the options' in mirrors, and change with them: what the columns hold stays",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const flags = (rows: ReadonlyArray<Readonly<Record<string, unknown>>>, deleted: string) =>
          rows.map((row) => [row["ID"], row[deleted]])
        const soft = (metadata: object) => ({ deletes: "soft", metadata })
        const usual = yield* run(local, "named", soft({}), [gone(1, 20n)])
        assert.deepStrictEqual(flags(usual, "_ETL_DELETED").slice(0, 2), [["1", true], ["2", false]])

        const named = yield* run(local, "named", soft({ deleted: "_deleted", syncedAt: "\"Synced at\"" }), [
          gone(2, 30n)
        ])
        assert.deepStrictEqual(Object.keys(named[0] ?? {}).toSorted(), [
          "BODY",
          "ID",
          "Synced at",
          "_DELETED",
          "_ETL_SEQ"
        ])
        assert.deepStrictEqual(flags(named, "_DELETED"), [["1", true], ["2", true], ["3", false], ["4", false]])
        for (const row of named) assert.isNotNull(row["Synced at"])

        const again = yield* run(local, "named", soft({ deleted: "is_gone" }), [gone(3, 40n)])
        assert.deepStrictEqual(Object.keys(again[0] ?? {}).toSorted(), [
          "BODY",
          "ID",
          "IS_GONE",
          "_ETL_SEQ",
          "_ETL_SYNCED_AT"
        ])
        assert.deepStrictEqual(flags(again, "IS_GONE"), [["1", true], ["2", true], ["3", true], ["4", false]])

        // Hard deletes leave neither the rows nor the column, under whatever name.
        const hard = yield* run(local, "named", { metadata: { deleted: "another" } }, [gone(4, 50n)])
        assert.deepStrictEqual(hard, [])
        const columns = yield* local.query("DESCRIBE TABLE RAW.SHOP.NAMED")
        assert.deepStrictEqual(columns.map((row) => row["name"]).toSorted(), [
          "BODY",
          "ID",
          "_ETL_SEQ",
          "_ETL_SYNCED_AT"
        ])
      }),
    60_000
  )

  it.effect("are the options' in histories, whose versions stay when they change", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const options = (metadata: object) => ({ mode: "history", metadata })
      const first = yield* run(local, "told", options({ validFrom: "valid_from", validTo: "valid_to" }), [gone(1, 20n)])
      assert.deepStrictEqual(Object.keys(first[0] ?? {}).toSorted(), [
        "BODY",
        "ID",
        "VALID_FROM",
        "VALID_TO",
        "_ETL_SEQ"
      ])
      const open = (rows: ReadonlyArray<Readonly<Record<string, unknown>>>, to: string) =>
        rows.filter((row) => row[to] === null).map((row) => row["ID"])
      assert.deepStrictEqual(open(first, "VALID_TO"), ["2", "3", "4"])
      const then = yield* run(local, "told", options({ validFrom: "since", validTo: "until" }), [gone(2, 30n)])
      assert.deepStrictEqual(open(then, "UNTIL"), ["3", "4"])
      assert.deepStrictEqual(then.map((row) => row["SINCE"]), first.map((row) => row["VALID_FROM"]))
      // It is still known to be a history.
      const refused = yield* Effect.flip(Effect.mapError(run(local, "told", { mode: "mirror" }, []), String))
      assert.include(refused, "is a history, and the mode of public.told is mirror")
      assert.deepStrictEqual(open(yield* run(local, "told", options({}), [gone(3, 40n)]), "_ETL_VALID_TO"), ["4"])
    }), 60_000)

  it.effect(
    "that a column of the table or of the target has stop the table, and say which",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const config = local.config({ metadata: { syncedAt: "body", validFrom: "id" } })
        const error = yield* Effect.flip(Layout.make(config, "clash", table("clash")))
        assert.deepStrictEqual([error.reason, error.table], ["Unsupported", "public.clash"])
        assert.include(error.message, "\"body\"")
        assert.include(error.hint, "metadata.syncedAt")
        yield* run(local, "handmade", {}, [])
        yield* local.query("ALTER TABLE RAW.SHOP.HANDMADE ADD COLUMN \"_SEEN\" TIMESTAMP_TZ(6)")
        for (const metadata of [{ syncedAt: "_seen" }, { deleted: "_seen" }]) {
          const refused =
            (yield* Effect.flip(run(local, "handmade", { deletes: "soft", metadata }, []))) as ConnectorError // of a sink
          assert.deepStrictEqual([refused.reason, refused.table], ["Unsupported", "public.handmade"])
          assert.include(refused.message, "_SEEN")
        }
        assert.lengthOf(yield* run(local, "handmade", {}, [gone(1, 20n)]), 3)
      }),
    60_000
  )

  it.effect("can't be those of other columns, nor the same", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const decode = (metadata: object) => Effect.exit(Effect.sync(() => local.config({ metadata })))
      for (
        const metadata of [
          { deleted: "_etl_op" },
          { deleted: "\"_etl_Value_0\"" },
          { deleted: "x", validTo: "\"X\"" },
          { deleted: "" }
        ]
      ) {
        assert.isTrue(Exit.isFailure(yield* decode(metadata)), JSON.stringify(metadata))
      }
      assert.isTrue(Exit.isSuccess(yield* decode({ deleted: "_ETL_DELETED", syncedAt: "synced_at" })))
    }))

  it.effect(
    "are found again when a run died at any statement, whatever names the next one is given",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const metadata = [{ deleted: "one", syncedAt: "one_at" }, { deleted: "two", syncedAt: "two_at" }, {}] as const
        for (let dies = 1; dies <= 7; dies++) {
          for (const [index, after] of metadata.entries()) {
            const name = `dies_${dies}_${index}`
            const layoutOf = (names: object) =>
              Layout.make(local.config({ deletes: "soft", metadata: names }), name, table(name))
            const state = StateTable.make(local.sql, name, "RAW", "ETL_STREAM")
            const settle = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, names: object, dying = false) {
              const layout = yield* layoutOf(names)
              const noted = (yield* state.read(layout.id))?.metadata
              const keeping = dying ? StateTable.make(sql, name, "RAW", "ETL_STREAM") : state
              yield* MetadataColumns.settle(sql, keeping, layout, noted)
              yield* TableDdl.examine(sql, layout, undefined, local.config().schemaEvolution).pipe(
                Effect.flatMap((examined) => TableDdl.evolve(sql, examined))
              )
              return layout
            })
            const before = yield* layoutOf(metadata[0])
            yield* state.register(before)
            yield* settle(local.sql, metadata[0])
            yield* local.query(
              `UPDATE RAW.ETL_STREAM.TABLES SET "COPIED" = '1', "MERGED" = '' WHERE "PIPELINE" = '${name}'`
            )
            yield* local.query(
              `INSERT INTO ${
                Layout.sqlName(before.target)
              } ("ID", "ONE", "ONE_AT") VALUES (1, TRUE, CURRENT_TIMESTAMP())`
            )
            let statements = 0
            const count = <A>(run: Effect.Effect<A, ConnectorError>) =>
              Effect.suspend(() => ++statements < dies ? run : Effect.fail(failure("Unreachable", "it died", "")))
            const dying: SqlClient.SqlClient = {
              ...local.sql,
              execute: (statement) => count(local.sql.execute(statement)),
              use: (body) => count(local.sql.use(body))
            }
            yield* Effect.ignore(settle(dying, metadata[1], true))
            const layout = yield* settle(local.sql, after)
            assert.deepStrictEqual(
              yield* local.query(
                `SELECT ${Layout.quotedNames(layout).deleted} AS "D", ${
                  Layout.quotedNames(layout).syncedAt
                } IS NULL AS "N" FROM ${Layout.sqlName(layout.target)}`
              ),
              [{ D: true, N: false }],
              name
            )
            assert.lengthOf(yield* local.query(`DESCRIBE TABLE ${Layout.sqlName(layout.target)}`), 5, name)
          }
        }
      }),
    120_000
  )
})
