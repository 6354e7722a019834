/**
 * What `@etl-stream/testkit` has to know to try the transform against its contract. `npm test` and `etl-stream plugin test` run it.
 *
 * It is in the published package, so that whoever installs the plugin can try it in their own surroundings; the testkit is theirs to install.
 */
import * as Column from "@etl-stream/core/Column"
import * as RowTable from "@etl-stream/core/RowTable"
import * as TransformConformance from "@etl-stream/testkit/TransformConformance"
import { plugin } from "./index.ts"

const users = RowTable.make({
  name: "shop.users",
  columns: { id: Column.int32(), email: Column.text().nullable },
  key: ["id"]
}).schema

export const conformance = TransformConformance.make({
  plugin,
  options: [{ column: "email" }, { column: "email", into: "email" }],
  tables: [users],
  examples: [{
    title: "addresses and what only looks like one",
    options: { column: "email" },
    table: users,
    given: [
      { values: { id: 1, email: "Ada@Example.com" } },
      { values: { id: 2, email: "nobody" } },
      { values: { id: 3, email: null } }
    ],
    becomes: [
      { values: { id: 1, email: "Ada@Example.com", email_domain: "example.com" } },
      { values: { id: 2, email: "nobody", email_domain: null } },
      { values: { id: 3, email: null, email_domain: null } }
    ]
  }],
  refused: [
    { what: "no column", options: {}, path: "column" },
    { what: "a column without a name", options: { column: "" }, path: "column" }
  ]
})
