import { assert, describe, it } from "@effect/vitest"
import * as RowBatch from "@etl-stream/testkit/RowBatch"
import * as Effect from "effect/Effect"
import * as Dialect from "../src/cel/Dialect.ts"
import * as Expression from "../src/cel/Expression.ts"
import * as Problem from "../src/cel/Problem.ts"
import { filter } from "../src/Filter.ts"
import * as Fixture from "./Fixture.ts"

const orders = Fixture.table({
  id: "int64",
  name: "text",
  amount: "decimal(12,2)",
  at: "timestamptz",
  day: "date",
  ok: "boolean",
  ratio: "float64",
  small: "int16",
  raw: "binary",
  doc: "json",
  "Order No.": "text",
  type: "text",
  code: "uuid",
  took: "time"
})

const row: Record<string, RowBatch.Value> = {
  id: 7n,
  name: "Ünal & Söhne 🙂",
  amount: "1234567890.10",
  at: 1_772_280_300_000_001n, // 2026-02-28T12:05:00.000001Z
  day: 20_512, // 2026-02-28
  ok: true,
  ratio: 0.5,
  small: -3,
  raw: new Uint8Array([1, 2, 255]),
  doc: `{"a": {"b": [1, 2]}, "big": 1}`,
  "Order No.": "A-1",
  type: "x",
  code: "00000000-0000-4000-8000-000000000001",
  took: 3_600_000_000n
}

const compile = (text: string, table = orders) => {
  const parsed = Dialect.parse(text)
  return Dialect.isProblem(parsed) ? parsed : Expression.compile(parsed, table)
}

/** What an expression comes to for `row` with other values; those given as undefined aren't sent. */
const evaluate = (text: string, changed: Readonly<Record<string, RowBatch.Value | undefined>> = {}): unknown => {
  const compiled = compile(text)
  if (Dialect.isProblem(compiled)) throw new Error(Problem.describe(text, compiled))
  const values = Object.fromEntries(
    Object.entries({ ...row, ...changed }).flatMap(([name, value]) => value === undefined ? [] : [[name, value]])
  )
  return compiled.over(RowBatch.make(orders, [{ op: "Update", values }]))(0)
}

const problem = (text: string): string => {
  const compiled = compile(text)
  if (!Dialect.isProblem(compiled)) throw new Error(`${text} is an expression of the type ${compiled.type}`)
  return `${Problem.describe(text, compiled)}. ${compiled.hint}`
}

