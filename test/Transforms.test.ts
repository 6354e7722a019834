/**
 * The built-in transforms between PostgreSQL and Snowflake, end to end: whatever changes, the target holds what an SQL statement over the source says.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { createHmac } from "node:crypto"
import * as Landscape from "./Landscape.ts"

const key = "a key for tests, of enough characters"

const transforms = (...stages: ReadonlyArray<readonly [name: string, options: object]>) =>
  stages.map(([name, options]) => ({ plugin: `@etl-stream/transforms:${name}`, options }))

/** The landscape's configuration with transforms. */
const configuration = (
  landscape: Landscape.Landscape,
  stages: ReadonlyArray<object>,
  changes: Landscape.Changes = {}
): object => {
  const whole = landscape.configuration(changes) as { readonly pipelines: Readonly<Record<string, object>> } // as it makes them
  return {
    ...whole,
    pipelines: { [Landscape.pipeline]: { ...whole.pipelines[Landscape.pipeline], transforms: stages } }
  }
}

/** Numbers that are the same each time. */
const chance = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    return (state >>> 8) % below
  }
}

type Rows = ReadonlyArray<ReadonlyArray<string | null>>

const sorted = (rows: Rows): Rows => [...rows].sort((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)

/** Waits until the target's query gives what the source's does. */
const agree = Effect.fnUntraced(function*<E, F>(
  source: Effect.Effect<Rows, E>,
  target: Effect.Effect<Rows, F>,
  what: string
) {
  const expected = sorted(yield* source)
  // The first until the table is there.
  const found = yield* target.pipe(
    Effect.map(sorted),
    Effect.orElseSucceed((): Rows => []),
    Effect.repeat({
      schedule: Schedule.spaced("300 millis"),
      until: (rows) => JSON.stringify(rows) === JSON.stringify(expected)
    }),
    Effect.timeoutOption("60 seconds")
  )
  if (found._tag === "None") {
    const last = new Set((yield* target).map((row) => JSON.stringify(row)))
    const wanted = new Set(expected.map((row) => JSON.stringify(row)))
    assert.deepStrictEqual(
      [...last].filter((row) => !wanted.has(row)),
      [...wanted].filter((row) => !last.has(row)),
      what
    )
  }
})

/** Statements that change `table` (id, name, email, score, body, active, doc, at) in every way, some of them in one transaction. */
const statements = (table: string, seed: number, count: number): string => {
  const next = chance(seed)
  const id = () => 1 + next(60)
  const one = (): string => {
    switch (next(9)) {
      case 0:
        return `INSERT INTO ${table} SELECT ${200 + next(400)}, 'new ' || ${next(9)}, 'n${next(99)}@example.com', ${
          next(50)
        }.5, repeat('${next(9)}', 9000), ${next(2) === 0}, '{"city": "Ulm ${next(5)}", "n": ${
          next(9)
        }}', '2026-03-01 10:20:30.123456+00' ON CONFLICT DO NOTHING`
      case 1:
        return `DELETE FROM ${table} WHERE id = ${id()}`
      case 2:
        return `UPDATE ${table} SET id = id + 1000 WHERE id = ${id()}`
      case 3:
        return `UPDATE ${table} SET active = NOT active, name = name || '*' WHERE id % 7 = ${next(7)}`
      case 4:
        return `UPDATE ${table} SET score = ${next(40)}.25 WHERE id % 5 = ${next(5)}`
      case 5:
        return `UPDATE ${table} SET body = repeat('${next(9)}x', 5000) WHERE id = ${id()}`
      case 6:
        return `UPDATE ${table} SET email = NULL, score = NULL WHERE id = ${id()}`
      case 7:
        return `UPDATE ${table} SET doc = '{"city": null}', at = at + interval '7 hours' WHERE id = ${id()}`
      default:
        return `UPDATE ${table} SET id = id + 3000, active = NOT active WHERE id = ${id()}`
    }
  }
  return Array.from({ length: count }, one).map((statement, index) =>
    index % 5 === 0 ? `${index === 0 ? "" : "COMMIT; "}BEGIN; ${statement}` : statement
  ).join(";\n") + "; COMMIT"
}

const create = (table: string, more: string): string =>
  `CREATE TABLE ${table} (id int${more}, name text, email text, score numeric(10,2), body text, active boolean, doc jsonb, at timestamptz);
   ALTER TABLE ${table} ALTER COLUMN body SET STORAGE EXTERNAL;
   INSERT INTO ${table} SELECT i, 'name ' || i, CASE WHEN i % 9 = 0 THEN NULL ELSE 'p' || i || '@example.org' END, i, repeat('b', 8000 + i), i % 3 > 0,
     jsonb_build_object('city', 'Bonn ' || i, 'n', i), '2026-02-28 12:05:59.999999+00'::timestamptz + i * interval '1 hour' FROM generate_series(1, 60) i;`

describe("built-in transforms", () => {
  it.live(
    "make of a table with a key and of one without what SQL makes of them, through a kill: updates without large values, changes of key, deletes",
    () =>
      Effect.gen(function*() {
        const landscape = yield* Landscape.make()
        const { postgres } = landscape
        const tables = ["people", "visits"]
        yield* postgres.query(
          `${create("people", " PRIMARY KEY")} ${create("visits", "")} ALTER TABLE visits REPLICA IDENTITY FULL`
        )
        const file = landscape.write(configuration(
          landscape,
          transforms(
            ["hash", { columns: ["id"], key }],
            ["add", {
              columns: {
                size: { expression: "size(body)" },
                label: { expression: "name + '/' + string(score)" },
                source: { value: "pg" }
              }
            }],
            ["mask", { columns: ["email"], mode: "email" }],
            ["flatten", { column: "doc", columns: { city: { type: "text" }, n: { type: "int32" } } }],
            ["truncate", { columns: ["at"], unit: "hour" }],
            ["cast", { columns: { score: "text" } }],
            ["rename", { columns: { score: "points" }, case: "upper" }],
            ["select", { exclude: ["ACTIVE"] }],
            ["route", { rules: [{ tables: "public.*", name: "all_{name}" }] }],
            ["deduplicate", {}]
          )
        ))
        const mirror = yield* landscape.mirror
        const hashed = (id: string | null): string => createHmac("sha256", key).update(String(id)).digest("hex")
        const same = (table: string) =>
          agree(
            Effect.map(
              postgres.query(
                `SELECT json_build_array(id::text, name, left(email, 1) || '****' || substring(email from '@.*'), score::text, md5(body), extract(epoch FROM date_trunc('hour', at))::bigint::text,
                 length(body)::text, name || '/' || score::text, 'pg', doc->>'city', doc->>'n') AS row FROM ${table}`
              ),
              (rows): Rows =>
                rows.map(({ row }) => {
                  const [id, ...others] = row as ReadonlyArray<string | null> // all are text
                  return [hashed(id ?? null), ...others]
                })
            ),
            mirror.session.query(
              `SELECT ID, NAME, EMAIL, POINTS, MD5(BODY), TO_VARCHAR(DATE_PART(EPOCH_SECOND, AT)), TO_VARCHAR(SIZE), LABEL, SOURCE, CITY, TO_VARCHAR(N) FROM ${mirror.database}.${Landscape.schema}.ALL_${table.toUpperCase()}`
            ) as Effect.Effect<Rows, unknown>,
            table
          )
        const first = yield* landscape.run(file)
        for (const table of tables) yield* same(table)
        for (const [index, table] of tables.entries()) yield* postgres.query(statements(table, 7 + index, 60))
        yield* first.kill("SIGKILL")
        for (const [index, table] of tables.entries()) yield* postgres.query(statements(table, 70 + index, 40))
        yield* landscape.run(file)
        for (const table of tables) yield* same(table)
        yield* postgres.query("TRUNCATE people; INSERT INTO people (id, name) VALUES (1, 'last')")
        for (const table of tables) yield* same(table)
      }),
    240_000
  )

  it.live(
    "filter as WHERE does, rows going in and out; a table that the condition doesn't fit is set aside, at the start and after its columns have changed",
    () =>
      Effect.gen(function*() {
        const landscape = yield* Landscape.make()
        const { postgres } = landscape
        const tables = ["whole", "keyless"]
        yield* postgres.query(
          `${create("whole", " PRIMARY KEY")} ALTER TABLE whole REPLICA IDENTITY FULL;
         ${create("keyless", "")} ALTER TABLE keyless REPLICA IDENTITY FULL;
         ${create("lacking", " PRIMARY KEY")}
         CREATE TABLE strange (id int PRIMARY KEY, v text); INSERT INTO strange VALUES (1, 'x')`
        )
        const where = "active && score >= 10 && (email == null || !email.startsWith('p1'))"
        const file = landscape.write(configuration(landscape, transforms(["filter", { where }])))
        const mirror = yield* landscape.mirror
        const same = (table: string) =>
          agree(
            Effect.map(
              postgres.query(
                `SELECT json_build_array(id::text, name, email, md5(body)) AS row FROM ${table} WHERE active AND score >= 10 AND (email IS NULL OR NOT starts_with(email, 'p1'))`
              ),
              (rows): Rows => rows.map(({ row }) => row as ReadonlyArray<string | null>) // all are text
            ),
            mirror.session.query(
              `SELECT TO_VARCHAR(ID), NAME, EMAIL, MD5(BODY) FROM ${mirror.database}.${Landscape.schema}.${table.toUpperCase()}`
            ) as Effect.Effect<Rows, unknown>,
            table
          )
        const first = yield* landscape.run(file)
        for (const table of [...tables, "lacking"]) yield* same(table)
        assert.match(first.output(), /strange is in quarantine[^]*there is no column active/)
        for (let round = 0; round < 3; round++) {
          for (const [index, table] of tables.entries()) {
            yield* postgres.query(statements(table, 100 * round + index, 50))
          }
          for (const table of tables) yield* same(table)
        }
        // It may begin to match, and its large value isn't sent.
        yield* postgres.query("UPDATE lacking SET active = true, score = 50 WHERE id = 3")
        yield* Effect.sync(() => first.output()).pipe(
          Effect.repeat({
            schedule: Schedule.spaced("200 millis"),
            until: (output) => /lacking is in quarantine/.test(output)
          }),
          Effect.timeout("30 seconds")
        )
        assert.match(first.output(), /REPLICA IDENTITY FULL/)
        yield* postgres.query(
          "ALTER TABLE whole RENAME COLUMN active TO enabled; UPDATE whole SET name = 'after' WHERE id = 1"
        )
        yield* Effect.sync(() => first.output()).pipe(
          Effect.repeat({
            schedule: Schedule.spaced("200 millis"),
            until: (output) => /whole is in quarantine/.test(output)
          }),
          Effect.timeout("30 seconds")
        )
        yield* first.kill("SIGTERM", 40_000)
        // What is set aside stays so; the others go on.
        const second = yield* landscape.run(file)
        yield* postgres.query(statements("keyless", 900, 30))
        yield* same("keyless")
        assert.strictEqual((yield* second.kill("SIGTERM", 40_000)).code, 0, second.output())
      }),
    240_000
  )
})
