/**
 * The built-in transforms by the contract of all transforms.
 */
import * as Conformance from "@etl-stream/testkit/Conformance"
import * as TransformConformance from "@etl-stream/testkit/TransformConformance"
import { describe, it } from "vitest"
import { plugins } from "../src/index.ts"
import * as Fixture from "./Fixture.ts"

const people = Fixture.table({
  id: "int64",
  name: "text",
  email: "text",
  amount: "decimal(12,2)",
  born: "date",
  seen: "timestamptz",
  flag: "boolean",
  count: "int32",
  doc: "json"
})
const unkeyed = { ...people, table: { schema: "public", name: "unkeyed" }, identity: { _tag: "Full" as const } }
const onlyInserted = { ...people, table: { schema: "public", name: "log" }, identity: { _tag: "None" as const } }
const tables = [people, unkeyed, onlyInserted]

const values = {
  doc: [`{"a": 1, "b": {"c": "x"}}`, `[]`, `{"a": null}`, `"text"`],
  amount: ["1.50", "0.00", "-12345.67"],
  email: ["a@example.com", "nobody", "b@example.org"]
}

const common = { tables, values, seeds: 4 }

const refused = [
  { what: "an option that there isn't", options: { columms: ["name"] }, path: "columms" }
]

const suites = [
  TransformConformance.make({
    plugin: plugins.select,
    ...common,

    options: [{ include: ["id", "n*"] }, { exclude: ["email", "doc"] }, { include: ["*"], exclude: ["born"] }],
    refused: [{ what: "nothing", options: {}, path: "" }],
    examples: [{
      title: "a column that isn't sent stays so",
      options: { exclude: ["email"] },
      table: Fixture.table({ id: "int64", email: "text", body: "text" }),
      given: [{ op: "Update", values: { id: 1n, email: "a" } }],
      becomes: [{ op: "Update", values: { id: 1n } }]
    }]
  }),
  TransformConformance.make({
    plugin: plugins.rename,
    ...common,

    options: [{ columns: { name: "full_name" } }, { patterns: [{ columns: "*e*", to: "{1}_{2}" }] }, { case: "upper" }],
    refused
  }),
  TransformConformance.make({
    plugin: plugins.cast,
    ...common,

    options: [
      { columns: { amount: "float64", count: "int64", seen: "text", flag: "text" } },
      { columns: { name: "int32", seen: "date" }, onMisfit: "null" }
    ],
    refused: [...refused, { what: "no type", options: { columns: { name: "varchar" } }, path: "columns.name" }]
  }),
  TransformConformance.make({
    plugin: plugins.add,
    ...common,

    options: [
      { columns: { region: { value: "eu" } } },
      { columns: { twice: { expression: "amount * 2" } } },
      { columns: { name: { expression: "name.lowerAscii()" } }, replace: true }
    ],
    refused: [
      {
        what: "both a value and an expression",
        options: { columns: { a: { value: 1, expression: "1" } } },
        path: "columns.a"
      },
      {
        what: "an expression that is none",
        options: { columns: { a: { expression: "1 +" } } },
        path: "columns.a.expression"
      }
    ]
  }),
  TransformConformance.make({
    plugin: plugins.filter,
    ...common,
    // Of tables with a key some change of key lacks values in each large batch, which is refused.
    tables: [onlyInserted, people, unkeyed],

    options: [{ where: "id % 2 == 0" }],
    refused: [{ what: "a condition that is none", options: { where: "a ==" }, path: "where" }]
  }),
  TransformConformance.make({
    plugin: plugins.mask,
    ...common,

    options: [{ columns: ["email"], mode: "email" }, { columns: ["name", "count"], mode: "keepLast" }, {
      columns: ["amount", "flag"],
      mode: "null"
    }],
    refused: [{ what: "no columns", options: { columns: [] }, path: "columns" }]
  }),
  TransformConformance.make({
    plugin: plugins.hash,
    ...common,

    options: [{ columns: ["id", "email", "born"], key: Fixture.key }, {
      columns: ["name"],
      key: Fixture.key,
      encoding: "base64"
    }],
    refused: [{ what: "a short key", options: { columns: ["name"], key: "short" }, path: "key" }]
  }),
  TransformConformance.make({
    plugin: plugins.tokenise,
    ...common,

    options: [
      { columns: ["id", "name"], key: Fixture.key },
      { columns: ["email"], format: "uuid", key: Fixture.key }
    ],
    refused: [{ what: "no key", options: { columns: ["name"] }, path: "key" }]
  }),
  TransformConformance.make({
    plugin: plugins.truncate,
    ...common,

    options: [{ columns: ["name", "email"], length: 2 }, { columns: ["seen"], unit: "hour" }, {
      columns: ["seen", "born"],
      unit: "month"
    }],
    refused: [{ what: "neither length nor unit", options: { columns: ["name"] }, path: "" }]
  }),
  TransformConformance.make({
    plugin: plugins.route,
    ...common,

    options: [{ rules: [{ tables: "*.*", schema: "shop", name: "{schema}_{name}" }] }, {
      rules: [{ tables: "public.*", nameExpression: "name + '_' + schema" }]
    }],
    refused: [{ what: "a rule without a new name", options: { rules: [{ tables: "a.b" }] }, path: "rules.0" }]
  }),
  TransformConformance.make({
    plugin: plugins.flatten,
    ...common,

    options: [
      { column: "doc", columns: { a: { type: "int32" }, c: { path: ["b", "c"], type: "text" } } },
      { column: "doc", keep: true, prefix: "doc_", columns: { a: { type: "json" } }, onMisfit: "null" }
    ],
    refused: [{
      what: "a column without a type",
      options: { column: "doc", columns: { a: {} } },
      path: "columns.a.type"
    }]
  }),
  TransformConformance.make({
    plugin: plugins.deduplicate,
    ...common,

    options: [{}, { ignore: ["e*"] }],
    refused,
    acrossRows: "it leaves out updates that repeat the row before"
  }),
  TransformConformance.make({
    plugin: plugins.enrich,
    ...common,
    tables: [people, onlyInserted],
    options: [{
      column: "email",
      key: "email",
      table: [{ email: "a@example.com", rank: 1 }, { email: "nobody", rank: null }],
      columns: { rank: { type: "int16" } }
    }],
    refused: [{ what: "neither a file nor a table", options: { column: "a", key: "b", columns: {} }, path: "" }]
  })
]

// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register(suites, { describe, it: (name, run) => it(`${name}`, run, 120_000), skip: it.skip })
