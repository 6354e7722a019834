/**
 * Checks of SQL, stages and COPY.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Arrow from "apache-arrow"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Collation from "../../src/Collation.ts"
import * as ErrorPolicy from "../../src/ErrorPolicy.ts"
import { literal, quote } from "../../src/Identifier.ts"
import { of as parquetFile, ParquetFile } from "../../src/ParquetFile.ts"
import type { Session } from "../../src/SqlClient.ts"
import type { Check, Context } from "./Check.ts"
import { execute, expect, same, table, value } from "./Check.ts"

const stage = (context: Context): string => `@${table(context, "FILES")}`
const format = "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE)"
const texts = (name: string, values: ReadonlyArray<string | null>): Arrow.Table =>
  new Arrow.Table({ [name]: Arrow.vectorFromArray([...values], new Arrow.Utf8()) })

const put = (context: Context, name: string, file: Buffer) =>
  context.sql.execute({
    what: "Uploading a file",
    sql: `PUT file://${name} ${stage(context)}/checks AUTO_COMPRESS = FALSE OVERWRITE = TRUE`,
    file
  })

/** Copies the only column `c0` of files. */
const copy = (context: Context, target: string, files: ReadonlyArray<string>, expression = "$1:c0::VARCHAR") =>
  `COPY INTO ${table(context, target)} ("V") FROM (SELECT ${expression} FROM ${stage(context)}/checks) FILES = (${
    files.map(literal).join(", ")
  }) ${format} ON_ERROR = ABORT_STATEMENT`

const create = (context: Context, name: string, columns: string) =>
  execute(context, `CREATE TABLE ${table(context, name)} (${columns})`)

const count = (context: Context, name: string) =>
  Effect.map(execute(context, `SELECT COUNT(*) AS "rows" FROM ${table(context, name)}`), value)

const uploads: Check = {
  ids: ["A16", "A18"],
  title: "a file that is uploaded from memory keeps its name, and replaces one of that name",
  run: Effect.fnUntraced(function*(context) {
    for (const text of ["first", "second"]) {
      yield* put(context, "upload.parquet", parquetFile(texts("c0", [text])))
    }
    const { rows } = yield* execute(context, `LIST ${stage(context)}/checks`)
    yield* same(
      rows.map((row) => String(row["name"]).split("/").at(-1)).filter((name) => name?.startsWith("upload") === true),
      ["upload.parquet"],
      "files at the stage"
    )
    yield* create(context, "UPLOADS", `"V" VARCHAR`)
    yield* execute(context, copy(context, "UPLOADS", ["upload.parquet"]))
    yield* same(
      value(yield* execute(context, `SELECT "V" FROM ${table(context, "UPLOADS")}`)),
      "second",
      "the copied value"
    )
  })
}

const copies: Check = {
  ids: ["A17", "A22", "A23", "A35", "A36", "A81"],
  title: "COPY counts its rows, rolls back with its transaction, and loads a file once",
  run: Effect.fnUntraced(function*(context) {
    const file = new ParquetFile({ groupBytes: 1024 })
    for (let group = 0; group < 4; group++) {
      file.append(texts("c0", Array.from({ length: 500 }, (_, row) => `${group} ${row}`)))
    }
    yield* put(context, "copied.parquet", file.close())
    yield* create(context, "COPIES", `"V" VARCHAR`)
    const statement = copy(context, "COPIES", ["copied.parquet"])
    yield* context.sql.use((session) =>
      Effect.gen(function*() {
        yield* session.execute({ what: "Checking", sql: "BEGIN" })
        yield* session.execute({ what: "Checking", sql: statement })
        yield* session.execute({ what: "Checking", sql: "ROLLBACK" })
      })
    )
    yield* same(yield* count(context, "COPIES"), "0", "rows after a rollback")
    const { rows } = yield* execute(context, statement)
    yield* same(rows.map((row) => String(row["rows_loaded"])), ["2000"], "rows_loaded")
    yield* execute(context, `REMOVE ${stage(context)}/checks/copied.parquet`)
    yield* same(yield* count(context, "COPIES"), "2000", "rows after the file is removed")
    yield* put(context, "again.parquet", parquetFile(texts("c0", ["once"])))
    for (let time = 0; time < 2; time++) yield* execute(context, copy(context, "COPIES", ["again.parquet"]))
    yield* same(yield* count(context, "COPIES"), "2001", "rows after a file was copied twice")
  })
}

