import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { join } from "node:path"
import { envelope, errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

const configuration = (transforms: string) =>
  `apiVersion: 1
pipelines:
  shop:
    source: {plugin: ./plugins.ts:counter, options: {password: "\${env:NOT_SET}"}}
    transforms: [${transforms}]
    sink: {plugin: ./plugins.ts:lines, options: {file: ./out.jsonl}}
`

const stars = "{plugin: ./transforms.ts:stars, options: {by: \"${env:HIDDEN_BY}\"}}"

const given = `
      table: public.users
      columns: {id: int64 not null, email: text, note: text, at: timestamptz, amount: "decimal(12,2)"}
      key: [id]`

const prepared = (directory: string, tests: string, transforms = stars) => {
  Fs.copyFileSync(join(import.meta.dirname, "FakeTransforms.ts"), join(directory, "transforms.ts"))
  const file = Fixture.write(directory, "shop.yaml", configuration(transforms))
  Fixture.write(directory, "shop.test.yaml", `apiVersion: 1\nenvironment: {HIDDEN_BY: "***"}\ntests:${tests}`)
  return file
}

describe("etl-stream test", () => {
  scenario(
    "passes when everything comes out as expected, whatever the source and sink need",
    (directory) =>
      Effect.gen(function*() {
        const file = prepared(
          directory,
          `
  - name: e-mail addresses are hidden, and nothing else
    given:${given}
      changes:
        - read: {id: 1, email: ann@example.com, at: "2024-01-31T12:00:00+01:00", amount: 1.50}
        - insert: {id: "2", email: null, note: new}
        - update: {id: 2, email: bo@example.com}
          unsent: [note]
        - keyChangeOld: {id: 2}
        - keyChangeNew: {id: 3, email: bo@example.com}
          unsent: [note, at, amount]
        - delete: {id: 1}
    expect:
      table: public.users
      columns: {id: int64, email: text, note: text, at: timestamptz, amount: "decimal(12, 2)"}
      key: [id]
      changes:
        - read: {id: 1, email: "***", at: "2024-01-31T11:00:00Z", amount: "1.5"}
        - insert: {id: 2, email: null, note: new}
        - update: {id: 2, email: "***"}
          unsent: [note]
        - keyChangeOld: {id: 2}
        - keyChangeNew: {id: 3, email: "***"}
          unsent: [note, at, amount]
        - delete: {id: 1}
  - name: a table of secrets is left out
    given: {table: public.secret, columns: {id: int32}, changes: []}
    expect: {leftOut: true}
  - name: a table without addresses is refused
    given: {table: public.orders, columns: {id: int32}, changes: [{insert: {id: 1}}]}
    expect: {error: email}
`
        )
        const text = yield* Fixture.run(["test", file])
        assert.deepStrictEqual([text.code, text.stderr], [0, ""], text.stdout)
        assert.include(text.stdout, "ok     shop: e-mail addresses are hidden, and nothing else\n")
        assert.include(text.stdout, "3 passed, 0 failed")
        const json = envelope(
          yield* Fixture.run(["test", join(directory, "shop.test.yaml"), "--json", "--only", "left out"])
        )
        assert.deepInclude(json, { ok: true, command: "test" })
        assert.lengthOf(json["tests"] as ReadonlyArray<unknown>, 1) // part of the envelope
      })
  )

  scenario("shows each difference as expected and found, and exits with 1", (directory) =>
    Effect.gen(function*() {
      const test = (name: string, expected: string) => `
  - name: ${name}
    given:${given}
      changes: [{insert: {id: 1, email: ann@example.com}}, {delete: {id: 1}}]
    expect: ${expected}`
      const file = prepared(
        directory,
        [
          test("another value", `{changes: [{insert: {id: 1, email: "**"}}, {delete: {id: 1}}]}`),
          test("another operation", `{changes: [{update: {id: 1, email: "***"}}, {delete: {id: 1}}]}`),
          test("sent, not unsent", `{changes: [{insert: {id: 1, email: "***"}, unsent: [note]}, {delete: {id: 1}}]}`),
          test("one change too few", `{changes: [{insert: {id: 1, email: "***"}}]}`),
          test("another name", "{table: raw.users}"),
          test(
            "columns in another order",
            "{columns: {email: text, id: int64, note: text, at: timestamptz, amount: \"decimal(12,2)\"}}"
          ),
          test("another key", "{key: []}"),
          test("not left out", "{leftOut: true}"),
          test("no error", "{error: something}")
        ].join("")
      )
      const ended = yield* Fixture.run(["test", file])
      assert.strictEqual(ended.code, 1, ended.stdout)
      assert.include(ended.stdout, "0 passed, 9 failed")
      assert.include(
        ended.stdout,
        `         change 1
           expected insert {"id":1,"email":"**","note":null,"at":null,"amount":null}
           found    insert {"id":1,"email":"***","note":null,"at":null,"amount":null}`
      )
      assert.include(ended.stdout, "expected nothing\n           found    delete")
    }))

  scenario("says where a test is written wrongly, and exits with 2", (directory) =>
    Effect.gen(function*() {
      for (
        const [tests, path, message] of [
          [
            ` [{name: x, given: {table: users, columns: {}, changes: []}, expect: {}}]`,
            "tests[0].given.table",
            "a table"
          ],
          [
            ` [{name: x, given: {table: a.b, columns: {id: int}, changes: []}, expect: {leftOut: true}}]`,
            "tests[0].given.columns.id",
            "int32"
          ],
          [
            ` [{name: x, given: {table: a.b, columns: {email: text}, changes: [{insert: {emial: x}}]}, expect: {table: raw.b}}]`,
            "tests[0].given.changes[0].insert.emial",
            "Did you mean `email`?"
          ],
          [
            ` [{name: x, given: {table: a.b, columns: {email: text, id: int32}, changes: [{insert: {id: secret-value}}]}, expect: {table: raw.b}}]`,
            "tests[0].given.changes[0].insert.id",
            "none of the type int32"
          ],
          [
            ` [{name: x, pipeline: sohp, given: {table: a.b, columns: {}, changes: []}, expect: {leftOut: true}}]`,
            "",
            "no pipeline sohp"
          ]
        ] as const
      ) {
        const file = prepared(directory, tests)
        const text = yield* Fixture.run(["test", file])
        assert.strictEqual(text.code, 2, text.stdout)
        assert.include(text.stderr, path)
        assert.include(text.stderr, message)
        assert.notInclude(text.stderr, "secret-value")
      }
      const missing = errorOf(yield* Fixture.run(["test", join(directory, "other.yaml"), "--json"]))
      assert.include(String(missing["message"]), "There are no tests in")
    }))

  scenario("fails a transform that doesn't keep to the schema that it declares", (directory) =>
    Effect.gen(function*() {
      const file = prepared(
        directory,
        ` [{name: renamed, given: {table: a.b, columns: {id: int32}, changes: [{insert: {id: 1}}]}, expect: {table: other.b}}]`,
        "{plugin: ./transforms.ts:liar}"
      )
      const ended = yield* Fixture.run(["test", file])
      assert.strictEqual(ended.code, 1, ended.stderr)
      assert.include(ended.stdout, "doesn't keep to its schema")
    }))

  scenario("names a variable of the transforms' options that nothing gives", (directory) =>
    Effect.gen(function*() {
      const file = prepared(
        directory,
        ` [{name: x, given: {table: a.b, columns: {}, changes: []}, expect: {leftOut: true}}]`
      )
      Fixture.write(directory, "shop.yaml", configuration(stars.replace("HIDDEN_BY", "HIDDEN_BYE")))
      const ended = yield* Fixture.run(["test", file])
      assert.strictEqual(ended.code, 2, ended.stdout)
      assert.include(ended.stderr, "HIDDEN_BYE is not set")
    }))
})
