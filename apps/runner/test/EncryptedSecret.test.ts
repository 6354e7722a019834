import { assert, describe, it } from "@effect/vitest"
import * as EncryptedSecret from "@etl-stream/runner/EncryptedSecret"
import { formatPath, parsePath } from "@etl-stream/runner/Problem"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import { randomBytes } from "node:crypto"

const keyText = () => randomBytes(32).toString("base64")

const keysOf = (current: string, previous?: string): EncryptedSecret.Keys =>
  Result.getOrThrow(
    EncryptedSecret.keysFrom({
      [EncryptedSecret.keyVariable]: current,
      ...(previous === undefined ? {} : { [EncryptedSecret.previousKeyVariable]: previous })
    })
  )

const bodyOf = (reference: string): string => {
  const match = /^\$\{enc:([^{}]*)\}$/.exec(reference)
  if (match?.[1] === undefined) throw new Error(`${reference} is no reference`)
  return match[1]
}

const place = ["sources", "shop", "options", "password"]

const open = (body: string, at: ReadonlyArray<string | number>, keys: EncryptedSecret.Keys) =>
  Result.map(EncryptedSecret.decrypt(body, at, keys), Redacted.value)

const refusal = (result: Result.Result<unknown, EncryptedSecret.SecretProblem>): string => {
  if (Result.isSuccess(result)) throw new Error("It opened")
  return result.failure.message
}

const pathOf = fc.array(fc.oneof(fc.string({ minLength: 1 }), fc.nat(1000)), { minLength: 1, maxLength: 6 })

describe("an encrypted secret", () => {
  const keys = keysOf(keyText())

  it("opens for the place that it was encrypted for, whatever it is", () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), pathOf, (secret, path) => {
      const body = bodyOf(EncryptedSecret.encrypt(Redacted.make(secret), path, keys))
      assert.deepStrictEqual(open(body, path, keys), Result.succeed(secret))
    }))
  })

  it("opens nowhere else", () => {
    fc.assert(fc.property(fc.string(), pathOf, pathOf, (secret, path, other) => {
      fc.pre(JSON.stringify(path) !== JSON.stringify(other))
      const body = bodyOf(EncryptedSecret.encrypt(Redacted.make(secret), path, keys))
      assert.include(refusal(open(body, other, keys)), "does not open here")
    }))
    const body = bodyOf(EncryptedSecret.encrypt(Redacted.make("hunter2222"), place, keys))
    for (
      const other of [
        ["sinks", "shop", "options", "password"],
        ["sources", "shop2", "options", "password"],
        ["sources", "shop", "options", "user"],
        ["sources", "shop", "options"],
        ["sources", "shop.options", "password"],
        ["sources", "shop", "options", "password", 0]
      ]
    ) assert.include(refusal(open(body, other, keys)), "does not open here")
  })

  it("doesn't open when any bit of it is altered, cut off or added", () => {
    const body = bodyOf(EncryptedSecret.encrypt(Redacted.make("hunter2222"), place, keys))
    const [version = "", id = "", sealed = ""] = body.split(":")
    const bytes = Buffer.from(sealed, "base64url")
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const altered = Buffer.from(bytes)
      altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      assert.isTrue(
        Result.isFailure(open(`${version}:${id}:${altered.toString("base64url")}`, place, keys)),
        `bit ${bit}`
      )
    }
    for (let length = 0; length < bytes.length; length++) {
      const cut = bytes.subarray(0, length).toString("base64url")
      assert.isTrue(Result.isFailure(open(`${version}:${id}:${cut}`, place, keys)))
    }
    assert.isTrue(Result.isFailure(open(`${body}A`, place, keys)))
    assert.isTrue(Result.isFailure(open(`${body}=`, place, keys)))
    // Bits of the last letter that stand for no byte.
    const spelled = `${body.slice(0, -1)}${String.fromCharCode(body.charCodeAt(body.length - 1) + 1)}`
    assert.isTrue(Result.isFailure(open(spelled, place, keys)))
  })

  it("refuses what is none without a crash", () => {
    const hostile = fc.oneof(
      fc.string(),
      fc.tuple(
        fc.constantFrom("v1", "v2", "V1", ""),
        fc.constantFrom(keys.current.id, "00000000", "zz"),
        fc.base64String()
      )
        .map((parts) => parts.join(":"))
    )
    fc.assert(fc.property(hostile, (body) => assert.isTrue(Result.isFailure(open(body, place, keys)))))
  })

  it("is different each time, and shows neither the secret nor the key", () => {
    const [text, key] = ["hunter2222", keyText()]
    const mine = keysOf(key)
    const references = Array.from({ length: 100 }, () => EncryptedSecret.encrypt(Redacted.make(text), place, mine))
    assert.strictEqual(new Set(references).size, 100)
    const shown = JSON.stringify([mine, references, String(mine.current.bytes)])
    assert.notInclude(shown, text)
    assert.notInclude(shown, key)
    assert.notInclude(shown, Buffer.from(key, "base64").toString("hex"))
  })

  it("opens with the previous key during a rotation, and is encrypted with the current one", () => {
    const [old, current] = [keyText(), keyText()]
    const before = bodyOf(EncryptedSecret.encrypt(Redacted.make("hunter2222"), place, keysOf(old)))
    const both = keysOf(current, old)
    assert.deepStrictEqual(open(before, place, both), Result.succeed("hunter2222"))
    const after = bodyOf(EncryptedSecret.encrypt(Redacted.make("hunter2222"), place, both))
    assert.deepStrictEqual(open(after, place, keysOf(current)), Result.succeed("hunter2222"))
    assert.include(
      refusal(open(before, place, keysOf(current))),
      `the key ${keysOf(old).current.id}, which is not among`
    )
    assert.isTrue(Result.isFailure(open(after, place, keysOf(old))))
  })

  it("doesn't open when it names another key than it was encrypted with", () => {
    const [first, second] = [keyText(), keyText()]
    const both = keysOf(first, second)
    const body = bodyOf(EncryptedSecret.encrypt(Redacted.make("hunter2222"), place, both))
    const renamed = body.replace(both.current.id, both.previous?.id ?? "")
    assert.notStrictEqual(renamed, body)
    assert.include(refusal(open(renamed, place, both)), "does not open here")
  })
})

