import { assert, describe, it } from "@effect/vitest"
import * as Lsn from "@etl-stream/source-postgres/Lsn"
import * as PgOutputDecoder from "@etl-stream/source-postgres/PgOutputDecoder"
import * as PostgresType from "@etl-stream/source-postgres/PostgresType"
import * as ReplicationConnection from "@etl-stream/source-postgres/ReplicationConnection"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import { type Pgoutput, PgoutputPlugin } from "pg-logical-replication"
import type { Frames } from "../src/internal/frameBuffer.ts"
import { linesOf } from "./elementLines.ts"
import { expectedValue } from "./expectedValue.ts"
import { samples } from "./sampleValues.ts"

/**
 * The decoder and the parser of another library read the same bytes of a real server: random tables, random transactions.
 * What the other parser says is turned into expected rows by the rules of the sequence and of key changes, written
 * here a second time over its objects.
 */

const seed = 20_261_122
const pick = <A>(arbitrary: fc.Arbitrary<A>, count: number, offset = 0): ReadonlyArray<A> =>
  fc.sample(arbitrary, { numRuns: count, seed: seed + offset })

interface Table {
  readonly name: string
  readonly types: ReadonlyArray<string>
  readonly identity: "key" | "full with key" | "keyless" | "index"
}

const typeNames = Object.keys(samples)
const binaryNames = typeNames.filter((name) => samples[name]?.send !== undefined)

const tables = (prefix: string, names: ReadonlyArray<string>, offset: number): ReadonlyArray<Table> =>
  pick(
    fc.tuple(
      fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 9 }),
      fc.constantFrom<Table["identity"]>("key", "full with key", "keyless", "index")
    ),
    8,
    offset
  ).map(([types, identity], index) => ({ name: `${prefix}${index}`, types, identity }))

const definition = ({ identity, name, types }: Table): string => {
  const columns = types.map((type, index) => `c${index} ${type}`).join(", ")
  const key = identity === "keyless" ? "k int" : identity === "index" ? "k int NOT NULL UNIQUE" : "k int PRIMARY KEY"
  const identities = {
    key: "",
    "full with key": `; ALTER TABLE ${name} REPLICA IDENTITY FULL`,
    keyless: `; ALTER TABLE ${name} REPLICA IDENTITY FULL`,
    index: `; ALTER TABLE ${name} REPLICA IDENTITY USING INDEX ${name}_k_key`
  }
  // A large value that isn't compressed, so that updates leave it out.
  return `CREATE TABLE ${name} (${key}, ${columns}, big text); ALTER TABLE ${name} ALTER big SET STORAGE EXTERNAL${
    identities[identity]
  }`
}

const literal = (text: string | null): string => text === null ? "NULL" : `'${text.replaceAll("'", "''")}'`

/** SQL of one random transaction. */
const transactions = (all: ReadonlyArray<Table>): ReadonlyArray<string> => {
  const values = new Map(
    typeNames.map((name, index) => [name, pick(samples[name]?.values ?? fc.constant(""), 400, index)])
  )
  let next = 0
  const value = (type: string): string | null => next++ % 7 === 0 ? null : values.get(type)?.[next % 400] ?? null
  const choice = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 99 }), fc.integer({ min: 0, max: 30 }))
  let key = 0
  return pick(fc.array(choice, { minLength: 1, maxLength: 40, size: "max" }), 150, 77).map((choices) => {
    const statements = choices.map(([index, what, row]) => {
      const table = all[index % all.length]
      if (table === undefined) return ""
      const { name, types } = table
      const near = Math.max(1, key - row)
      if (what < 50) {
        key++
        const list = types.map((type) => literal(value(type)))
        return `INSERT INTO ${name} VALUES (${key}, ${list.join(", ")}, ${
          row % 3 === 0 ? `repeat('${key} ', 1000)` : "'small'"
        })`
      }
      const column = row % types.length
      if (what < 70) {
        return `UPDATE ${name} SET c${column} = ${literal(value(types[column] ?? ""))} WHERE k <= ${near}  AND k > ${
          near - 20
        }`
      }
      if (what < 80) return `UPDATE ${name} SET k = k + 1000000 WHERE k = ${near}`
      if (what < 99) return `DELETE FROM ${name} WHERE k = ${near}`
      return `TRUNCATE ${name}, ${all[(index + 1) % all.length]?.name}`
    })
    return `BEGIN; ${[...new Set(statements)].join("; ")}; COMMIT`
  })
}