const missingFile: Check = {
  ids: ["A19"],
  title: "COPY fails when a file that it lists isn't there",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "MISSING", `"V" VARCHAR`)
    yield* put(context, "present.parquet", parquetFile(texts("c0", ["present"])))
    const outcome = yield* Effect.exit(
      execute(context, copy(context, "MISSING", ["present.parquet", "absent.parquet"]))
    )
    yield* expect(outcome._tag === "Failure", "it succeeds")
    yield* same(yield* count(context, "MISSING"), "0", "rows")
  })
}

const expressions: Check = {
  ids: ["A20", "A41"],
  title: "COPY's SELECT takes the functions that columns are loaded with",
  run: Effect.fnUntraced(function*(context) {
    const cases: ReadonlyArray<
      readonly [type: string, text: string, expression: string, read: string, expected: string]
    > = [
      [
        "VARIANT",
        `{"a":[1]}`,
        "IFF(CHECK_JSON($1:c0::VARCHAR) IS NULL, PARSE_JSON($1:c0::VARCHAR), TO_VARIANT($1:c0::VARCHAR))",
        `TO_JSON("V")`,
        `{"a":[1]}`
      ],
      ["BINARY", "AP8=", "TO_BINARY($1:c0::VARCHAR, 'BASE64')", `TO_VARCHAR("V", 'HEX')`, "00FF"],
      ["FLOAT", "-inf", "$1:c0::FLOAT", `IFF("V" < -1e308, 'low', 'other')`, "low"],
      [
        "TIMESTAMP_TZ(6)",
        "2026-01-02T03:04:05.678901Z",
        "$1:c0::TIMESTAMP_TZ(6)",
        `TO_VARCHAR("V"::DATE)`,
        "2026-01-02"
      ]
    ]
    for (const [index, [type, text, expression, read, expected]] of cases.entries()) {
      const name = `EXPRESSION_${index}`
      yield* create(context, name, `"V" ${type}`)
      yield* put(context, `e${index}.parquet`, parquetFile(texts("c0", [text])))
      yield* execute(context, copy(context, name, [`e${index}.parquet`], expression))
      yield* same(value(yield* execute(context, `SELECT ${read} FROM ${table(context, name)}`)), expected, type)
    }
  })
}

const largeValue: Check = {
  ids: ["A21", "A39"],
  title: "a VARCHAR takes 16,777,216 characters by way of COPY",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "LARGE_VALUES", `"V" VARCHAR`)
    yield* put(context, "large.parquet", parquetFile(texts("c0", ["x".repeat(16_777_216)])))
    yield* execute(context, copy(context, "LARGE_VALUES", ["large.parquet"]))
    const length = yield* execute(context, `SELECT LENGTH("V") FROM ${table(context, "LARGE_VALUES")}`)
    yield* same(value(length), "16777216", "length")
  })
}

const longBind: Check = {
  ids: ["A24"],
  title: "a bind variable may be text of 500 kB",
  run: Effect.fnUntraced(function*(context) {
    const length = yield* execute(context, "SELECT LENGTH(?)", ["x".repeat(500_000)])
    yield* same(value(length), "500000", "length")
  })
}

const takingTurns: Check = {
  ids: ["A25", "A53"],
  title: "an UPDATE waits for another transaction's UPDATE of the row, and then checks its condition anew",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "TURNS", `"ID" NUMBER, "OWNER" VARCHAR`)
    yield* execute(context, `INSERT INTO ${table(context, "TURNS")} VALUES (1, 'a')`)
    const take = (owner: string) =>
      `UPDATE ${table(context, "TURNS")} SET "OWNER" = ${literal(owner)} WHERE "ID" = 1 AND "OWNER" = 'a'`
    const changed = yield* context.sql.use((session) =>
      Effect.gen(function*() {
        yield* session.execute({ what: "Checking", sql: "BEGIN" })
        const first = yield* session.execute({ what: "Checking", sql: take("b") })
        const second = yield* Effect.forkChild(execute(context, take("c")), { startImmediately: true })
        // Whether it waits or begins after the commit makes no difference: it must find the row taken.
        yield* Effect.sleep("2 seconds")
        yield* session.execute({ what: "Checking", sql: "COMMIT" })
        return [first.changed, (yield* Fiber.join(second)).changed]
      })
    )
    yield* same(changed, [1, 0], "changed rows")
  })
}

