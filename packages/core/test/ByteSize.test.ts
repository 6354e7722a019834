import { assert, describe, it } from "@effect/vitest"
import * as ByteSize from "@etl-stream/core/ByteSize"
import * as Option from "effect/Option"

describe("sizes", () => {
  it("are read with binary and decimal units, in any case", () => {
    for (
      const [text, bytes] of [
        ["1", 1],
        ["16MiB", 16 * 1024 ** 2],
        ["16 mib", 16 * 1024 ** 2],
        ["1.5GiB", 1.5 * 1024 ** 3],
        ["64MB", 64e6],
        ["2 kB", 2000],
        ["10B", 10]
      ] as const
    ) assert.deepStrictEqual(ByteSize.parse(text), Option.some(bytes), text)
    for (
      const text of [
        "",
        "0",
        "0MiB",
        "-1",
        "12XB",
        "MiB",
        "1e3",
        "1 2",
        "99999999999TiB",
        "NaN",
        "16 M iB",
        "constructor"
      ]
    ) {
      assert.deepStrictEqual(ByteSize.parse(text), Option.none(), text)
    }
  })

  it("are written in the largest fitting unit", () => {
    assert.deepStrictEqual([0, 1023, 1024, 1536, 200 * 1024 ** 2, 1024 ** 3].map(ByteSize.format), [
      "0 B",
      "1023 B",
      "1 KiB",
      "1.5 KiB",
      "200 MiB",
      "1 GiB"
    ])
  })
})