/** Pulls everything up to `target` and keeps the bytes, each CopyData frame in one buffer. */
const capture = (server: EmbeddedPostgres.EmbeddedPostgres, slot: string, binary: boolean, target: bigint) =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* ReplicationConnection.connect({
      host: server.host,
      port: server.port,
      user: server.user,
      password: server.password,
      database: server.database
    })
    const stream = yield* connection.start({
      slot,
      publications: [slot],
      binary,
      messages: true,
      acknowledged: () => 0n
    })
    const frames: Array<Buffer> = []
    for (;;) {
      const { bytes, end, start } = yield* stream.pull
      const view = Buffer.from(bytes.slice(start, end))
      for (let at = 0; at < view.length;) {
        const length = 1 + view.readUInt32BE(at + 1)
        frames.push(view.subarray(at, at + length))
        at += length
      }
      const last = frames.at(-1)
      if (last !== undefined && last[5] === 0x6b && last.readBigUInt64BE(6) >= target) return frames
    }
  }))

type Row = ReadonlyArray<string | null | undefined>

const keyOf = (values: Row): string => String(values[0])

/** Expected lines per table, from what the other library's parser says. */
const oracle = (frames: ReadonlyArray<Buffer>): ReadonlyMap<string, ReadonlyArray<string>> => {
  const parser = new PgoutputPlugin({ protoVersion: 1, publicationNames: [] })
  const result = new Map<string, Array<string>>()
  let commit = ""
  let changes = 0
  const say = (relation: Pgoutput.MessageRelation, line: string): void => {
    const lines = result.get(relation.name) ?? []
    lines.push(line)
    result.set(relation.name, lines)
  }
  const rowOf = (relation: Pgoutput.MessageRelation, values: Readonly<Record<string, unknown>>): Row =>
    relation.columns.map((column) => {
      const value = values[column.name]
      if (value === null || value === undefined) return value
      const { type } = PostgresType.resolve(PostgresType.emptyCatalog, column.typeOid, column.typeMod)
      return expectedValue(type, String(value))
    })
  const line = (op: string, ordinal: number, row: Row): string =>
    `${op} ${commit}/${ordinal} ${JSON.stringify(row.map((value) => value === undefined ? "~unsent" : value))}`
  const keyRow = (relation: Pgoutput.MessageRelation, key: Readonly<Record<string, unknown>>): Row =>
    rowOf(relation, Object.fromEntries(relation.columns.map((column) => [column.name, key[column.name] ?? null])))

  for (const frame of frames) {
    if (frame[5] !== 0x77) continue
    const message = parser.parse(frame.subarray(30))
    switch (message.tag) {
      case "begin":
        commit = String(Lsn.parse(message.commitLsn ?? ""))
        changes = 0
        break
      case "relation":
        // Its types' parsers make numbers and dates; the text itself is what is compared.
        for (const column of message.columns) column.parser = (raw: unknown) => raw
        break
      case "insert":
        say(message.relation, line("Insert", changes++ * 2 + 1, rowOf(message.relation, message.new)))
        break
      case "update": {
        const change = changes++ * 2
        const { relation } = message
        const row = rowOf(relation, message.new)
        const old = message.old !== null
          ? rowOf(relation, message.old)
          : message.key !== null
          ? keyRow(relation, message.key)
          : undefined
        const keyless = relation.keyColumns.length === relation.columns.length && relation.name.endsWith("keyless")
        if (old === undefined || (!keyless && keyOf(old) === keyOf(row))) say(relation, line("Update", change + 1, row))
        else {
          say(relation, line("KeyChangeOld", change, old))
          say(relation, line("KeyChangeNew", change + 1, row))
        }
        break
      }
      case "delete": {
        const { key, old, relation } = message
        say(
          relation,
          line("Delete", changes++ * 2 + 1, old !== null ? rowOf(relation, old) : keyRow(relation, key ?? {}))
        )
        break
      }
      case "truncate":
        for (const relation of message.relations) say(relation, `Truncate ${commit}/${changes * 2 + 1}`)
        changes++
        break
    }
  }
  return result
}