/** The code of an error, and whether the sink takes it for one of a transaction that was rolled back. */
const said = (error: ConnectorError.ConnectorError): string =>
  `${/error (\d{6})/.exec(error.message)?.[1]}, ${ErrorPolicy.isRolledBack(error) ? "rolled back" : error.reason}`

const cancelled: Check = {
  ids: ["A82"],
  title: "one of two transactions that wait for each other gets error 000607, a statement that takes too long 000630",
  run: Effect.fnUntraced(function*(context) {
    const [a, b] = ["DEADLOCK_A", "DEADLOCK_B"]
    for (const name of [a, b]) yield* execute(context, `CREATE TABLE ${table(context, name)} AS SELECT 0 AS "N"`)
    const change = (session: Session, name: string) =>
      session.execute({ what: "Checking", sql: `UPDATE ${table(context, name)} SET "N" = "N" + 1` })
    const changing = (first: string, own: Deferred.Deferred<void>, second: string, other: Deferred.Deferred<void>) =>
      context.sql.use((session) =>
        session.transaction(
          { what: "Checking" },
          Effect.gen(function*() {
            yield* change(session, first)
            yield* Deferred.succeed(own, undefined)
            yield* Deferred.await(other)
            yield* change(session, second)
          })
        )
      ).pipe(Effect.as("committed"), Effect.catch((error) => Effect.succeed(said(error))))
    const [one, other] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
    const ends = yield* Effect.all([changing(a, one, b, other), changing(b, other, a, one)], {
      concurrency: "unbounded"
    })
    yield* same(ends.toSorted(), ["000607, rolled back", "committed"], "the two transactions")
    for (const name of [a, b]) {
      yield* same(value(yield* execute(context, `SELECT "N" FROM ${table(context, name)}`)), "1", name)
    }

    const limit = (session: Session, seconds: number) =>
      session.execute({ what: "Checking", sql: `ALTER SESSION SET STATEMENT_TIMEOUT_IN_SECONDS = ${seconds}` })
    const late = yield* context.sql.use((holder) =>
      Effect.gen(function*() {
        yield* holder.execute({ what: "Checking", sql: "BEGIN" })
        yield* change(holder, a)
        return yield* context.sql.use((waiting) =>
          Effect.andThen(limit(waiting, 1), change(waiting, a)).pipe(
            Effect.as("done"),
            Effect.catch((error) => Effect.succeed(said(error))),
            Effect.ensuring(Effect.ignore(limit(waiting, 0)))
          )
        )
      }).pipe(Effect.ensuring(Effect.ignore(holder.execute({ what: "Checking", sql: "ROLLBACK" }))))
    )
    yield* same(late, "000630, rolled back", "a statement that waits for a lock longer than it may")
  })
}

const keys: Check = {
  ids: ["A30", "A37"],
  title: "DESCRIBE TABLE tells keys, constraints and defaults, and keys can be changed",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "KEYED", `"A" NUMBER(38,0), "B" VARCHAR NOT NULL DEFAULT 'x', PRIMARY KEY ("A")`)
    const described = Effect.map(
      execute(context, `DESCRIBE TABLE ${table(context, "KEYED")}`),
      ({ rows }) => rows.map((row) => [row["name"], row["primary key"], row["null?"], row["default"] !== null])
    )
    yield* same(yield* described, [["A", "Y", "N", false], ["B", "N", "N", true]], "DESCRIBE")
    for (const change of ["DROP PRIMARY KEY", `ALTER COLUMN "A" DROP NOT NULL`, `ADD PRIMARY KEY ("B")`]) {
      yield* execute(context, `ALTER TABLE ${table(context, "KEYED")} ${change}`)
    }
    yield* same(yield* described, [["A", "N", "Y", false], ["B", "Y", "N", true]], "DESCRIBE after the change")
  })
}

