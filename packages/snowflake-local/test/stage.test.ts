/**
 * PUT from memory and COPY INTO from Parquet, through the unmodified driver.
 */
import { assert, layer } from "@effect/vitest"
import * as Arrow from "apache-arrow"
import * as Effect from "effect/Effect"
import * as Parquet from "parquet-wasm"
import * as Driver from "./driver/Driver.ts"

const { Local } = Driver

const parquet = (table: Arrow.Table): Buffer =>
  Buffer.from(Parquet.writeParquet(Parquet.Table.fromIPCStream(Arrow.tableToIPC(table, "stream"))))

/** Columns as a sink writes them: text, bytes, numbers and an instant. */
const rowsOf = (from: number, to: number): Arrow.Table => {
  const ids = Array.from({ length: to - from }, (_, index) => from + index)
  return new Arrow.Table({
    id: Arrow.vectorFromArray(ids.map(BigInt), new Arrow.Int64()),
    Name: Arrow.vectorFromArray(ids.map((id) => id % 3 === 0 ? null : `näme ${id}`), new Arrow.Utf8()),
    doc: Arrow.vectorFromArray(
      ids.map((id) => `{"n": ${id}, "big": 12345678901234567890123456789012345678, "null": null}`),
      new Arrow.Utf8()
    ),
    raw: Arrow.vectorFromArray(ids.map((id) => Uint8Array.of(0, 255, id)), new Arrow.Binary()),
    exact: Arrow.vectorFromArray(ids.map((id) => `${id}.0123456789`), new Arrow.Utf8()),
    at: Arrow.vectorFromArray(ids.map((id) => `2024-01-01 00:00:0${id % 10}.000001+00:00`), new Arrow.Utf8()),
    ts: Arrow.vectorFromArray(ids.map((id) => 1_700_000_000_000 + id), new Arrow.TimestampMillisecond())
  })
}

const format =
  "file_format = (type = parquet binary_as_text = false use_logical_type = true) on_error = abort_statement"
const put = (client: Driver.Client, name: string, file: Buffer, path = "load", more = "") =>
  client.run(`PUT 'file://${name}' @st/${path} AUTO_COMPRESS=FALSE ${more}`, { fileStream: file })

const copy = (more: string) =>
  `COPY INTO loaded (id, "Name", doc, raw, exact, at, ts, missing) FROM (
     SELECT $1:"id"::NUMBER(38,0), $1:"Name"::VARCHAR, PARSE_JSON($1:"doc"::VARCHAR), $1:"raw"::BINARY, $1:"exact"::NUMBER(38,10),
       $1:at::TIMESTAMP_TZ(6), $1:ts::TIMESTAMP_NTZ, $1:nothing::VARCHAR FROM @st/load) ${more} ${format}`

const table =
  "create or replace table loaded (id int not null, \"Name\" varchar, doc variant, raw binary, exact number(38,10), at timestamp_tz(6), ts timestamp_ntz, missing varchar)"