describe("a key", () => {
  const problem = (text: string | undefined, previous?: string) =>
    refusal(EncryptedSecret.keysFrom({
      [EncryptedSecret.keyVariable]: text,
      [EncryptedSecret.previousKeyVariable]: previous
    }))

  it("is 32 bytes as base64, and nothing else", () => {
    assert.include(problem(undefined), "ETL_STREAM_CONFIG_KEY is not set")
    assert.include(problem("  "), "is not set")
    for (
      const text of ["secret", randomBytes(31).toString("base64"), randomBytes(33).toString("base64"), "%".repeat(44)]
    ) {
      assert.include(problem(text), "expected 32 bytes as base64")
      assert.notInclude(problem(text), text)
      assert.include(problem(keyText(), text), "ETL_STREAM_CONFIG_KEY_PREVIOUS is not a key")
    }
    const key = keyText()
    assert.strictEqual(keysOf(`${key}\n`).current.id, keysOf(key).current.id)
    assert.strictEqual(keysOf(key.replaceAll("+", "-").replaceAll("/", "_")).current.id, keysOf(key).current.id)
  })
})

describe("a path", () => {
  it("is read as it is written", () => {
    fc.assert(fc.property(pathOf, (path) => {
      const normal = path.map((part) => typeof part === "number" ? part : part)
      assert.deepStrictEqual(parsePath(formatPath(normal)), normal)
    }))
    for (const text of ["", ".", "a.", "a..b", "a[", "a[1", "a['x']", "a[\"x]", "[\"a\"]", "a b"]) {
      assert.isUndefined(parsePath(text), text)
    }
  })
})