const evolution: Check = {
  ids: ["A73"],
  title: "columns of a table with rows can be renamed, widened, freed of NOT NULL and dropped",
  run: Effect.fnUntraced(function*(context) {
    const name = table(context, "EVOLVED")
    yield* create(
      context,
      "EVOLVED",
      `"ID" NUMBER(38,0), "N" NUMBER(5,2) NOT NULL, "T" VARCHAR(3), "D" VARCHAR, "F" BOOLEAN DEFAULT FALSE, PRIMARY KEY ("ID")`
    )
    yield* execute(context, `INSERT INTO ${name} VALUES (1, 123.45, 'abc', 'd', TRUE)`)
    for (
      const change of [
        `RENAME COLUMN "ID" TO "KEY"`,
        `RENAME COLUMN "F" TO "FLAG"`,
        `ALTER COLUMN "N" SET DATA TYPE NUMBER(12,2)`,
        `ALTER COLUMN "T" SET DATA TYPE VARCHAR(30)`,
        `ALTER COLUMN "N" DROP NOT NULL`,
        `DROP COLUMN "D"`
      ]
    ) yield* execute(context, `ALTER TABLE ${name} ${change}`)
    yield* execute(context, `INSERT INTO ${name} ("KEY", "N") VALUES (2, 0)`)
    const { rows } = yield* execute(context, `SELECT * FROM ${name} ORDER BY "KEY"`)
    yield* same(
      rows,
      [{ KEY: "1", N: "123.45", T: "abc", FLAG: true }, { KEY: "2", N: "0.00", T: null, FLAG: false }],
      "the rows"
    )
    const { rows: columns } = yield* execute(context, `DESCRIBE TABLE ${name}`)
    yield* same(columns.map((row) => row["primary key"]), ["Y", "N", "N", "N"], "the key")
  })
}

const merging: Check = {
  ids: ["A26", "A27"],
  title: "MERGE takes window functions, QUALIFY beside a plain condition, and its own target in its source",
  run: Effect.fnUntraced(function*(context) {
    const target = table(context, "MERGED")
    yield* create(context, "MERGED", `"ID" NUMBER(38,0), "V" VARCHAR`)
    yield* execute(context, `INSERT INTO ${target} VALUES (1, 'old'), (2, 'gone')`)
    const changes = [
      `SELECT 1 AS "ID", 'new' AS "V", 1 AS "SEQ", FALSE AS "PAST", FALSE AS "DEAD"`,
      "SELECT 1, NULL, 2, FALSE, FALSE",
      "SELECT 2, NULL, 3, FALSE, TRUE",
      "SELECT 3, 'made', 4, FALSE, FALSE",
      "SELECT 4, 'past', 5, TRUE, FALSE"
    ].join(" UNION ALL ")
    yield* execute(
      context,
      `MERGE INTO ${target} AS t USING (SELECT c."ID", c."DEAD", FIRST_VALUE(c."V") OVER (PARTITION BY c."ID" ORDER BY IFF(c."V" IS NULL, NULL, c."SEQ") ` +
        `DESC NULLS LAST) AS "V" FROM (${changes}) AS c LEFT JOIN ${target} AS h ON h."ID" = c."ID" ` +
        `QUALIFY ROW_NUMBER() OVER (PARTITION BY c."ID" ORDER BY c."SEQ" DESC) = 1 AND NOT c."PAST") AS s ON t."ID" = s."ID" ` +
        `WHEN MATCHED AND s."DEAD" THEN DELETE WHEN MATCHED THEN UPDATE SET "V" = s."V" ` +
        `WHEN NOT MATCHED AND NOT s."DEAD" THEN INSERT ("ID", "V") VALUES (s."ID", s."V")`
    )
    const { rows } = yield* execute(context, `SELECT * FROM ${target} ORDER BY "ID"`)
    yield* same(rows, [{ ID: "1", V: "new" }, { ID: "3", V: "made" }], "the target")
  })
}

const numbers: Check = {
  ids: ["A40"],
  title: "a VARIANT keeps a JSON number of 38 digits exactly",
  run: Effect.fnUntraced(function*(context) {
    const digits = "12345678901234567890123456789012345678"
    const kept = yield* execute(context, `SELECT TO_JSON(PARSE_JSON(${literal(`{"n":${digits}}`)}))`)
    yield* same(value(kept), `{"n":${digits}}`, "the document")
  })
}

