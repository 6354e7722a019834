import { assert, describe, it } from "@effect/vitest"
import * as Logging from "@etl-stream/runner/Logging"
import { formatPath, isWithin } from "@etl-stream/runner/Problem"
import * as Redaction from "@etl-stream/runner/Redaction"
import { closest, enumerate } from "@etl-stream/runner/Suggestion"
import * as Redacted from "effect/Redacted"

describe("suggestions", () => {
  it("are close names only", () => {
    assert.strictEqual(closest("tabels", ["tables", "slot"]), "tables")
    assert.strictEqual(closest("private_key_file", ["privateKeyFile", "role"]), "privateKeyFile")
    assert.strictEqual(closest("zzz", ["tables", "slot"]), undefined)
    assert.strictEqual(closest("x".repeat(10_000), ["x".repeat(9_999)]), undefined)
    assert.strictEqual(closest("a", []), undefined)
  })

  it("are enumerated like in a sentence", () => {
    assert.deepStrictEqual([enumerate([], "or"), enumerate(["a"], "or"), enumerate(["a", "b", "c"], "or")], [
      "",
      "a",
      "a, b or c"
    ])
  })
})

describe("paths", () => {
  it("are written as in code", () => {
    assert.strictEqual(
      formatPath(["pipelines", "my shop", "transforms", 0, "plugin"]),
      "pipelines[\"my shop\"].transforms[0].plugin"
    )
    assert.strictEqual(formatPath([]), "")
    assert.isTrue(isWithin(["a", 0, "b"], ["a", "0"]))
    assert.isFalse(isWithin(["a"], ["a", "b"]))
  })
})

describe("redaction", () => {
  it("hides secrets at any depth, passwords of URLs, and their encoded forms", () => {
    const secrets = Redaction.secretsOf({
      url: Redacted.make("postgresql://user:p%40ss%2Fword@host/db"),
      inner: [{
        key: Redacted.make("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END PRIVATE KEY-----")
      }],
      plain: "https://me:in-the-open@proxy",
      short: Redacted.make("abc"),
      name: "public"
    })
    const redact = Redaction.make(secrets)
    assert.strictEqual(redact("p@ss/word p%40ss%2Fword in-the-open"), "<redacted> <redacted> <redacted>")
    assert.strictEqual(redact("key MIIEvQIBADANBgkqhkiG9w0"), "key <redacted>")
    assert.strictEqual(redact("public abc host"), "public abc host")
    assert.strictEqual(
      Redaction.make(new Set(["a\"b\\c d"]))(JSON.stringify({ m: "a\"b\\c d" })),
      "{\"m\":\"<redacted>\"}"
    )
    assert.strictEqual(Redaction.make(new Set(["secret", "secret-longer"]))("secret-longer"), "<redacted>")
  })

  it("survives options that refer to themselves", () => {
    const options: Record<string, unknown> = { secret: Redacted.make("tell-nobody") }
    options["self"] = options
    assert.deepStrictEqual([...Redaction.secretsOf(options)], ["tell-nobody"])
  })
})

describe("log lines", () => {
  const line: Logging.Line = {
    timestamp: "2026-01-02T03:04:05.678Z",
    level: "WARN",
    message: "it said \"no\"",
    annotations: { pipeline: "shop", rows: 5, position: 12n, text: "a b", list: [1, 2] },
    details: undefined
  }

  it("are JSON, logfmt or for people", () => {
    assert.deepStrictEqual(JSON.parse(Logging.render(line, "json", false)), {
      timestamp: "2026-01-02T03:04:05.678Z",
      level: "WARN",
      message: "it said \"no\"",
      pipeline: "shop",
      rows: 5,
      position: "12",
      text: "a b",
      list: [1, 2]
    })
    assert.strictEqual(
      Logging.render(line, "logfmt", false),
      "timestamp=2026-01-02T03:04:05.678Z level=WARN message=\"it said \\\"no\\\"\" pipeline=shop rows=5 position=12 text=\"a b\" list=[1,2]"
    )
    assert.strictEqual(
      Logging.render(line, "pretty", false),
      "03:04:05.678 WARN  it said \"no\" pipeline=shop rows=5 position=12 text=\"a b\" list=[1,2]"
    )
    assert.include(Logging.render(line, "pretty", true), "\x1b[33mWARN ")
  })

  it("stay one line in logfmt and JSON, whatever is in them", () => {
    const hostile = { ...line, message: "a\nlevel=ERROR b\r\x1b[2J", annotations: { "k=\n": "v\nw" }, details: "x\ny" }
    for (const format of ["logfmt", "json"] as const) {
      assert.notMatch(Logging.render(hostile, format, false), /[\n\r\x1b]/)
    }
  })
})
