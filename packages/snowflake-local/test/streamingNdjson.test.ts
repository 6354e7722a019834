import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { Encoded, Holds } from "../src/streaming/NdjsonRows.ts"
import { encode, layout, SpoolBuffer } from "../src/streaming/NdjsonRows.ts"

const column = (name: string, holds: Holds) => ({ name, holds, hasDefault: false })
const columns = layout([column("V", "varchar"), column("J", "semiStructured")])

const spool = new SpoolBuffer()

/** Encodes text and returns the outcome together with the spool lines. */
const spooled = (
  text: string | Uint8Array,
  table = columns
): { readonly encoded: Encoded; readonly lines: ReadonlyArray<Record<string, unknown>> } => {
  spool.reset()
  const encoded = encode(typeof text === "string" ? Buffer.from(text) : text, table, 0, spool)
  const lines = spool.bytes.toString("utf8", 0, spool.length).split("\n").filter((line) => line !== "")
  return { encoded, lines: lines.map((line) => JSON.parse(line)) }
}

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

describe("NdjsonRows", () => {
  it("accepts exactly what JSON.parse accepts on one line", () =>
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 4 }),
        fc.array(
          fc.record({
            at: fc.nat(),
            insert: fc.constantFrom(
              "",
              "\"",
              "\\",
              "{",
              "}",
              "[",
              "]",
              ",",
              ":",
              "0",
              "-",
              ".",
              "e",
              "u",
              " ",
              "\t",
              "\u0001",
              "n",
              "ä"
            )
          }),
          {
            maxLength: 3
          }
        ),
        (json, edits) => {
          let text = json
          for (const { at, insert } of edits) {
            const place = at % (text.length + 1)
            text = text.slice(0, place) + insert + text.slice(insert === "" ? place + 1 : place)
          }
          fc.pre(!text.includes("\n"))
          const { encoded } = spooled(`{"nothing":${text}}\n`)
          assert.strictEqual(encoded._tag === "Rows", isJson(`{"nothing":${text}}`), text)
        }
      ),
      { numRuns: 3000 }
    ))

  it("hands over the characters that the client sent, for text and for JSON", () =>
    fc.assert(
      fc.property(
        fc.array(fc.record({ text: fc.string({ unit: "binary" }), json: fc.json() }), { minLength: 1, maxLength: 5 }),
        (rows) => {
          const body = rows.map(({ json, text }) => `{"j":${json},"v":${JSON.stringify(text)}}\n`).join("")
          const { encoded, lines } = spooled(body)
          assert.strictEqual(encoded._tag, "Rows")
          assert.deepStrictEqual(
            lines,
            rows.map(({ json, text }, r) => ({ r, c0: text, ...(json === "null" ? {} : { c1: json }) }))
          )
        }
      ),
      { numRuns: 1000 }
    ))

  it("finds each key's column in whatever order, case and completeness the rows give them", () =>
    fc.assert(
      fc.property(
        fc.array(fc.shuffledSubarray(["ALPHA", "alpha", "BETA", "GAMMA"]), { minLength: 1, maxLength: 20 }),
        fc.infiniteStream(fc.boolean()),
        (rows, lower) => {
          const wide = layout(["ALPHA", "BETA", "GAMMA"].map((name) => column(name, "text")))
          const spelled = rows.map((keys) => keys.map((key) => lower.next().value === true ? key.toLowerCase() : key))
          const body = spelled.map((keys) => `{${keys.map((key, place) => `"${key}":"${key} ${place}"`).join(",")}}\n`)
            .join("")
          const { encoded, lines } = spooled(body, wide)
          const good = spelled.flatMap((keys, r) => {
            const upper = keys.map((key) => key.toUpperCase())
            if (new Set(upper).size < upper.length) return []
            const values = ["ALPHA", "BETA", "GAMMA"].flatMap((name, index) => {
              const place = upper.indexOf(name)
              return place < 0 ? [] : [[`c${index}`, `${keys[place]} ${place}`]]
            })
            return [{ r, ...Object.fromEntries(values) }]
          })
          assert.deepStrictEqual(lines, good)
          assert.strictEqual(encoded._tag === "Rows" ? encoded.rejected.length : -1, rows.length - good.length)
        }
      ),
      { numRuns: 500 }
    ))

  it("never throws and never reads beyond the body, whatever bytes come", () =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const body = Buffer.concat([Buffer.from("{\"v\":"), bytes, Buffer.from("}\n")])
        const { encoded } = spooled(body)
        if (encoded._tag === "Rows") assert.isAtLeast(encoded.rows, 1)
      }),
      { numRuns: 3000 }
    ))

  it("numbers the rows from the given one and lists the rejected ones with their place", () => {
    const out = new SpoolBuffer()
    const body = Buffer.from(`{"v":"a"}\n{"w":1}\n{"v":{}}\n7\n`)
    const encoded = encode(body, columns, 10, out)
    assert.deepStrictEqual(encoded, {
      _tag: "Rows",
      rows: 4,
      rejected: [
        { row: 11, message: "A key matches no column of the table", start: 10, end: 17 },
        { row: 13, message: "The row is not a JSON object", start: 27, end: 28 }
      ]
    })
    assert.strictEqual(out.bytes.toString("utf8", 0, out.length), `{"r":10,"c0":"a"}\n{"r":12,"c0":"{}"}\n`)
  })

  it("grows for a long row and gives the memory back", () => {
    const out = new SpoolBuffer()
    const text = "\"".repeat(20_000_000)
    const encoded = encode(Buffer.from(`{"j":${JSON.stringify(text)}}\n`), columns, 0, out)
    assert.strictEqual(encoded._tag, "Rows")
    assert.isAbove(out.bytes.length, 64 << 20)
    out.reset()
    assert.strictEqual(out.bytes.length, 1 << 20)
  })
})