layer(Local.layer(), { timeout: "60 seconds", excludeTestServices: true })("a stage", (it) => {
  it.effect("takes files from memory, lists and removes them", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.run("create or replace stage st")
      const file = parquet(rowsOf(0, 5))
      // Of an upload from memory the driver returns no rows.
      yield* put(client, "a b.parquet", file)
      yield* put(client, "b.parquet", Buffer.alloc(3_000_000, 7), "other/deep")
      const listed = yield* client.rows("list @st")
      assert.deepStrictEqual(listed.map((row) => [row["name"], row["size"]]), [
        ["st/load/a b.parquet", String(file.length)],
        ["st/other/deep/b.parquet", "3000000"]
      ])
      // Without OVERWRITE what is there stays.
      yield* put(client, "a b.parquet", Buffer.from("other"))
      assert.strictEqual((yield* client.rows("ls @demo.public.st/load/"))[0]?.["size"], String(file.length))
      assert.deepStrictEqual(yield* client.rows("rm @st/load pattern = '.*parquet'"), [{
        name: "st/load/a b.parquet",
        result: "removed"
      }])
      assert.strictEqual((yield* client.rows("list @st")).length, 1)
      const error = yield* Effect.flip(client.run("list @nostage"))
      assert.strictEqual(error.code, "002003")
    }))

  it.effect("loads Parquet by a transforming SELECT, once per file, forgetting on TRUNCATE", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.script("create or replace stage st", table)
      yield* put(client, "1.parquet", parquet(rowsOf(0, 3)))
      yield* put(client, "2.parquet", parquet(rowsOf(3, 7)))
      const first = yield* client.rows(copy("files = ('1.parquet')"))
      assert.deepInclude(first[0], {
        file: "st/load/1.parquet",
        status: "LOADED",
        rows_parsed: "3",
        rows_loaded: "3",
        errors_seen: "0",
        first_error: null
      })
      const second = yield* client.rows(copy(""))
      assert.deepStrictEqual(second.map((row) => row["file"]), ["st/load/2.parquet"])
      assert.deepStrictEqual(yield* client.rows(copy("files = ('1.parquet', '2.parquet')")), [{
        status: "Copy executed with 0 files processed."
      }])
      assert.deepStrictEqual(
        yield* client.rows(
          `select id, "Name", doc:big::varchar big, typeof(doc:"null") t, raw, exact, to_varchar(convert_timezone('UTC', at), 'YYYY-MM-DD HH24:MI:SS') at,
             date_part(epoch_second, ts) ts, missing from loaded where id in (0, 4) order by id`
        ),
        [
          {
            ID: "0",
            Name: null,
            BIG: "12345678901234567890123456789012345678",
            T: "NULL_VALUE",
            RAW: Buffer.from([0, 255, 0]),
            EXACT: "0.0123456789",
            AT: "2024-01-01 00:00:00",
            TS: "1700000000",
            MISSING: null
          },
          {
            ID: "4",
            Name: "näme 4",
            BIG: "12345678901234567890123456789012345678",
            T: "NULL_VALUE",
            RAW: Buffer.from([0, 255, 4]),
            EXACT: "4.0123456789",
            AT: "2024-01-01 00:00:04",
            TS: "1700000000",
            MISSING: null
          }
        ]
      )
      const history =
        "select table_name, status, sum(row_count) n from information_schema.load_history where table_name = 'LOADED' group by 1, 2"
      assert.deepStrictEqual(yield* client.rows(history), [{ TABLE_NAME: "LOADED", STATUS: "LOADED", N: "7" }])
      yield* client.script("truncate table loaded")
      assert.strictEqual((yield* client.rows(copy(""))).length, 2)
      // The same name with other content is another file.
      yield* put(client, "1.parquet", parquet(rowsOf(10, 12)), "load", "OVERWRITE=TRUE")
      assert.deepStrictEqual((yield* client.rows(copy(""))).map((row) => row["rows_loaded"]), ["2"])
      assert.strictEqual((yield* client.rows(copy("force = true purge = true"))).length, 2)
      assert.strictEqual((yield* client.rows("list @st")).length, 0)
      const missing = yield* Effect.flip(client.run(copy("files = ('no.parquet')")))
      assert.strictEqual(missing.code, "091016")
    }))

  it.effect("loads all of a COPY or nothing, and rolls back with its transaction", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.script(
        "create or replace stage st",
        table,
        "create or replace table narrow (id number(1,0), \"Name\" varchar(7))"
      )
      yield* put(client, "1.parquet", parquet(rowsOf(0, 3)))
      yield* put(client, "2.parquet", parquet(rowsOf(8, 12)))
      const narrow = `copy into narrow from (select $1:id::number(38,0), $1:"Name"::varchar from @st/load) ${format}`
      assert.strictEqual((yield* Effect.flip(client.run(narrow))).code, "100132")
      assert.deepStrictEqual(yield* client.rows("select count(*) n from narrow"), [{ N: "0" }])
      yield* client.script("begin", copy(""), "rollback")
      assert.deepStrictEqual(yield* client.rows("select count(*) n from loaded"), [{ N: "0" }])
      // What was rolled back is not remembered as loaded.
      assert.strictEqual((yield* client.rows(copy(""))).length, 2)
      yield* put(client, "3.parquet", Buffer.from("this is no Parquet"))
      yield* Effect.flip(client.run(copy("")))
      assert.deepStrictEqual(yield* client.rows("select count(*) n from loaded"), [{ N: "7" }])
    }))

  it.effect("matches columns by name", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.script(
        "create or replace stage st",
        "create or replace table matched (name varchar, id int, other int)",
        "create or replace table raw (v variant)"
      )
      yield* put(client, "1.parquet", parquet(rowsOf(4, 6)))
      yield* client.run(`copy into matched from @st/load ${format} match_by_column_name = case_insensitive`)
      assert.deepStrictEqual(yield* client.rows("select * from matched order by id"), [
        { NAME: "näme 4", ID: "4", OTHER: "NULL" },
        { NAME: "näme 5", ID: "5", OTHER: "NULL" }
      ])
      yield* client.run(`copy into raw from @st/load ${format}`)
      assert.deepStrictEqual(yield* client.rows("select v:id::int i, v:\"Name\"::varchar n from raw order by 1"), [{
        I: "4",
        N: "näme 4"
      }, { I: "5", N: "näme 5" }])
    }))

  it.effect("sees no logical types, and no bytes, unless it is told to", () =>
    Effect.gen(function*() {
      const client = yield* Local
      yield* client.script("create or replace stage st", "create or replace table plain (ts timestamp_ntz)")
      yield* put(client, "1.parquet", parquet(rowsOf(4, 6)))
      const error = yield* Effect.flip(
        client.run("copy into plain from (select $1:ts::timestamp_ntz from @st/load) file_format = (type = parquet)")
      )
      assert.strictEqual(error.code, "000002")
      for (const wrong of ["on_error = continue", "on_error = skip_file", "no_such_option = 1"]) {
        yield* Effect.flip(
          client.run(
            `copy into plain from (select $1:ts::timestamp_ntz from @st/load) file_format = (type = parquet) ${wrong}`
          )
        )
      }
    }))

  it.effect("loads and lists a folder while files of others come and go", () =>
    Effect.gen(function*() {
      const client = yield* Local
      const other = yield* Driver.connect(client.server.url)
      yield* client.script("create or replace stage st", "create or replace table counted (id int)")
      const file = parquet(rowsOf(0, 2))
      const comeAndGo = Effect.forEach(Array.from({ length: 25 }, (_, n) => n), (n) =>
        Effect.andThen(
          put(other, "x.parquet", Buffer.from("x"), `other/${n}`),
          other.run(`remove @demo.public.st/other/${n}`)
        ), { discard: true })
      const load = Effect.forEach(Array.from({ length: 25 }, (_, n) => n), (n) =>
        Effect.gen(function*() {
          yield* put(client, "x.parquet", file, `own/${n}`)
          yield* client.run(
            `copy into counted from (select $1:"id"::int from @st/own/${n}) files = ('x.parquet') ${format}`
          )
          assert.strictEqual((yield* client.rows("list @st/own/")).length, n + 1)
        }), { discard: true })
      yield* Effect.all([comeAndGo, load], { concurrency: 2 })
      assert.deepStrictEqual(yield* client.rows("select count(*) as n from counted"), [{ N: "50" }])
      const error = yield* Effect.flip(client.run(
        `copy into counted from (select $1:"id"::int from @st/own/0) files = ('../1/x.parquet') ${format}`
      ))
      assert.strictEqual(error.code, "091016")
    }))

  it.effect("refuses uploads without its token, and paths that leave it", () =>
    Effect.gen(function*() {
      const client = yield* Local
      const { url } = client.server
      const status = (path: string, init: RequestInit) =>
        Effect.promise(async () => (await fetch(`${url}${path}`, init)).status)
      assert.strictEqual(yield* status("/stage/x/y", { method: "PUT", body: "z" }), 401)
      assert.strictEqual(
        yield* status("/stage/x/y", { method: "PUT", body: "z", headers: { authorization: "Bearer wrong" } }),
        401
      )
      const error = yield* Effect.flip(client.run("list @st/../../secret"))
      assert.strictEqual(error.code, "001008")
    }))
})