describe("expressions", () => {
  it("read the columns of all types", () => {
    const holds = [
      "id == 7",
      "name.startsWith('Ünal')",
      "size(name) == 14",
      "amount == decimal('1234567890.1')",
      "amount > 1234567890",
      "amount + 1 == decimal('1234567891.10')",
      "amount * 2 == decimal('2469135780.2')",
      "1 - amount < 0",
      "string(amount) == '1234567890.10'",
      "at == timestamp('2026-02-28T12:05:00.000001Z')",
      "at > timestamp('2026-02-28T13:05:00+01:00')",
      "at - duration('1s') < at",
      "at - timestamp('2026-02-28T12:05:00Z') < duration('1ms')",
      "day == timestamp('2026-02-28T00:00:00Z')",
      "at.getFullYear() == 2026 && at.getMonth() == 1 && at.getDate() == 28 && at.getDayOfWeek() == 6 && at.getDayOfYear() == 58",
      "at.getHours() == 12 && at.getMinutes() == 5 && at.getSeconds() == 0 && at.getMilliseconds() == 0",
      "string(at) == '2026-02-28T12:05:00.000001Z'",
      "ok",
      "ratio < 1",
      "small == -3",
      "size(raw) == 3",
      "json(doc).a.b[1] == 2.0",
      "column(\"Order No.\") == 'A-1'",
      "type == 'x'",
      "code.contains('4000')",
      "took == duration('1h')",
      "id in [1, 7]",
      "['a', 'b'].exists(name, name == 'b')",
      "[1, 2].map(x, x * id) == [7, 14]",
      "cel.bind(id, id + 1, id == 8)",
      "name.matches('^Ü.*e 🙂$')",
      "(name).matches(r'S\\w+')  || (name).matches('hne')",
      "(id == 7 ? 'a' : 'b') == 'a'"
    ]
    assert.deepStrictEqual(holds.filter((text) => evaluate(text) !== true), [])
  })

  it("come to NULL by what meets a NULL, and decide without it where they can", () => {
    const cases: ReadonlyArray<readonly [string, unknown]> = [
      ["name == null", true],
      ["name != null", false],
      ["null == (name)", true],
      ["id != null", true],
      ["name == 'a'", Expression.Null],
      ["!(name == 'a')", Expression.Null],
      ["name == 'a' || id == 7", true],
      ["id == 7 || name == 'a'", true],
      ["name == 'a' && id == 8", false],
      ["id == 8 && name == 'a'", false],
      ["name == 'a' && id == 7", Expression.Null],
      ["name == null ? 'none' : name", "none"],
      ["size(name)", Expression.Null]
    ]
    for (const [text, expected] of cases) assert.strictEqual(evaluate(text, { name: null }), expected, text)
  })

  it("don't tell by what meets a value that was not sent, unless they can decide without it", () => {
    const cases: ReadonlyArray<readonly [string, unknown]> = [
      ["name == 'a'", Expression.Unsent],
      ["name == null", Expression.Unsent],
      ["name == 'a' || id == 7", true],
      ["name == 'a' && id == 8", false],
      ["name == 'a' && id == 7", Expression.Unsent],
      // NULL or true: it depends on what wasn't sent.
      ["ratio > 1.0 || name == 'a'", Expression.Unsent],
      ["1 / (id - 7) > 0 || name == 'a'", Expression.Unsent]
    ]
    for (const [text, expected] of cases) {
      assert.strictEqual(evaluate(text, { name: undefined, ratio: null }), expected, text)
    }
  })

  it("have no value by what can't be computed", () => {
    for (const text of ["1 / (id - 7)", "9223372036854775807 + id", "int(name)", "json(name)", "raw.at(9)", "timestamp(name)"]) {
      assert.strictEqual(evaluate(text), Expression.Failed, text)
    }
  })

  it("say where they are wrong, and what was meant", () => {
    assert.include(problem("amount > > 3"), "at character 10")
    assert.include(problem("id == 1 && emial == ''"), "at character 12: there is no column emial")
    assert.include(problem("nmae == ''"), "Did you mean name?")
    assert.include(problem("column('Order no.') == ''"), "Did you mean Order No.?")
    assert.include(problem("name + id"), "no such overload: string + int")
    assert.include(problem("id == 1 &&\n name > 3"), "line 2, character 2")
    assert.include(problem("foo(id)"), "foo(int)")
    assert.include(problem("timestamp(ok)"), "timestamp(bool)")
    assert.include(problem("at > '2026'"), "timestamp > string")
    assert.include(problem("value__0 == 1"), "there is no column value__0")
    assert.include(problem("name.matches(type)"), "must be written out")
    assert.include(problem("name.matches('(a')"), "no regular expression of RE2")
    assert.include(problem("name.matches('(a)\\\\1')"), "no regular expression of RE2")
  })

  it("are refused when they are hostile: too deep, too long, loops within loops, huge lists", () => {
    assert.include(problem("(".repeat(5000) + "1" + ")".repeat(5000)), "The expression")
    assert.include(problem("!".repeat(9000) + "ok"), "The expression")
    assert.include(problem(`id == ${"1 + ".repeat(4000)}1`), "longer than 10000 characters")
    assert.include(problem(`id in [${"1,".repeat(1500)}1]`), "The expression")
    assert.include(problem("[1].map(a, [1].map(b, [1].map(c, 1)))"), "more than 2 deep")
    assert.include(problem("cel.bind(a, 'x', cel.bind(b, a + a, cel.bind(c, b + b, c)))"), "more than 2 deep")
    assert.include(problem("constructor"), "there is no column constructor")
    assert.include(problem("__proto__ == 1"), "The expression")
  })

  it("match patterns in linear time", () => {
    const started = performance.now()
    const text = "a".repeat(100_000)
    assert.strictEqual(evaluate("name.matches('^(a+)+$') || name.matches('(a|aa)+b')", { name: `${text}!` }), false)
    assert.isBelow(performance.now() - started, 20_000) // JavaScript's own wouldn't be done before the sun is out
  })

  it.effect("are checked for their syntax when options are decoded, without a connection", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Fixture.decode(filter, { where: "status == == 'a'" }))
      assert.include(String(error), "at character 11")
      assert.include(String(error), "where")
      yield* Fixture.decode(filter, { where: "no_column_is_known_yet == 'a'" })
    }))
})
