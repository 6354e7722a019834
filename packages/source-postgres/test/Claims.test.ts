import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Claims from "../src/Claims.ts"
import { Config } from "../src/Config.ts"

const decode = Schema.decodeUnknownSync(Config)
const of = (pipeline: string, options: Record<string, unknown>) =>
  Claims.of(decode(options), { pipeline, directory: "/" })

describe("Claims", () => {
  it("are the same for the same database, whoever logs in to it", () => {
    const [one] = of("shop", { url: "postgresql://a:secret@db:5432/shop?sslmode=require", tables: ["public.orders"] })
    const [two] = of("shop", { url: "postgresql://b:other@db:5432/shop", tables: ["public.items"] })
    assert.strictEqual(one, two)
    assert.notInclude(one, "secret")
    const [elsewhere] = of("shop", { url: "postgresql://a:secret@db:5432/stock" })
    assert.notStrictEqual(one, elsewhere)
  })

  it("name the slot and the tables, up to their first wildcard", () => {
    const claims = of("Shop-1", { host: "db", user: "a", tables: ["public.orders", "\"sales\".order_*", "s*.x*"] })
    assert.match(claims[0] ?? "", / slot shop_1_[0-9a-f]{8}$/)
    assert.deepStrictEqual(claims.slice(1).map((claim) => claim.replace(/^.* table /, "")), [
      "public.orders",
      "sales.order_*",
      "s*"
    ])
    assert.match(of("shop", { host: "db", user: "a", slot: { name: "mine" } })[0] ?? "", / slot mine$/)
  })
})