const views: Check = {
  ids: ["A38"],
  title: "a view may hold window functions and QUALIFY, is replaced with COPY GRANTS, and SHOW VIEWS tells its comment",
  run: Effect.fnUntraced(function*(context) {
    yield* create(context, "LOGGED", `"ID" NUMBER(38,0), "SEQ" NUMBER(38,0)`)
    for (const comment of ["first", "second"]) {
      yield* execute(
        context,
        `CREATE OR REPLACE VIEW ${table(context, "LOGGED_NOW")} COPY GRANTS COMMENT = ${literal(comment)} AS ` +
          `SELECT * FROM ${
            table(context, "LOGGED")
          } QUALIFY ROW_NUMBER() OVER (PARTITION BY "ID" ORDER BY "SEQ" DESC) = 1`
      )
    }
    const { rows } = yield* execute(
      context,
      `SHOW VIEWS LIKE 'LOGGED_NOW' IN SCHEMA ${quote(context.database)}.${quote(context.schema)}`
    )
    yield* same(rows.map((row) => row["comment"]), ["second"], "comments")
  })
}

const statementParameters: Check = {
  ids: ["A50"],
  title: "a statement may have a query tag of its own",
  run: (context) =>
    Effect.asVoid(context.sql.execute({ what: "Checking", sql: "SELECT 1", table: "public.t", purpose: "merge" }))
}

const insertsUnlessThere: Check = {
  ids: ["A79"],
  title: "INSERT ... SELECT takes bind variables, with a condition on its own target, and counts its rows",
  run: Effect.fnUntraced(function*(context) {
    const name = table(context, "MARKS")
    yield* create(context, "MARKS", `"ID" VARCHAR, "WHY" VARCHAR`)
    const insert = (why: string) =>
      Effect.map(
        execute(
          context,
          `INSERT INTO ${name} ("ID", "WHY") SELECT 'a', ? WHERE NOT EXISTS (SELECT 1 FROM ${name} WHERE "ID" = 'a')`,
          [why]
        ),
        ({ changed }) => changed
      )
    yield* same([yield* insert("first"), yield* insert("second")], [1, 0], "inserted rows")
    yield* same(value(yield* execute(context, `SELECT "WHY" FROM ${name}`)), "first", "the row")
  })
}

const collations: Check = {
  ids: ["A80"],
  title: "tables may be created, and altered, to have no collation where the schema has one by default",
  run: (context) => {
    const schema = `${quote(context.database)}.${quote(`${context.schema}_COLLATED`)}`
    const typesOf = (name: string) =>
      Effect.map(
        execute(context, `DESCRIBE TABLE ${schema}.${name}`),
        ({ rows }) => rows.map((row) => String(row["type"]))
      )
    return Effect.gen(function*() {
      yield* execute(context, `CREATE SCHEMA ${schema} DEFAULT_DDL_COLLATION = 'en-ci'`)
      yield* execute(context, `CREATE TABLE ${schema}.BY_DEFAULT ("K" VARCHAR(9))`)
      yield* execute(context, `CREATE TABLE ${schema}.EXACT ("K" VARCHAR(9)) ${Collation.none}`)
      yield* execute(context, `ALTER TABLE ${schema}.EXACT ADD COLUMN "L" VARCHAR(9)`)
      yield* execute(context, `ALTER TABLE ${schema}.BY_DEFAULT SET ${Collation.none}`)
      yield* execute(context, `ALTER TABLE ${schema}.BY_DEFAULT ADD COLUMN "L" VARCHAR(9)`)
      yield* same(yield* typesOf("EXACT"), ["VARCHAR(9)", "VARCHAR(9)"], "types where there is no default")
      yield* same(yield* typesOf("BY_DEFAULT"), ["VARCHAR(9) COLLATE 'en-ci'", "VARCHAR(9)"], "types before and after")
    }).pipe(Effect.ensuring(Effect.ignore(execute(context, `DROP SCHEMA IF EXISTS ${schema}`))))
  }
}

export const checks: ReadonlyArray<Check> = [
  uploads,
  copies,
  missingFile,
  expressions,
  largeValue,
  longBind,
  takingTurns,
  cancelled,
  keys,
  evolution,
  merging,
  numbers,
  views,
  statementParameters,
  insertsUnlessThere,
  collations
]