/** The decoder's lines per table, over views of `size` frames. */
const ours = Effect.fnUntraced(function*(frames: ReadonlyArray<Buffer>, size: number) {
  const decoder = PgOutputDecoder.make({
    tables: [],
    copied: new Map(),
    resolveRelation: (relation) => ({
      table: { schema: relation.schema, name: relation.name },
      version: 1,
      columns: relation.columns.map((column) => ({
        name: column.name,
        ...PostgresType.resolve(PostgresType.emptyCatalog, column.typeOid, column.typmod),
        nullable: true
      })),
      identity: relation.name.endsWith("keyless") ? { _tag: "Full" } : { _tag: "Key", columns: [0] }
    })
  })
  const result = new Map<string, Array<string>>()
  for (let at = 0; at < frames.length; at += size) {
    const bytes = Buffer.concat(frames.slice(at, at + size))
    const view: Frames = { bytes, start: 0, end: bytes.length }
    for (const element of yield* decoder.decode(view)) {
      const lines = linesOf(element)
      if (lines.length === 0 || (element._tag !== "Rows" && element._tag !== "Truncate")) continue
      const name = element._tag === "Rows" ? element.batch.table.table.name : element.table.table.name
      const list = result.get(name) ?? []
      list.push(...lines)
      result.set(name, list)
    }
  }
  return result
})

/** Line by line: the first difference is what one wants to see. */
const same = (actual: ReadonlyArray<string> = [], expected: ReadonlyArray<string>, what: string): void => {
  expected.forEach((line, index) => assert.strictEqual(actual[index], line, `${what}, line ${index}`))
  assert.strictEqual(actual.length, expected.length, what)
}

describe("pgoutput decoding", () => {
  it.live(
    "agrees with another parser on random tables and transactions, and text with binary",
    () =>
      Effect.gen(function*() {
        const server = yield* EmbeddedPostgres.start()
        // Tables of the second group have types that binary format can't be used for.
        const named = (group: ReadonlyArray<Table>) =>
          group.map((table) => table.identity === "keyless" ? { ...table, name: `${table.name}keyless` } : table)
        const plain = named(tables("b", binaryNames, 1))
        const all = [...plain, ...named(tables("t", typeNames, 2))]
        for (const table of all) yield* server.query(definition(table))
        yield* server.query(`CREATE PUBLICATION everything FOR TABLE ${all.map((table) => table.name).join(", ")}`)
        yield* server.query(`CREATE PUBLICATION plain FOR TABLE ${plain.map((table) => table.name).join(", ")}`)
        for (const slot of ["everything", "plain"]) {
          yield* server.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [slot])
        }
        for (const sql of transactions(all)) yield* server.query(sql)
        const [row] = yield* server.query("SELECT pg_current_wal_lsn()::text AS lsn")
        const target = Lsn.parse(String(row?.["lsn"])) ?? 0n

        const text = yield* capture(server, "everything", false, target)
        const expected = oracle(text)
        const rows = [...expected.values()].flat()
        assert.isAbove(rows.length, 1000)
        for (const what of ["Insert", "Update", "Delete", "KeyChangeOld", "KeyChangeNew", "Truncate", "~unsent"]) {
          assert.isTrue(rows.some((line) => line.includes(what)), `the sample has ${what}`)
        }
        for (const size of [1, 7, 1000, text.length]) {
          const decoded = yield* ours(text, size)
          assert.deepStrictEqual([...decoded.keys()].sort(), [...expected.keys()].sort())
          for (const [name, lines] of expected) {
            same(decoded.get(name), lines, `${name}, ${size} messages at a time`)
          }
        }

        const plainText = yield* ours(yield* capture(server, "plain", false, target), 50)
        const plainBinary = yield* ours(yield* capture(server, "plain", true, target), 50)
        assert.isAbove([...plainText.values()].flat().length, 300)
        assert.deepStrictEqual([...plainBinary.keys()].sort(), [...plainText.keys()].sort())
        for (const [name, lines] of plainText) {
          same(plainBinary.get(name), lines, name)
        }
      }).pipe(Effect.scoped),
    90_000
  )
})
