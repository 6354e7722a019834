import { assert, describe, it } from "@effect/vitest"
import * as Address from "@etl-stream/runner/database/Address"
import * as Connection from "@etl-stream/runner/database/Connection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"

const url = "postgresql://etl:s3cret-word@db.example:5432/etl"

const from = (option: string | undefined, environment: Record<string, string> = {}) =>
  Effect.map(Address.urlFrom(option, environment), (found) => found === undefined ? undefined : Redacted.value(found))

describe("the configuration database's URL", () => {
  it.effect("comes from the option, by way of a reference if it is one, or else from the environment", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* from(url, { ETL_STREAM_CONFIG_DB: "postgres://other" }), url)
      assert.strictEqual(yield* from("${env:URL}", { URL: `${url}\n` }), url)
      assert.strictEqual(yield* from("postgresql://etl:${env:P}@h/etl", { P: "p" }), "postgresql://etl:p@h/etl")
      assert.strictEqual(yield* from(undefined, { ETL_STREAM_CONFIG_DB: url }), url)
      assert.isUndefined(yield* from(undefined, { ETL_STREAM_CONFIG_DB: " " }))
      assert.isUndefined(yield* from(undefined))
    }))

  it.effect("is refused without being shown", () =>
    Effect.gen(function*() {
      for (
        const wrong of [
          "s3cret-word",
          "https://u:s3cret-word@h/",
          "postgresql://u:s3cret-word@h:port/",
          "${env:P}",
          "${file:s3cret-word/absent}"
        ]
      ) {
        const error = yield* Effect.flip(from(wrong, { P: "s3cret-word" }))
        assert.strictEqual(error.exitCode, 2)
        if (!wrong.startsWith("${file")) assert.notInclude(error.message + error.hint, "s3cret-word")
      }
      assert.include((yield* Effect.flip(Address.requireUrl(undefined, {}))).hint, "ETL_STREAM_CONFIG_DB")
    }))

  it("has the certificate of another machine checked unless it says otherwise", () => {
    for (
      const remote of [
        url,
        "postgres://10.0.0.1/etl",
        "postgres://localhost/etl?host=db.example",
        "postgres://[fe80::1]/etl"
      ]
    ) {
      assert.deepStrictEqual(Connection.tls(remote), { ssl: true }, remote)
    }
    for (
      const local of [
        `${url}?sslmode=disable`,
        `${url}?sslmode=verify-full`,
        "postgres://localhost/etl",
        "postgres://127.0.0.1:5433/etl",
        "postgres://[::1]/etl",
        "postgres:///etl?host=/var/run/postgresql",
        "postgres://%2Fvar%2Frun%2Fpostgresql/etl"
      ]
    ) assert.deepStrictEqual(Connection.tls(local), {}, local)
  })
})
