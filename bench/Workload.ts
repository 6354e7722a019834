/**
 * What is written into PostgreSQL for the clients to read: tables, and changes in committed transactions.
 */

export interface Workload {
  readonly name: string
  readonly what: string
  readonly tables: string
  /** Names of the tables, without the schema. */
  readonly names: ReadonlyArray<string>
  /** Changed rows of a full run. */
  readonly rows: number
  /** Rows of a transaction of which no part can be left out; `rows` is a multiple of it. Default: 1. */
  readonly unit?: number
  /** Rounds at most, where one takes minutes. */
  readonly mostRounds?: number
  /** Statements that make `rows` changed rows; each is committed by itself unless it commits inside. */
  readonly changes: (rows: number) => ReadonlyArray<string>
}

/** Rows of a transaction of the bulk workloads. */
const perTransaction = 10_000

/** Statements for rows `from` to `to` each, both inclusive, in transactions of some size. */
const pieces = (rows: number, size: number, statement: (from: number, to: number) => string): ReadonlyArray<string> =>
  Array.from(
    { length: Math.ceil(rows / size) },
    (_, index) => statement(index * size + 1, Math.min(rows, (index + 1) * size))
  )

/** All but one row, then the last one in a transaction of its own: whoever has that has them all. */
const withLast = (
  rows: number,
  others: (rows: number) => ReadonlyArray<string>,
  last: string
): ReadonlyArray<string> => [...others(rows - 1), last]

const acc: Workload = {
  name: "acc",
  what: "pgbench_accounts: three integers and char(84); inserts, 10,000 a transaction",
  tables: "CREATE TABLE acc (aid int PRIMARY KEY, bid int, abalance int, filler char(84))",
  names: ["acc"],
  // So many that the start of a process is little of its processor time.
  rows: 2_000_000,
  changes: (rows) =>
    withLast(
      rows,
      (most) =>
        pieces(most, perTransaction, (from, to) =>
          `INSERT INTO acc SELECT i, i % 100 + 1, 0, '' FROM generate_series(${from}, ${to}) i`),
      "INSERT INTO acc VALUES (0, 1, 0, '')"
    )
}

const orders = (from: number, to: number): string =>
  `INSERT INTO ord SELECT i, i % 9973, (i % 100000) / 100.0 + 10, 'customer ' || md5(i::text), ` +
  `'2024-01-01'::timestamptz + i * interval '1.000123 second', ` +
  `jsonb_build_object('sku', md5((i + 1)::text), 'qty', i % 7, 'tags', jsonb_build_array('a', 'b', i % 3), 'gift', i % 2 = 0), ` +
  `i % 3 = 0, md5(i::text)::uuid FROM generate_series(${from}, ${to}) i`

const ord: Workload = {
  name: "ord",
  what:
    "bigint, int, numeric(12,2), text of 41 characters, timestamptz, jsonb of some 100 bytes, bool, uuid; four inserts to one update, 10,000 a transaction",
  tables:
    "CREATE TABLE ord (id bigint PRIMARY KEY, customer int, amount numeric(12, 2), note text, at timestamptz, detail jsonb, paid bool, ref uuid)",
  names: ["ord"],
  rows: 2_500_000,
  changes: (rows) =>
    withLast(rows, (most) => {
      const inserts = Math.floor(most * 0.8)
      return [
        ...pieces(inserts, perTransaction, orders),
        ...pieces(most - inserts, perTransaction, (from, to) =>
          `UPDATE ord SET amount = amount + 1, paid = NOT paid WHERE id BETWEEN ${from} AND ${to}`)
      ]
    }, orders(0, 0))
}

/** Runs `body` with `i` from 1 to `times`, each in a transaction of its own. */
const loop = (times: number, body: string): string =>
  `DO $$ BEGIN FOR i IN 1..${times} LOOP ${body}; COMMIT; END LOOP; END $$`

const tpcb: Workload = {
  name: "tpcb",
  what: "pgbench's TPC-B: three updates and an insert a transaction, scale 10",
  tables:
    `CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)) WITH (fillfactor = 90);
    CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
    CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
    CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
    INSERT INTO pgbench_accounts SELECT i, i / 10000 + 1, 0, '' FROM generate_series(1, 100000) i;
    INSERT INTO pgbench_tellers SELECT i, i / 10 + 1, 0 FROM generate_series(1, 100) i;
    INSERT INTO pgbench_branches SELECT i, 0 FROM generate_series(1, 10) i`,
  names: ["pgbench_accounts", "pgbench_tellers", "pgbench_branches", "pgbench_history"],
  rows: 400_000,
  unit: 4,
  changes: (rows) => [
    loop(
      rows / 4,
      `UPDATE pgbench_accounts SET abalance = abalance + 7 WHERE aid = i * 7919 % 100000 + 1;
       UPDATE pgbench_tellers SET tbalance = tbalance + 7 WHERE tid = i % 100 + 1;
       UPDATE pgbench_branches SET bbalance = bbalance + 7 WHERE bid = i % 10 + 1;
       INSERT INTO pgbench_history VALUES (i % 100 + 1, i % 10 + 1, i * 7919 % 100000 + 1, 7, now())`
    )
  ]
}

const wideColumns = Array.from({ length: 99 }, (_, index) => {
  const name = `c${index + 1}`
  const kinds = [
    { type: "int", value: `i % ${index + 7}` },
    { type: "text", value: `'value ' || i % ${index + 7}` },
    { type: "numeric(12, 2)", value: `(i % 1000) / 4.0` },
    { type: "timestamptz", value: `'2024-01-01'::timestamptz + i * interval '1 second'` },
    { type: "bool", value: `i % 2 = 0` },
    { type: "text", value: `NULL` }
  ]
  return { name, ...kinds[index % kinds.length] as typeof kinds[number] } // in range
})

const wide: Workload = {
  name: "wide",
  what:
    "100 columns: integers, text, numeric, timestamps, booleans, a sixth of them NULL; inserts, 1,000 a transaction",
  tables: `CREATE TABLE wide (id int PRIMARY KEY, ${
    wideColumns.map(({ name, type }) => `${name} ${type}`).join(", ")
  })`,
  names: ["wide"],
  rows: 150_000,
  changes: (rows) =>
    pieces(
      rows,
      1000,
      (from, to) =>
        `INSERT INTO wide SELECT i, ${
          wideColumns.map(({ value }) => value).join(", ")
        } FROM generate_series(${from}, ${to}) i`
    )
}

const large: Workload = {
  name: "large",
  what: "rows of 1 MB of text that doesn't compress well; inserts, one a transaction",
  tables: "CREATE TABLE large (id int PRIMARY KEY, body text); ALTER TABLE large ALTER body SET STORAGE EXTERNAL",
  names: ["large"],
  rows: 600,
  changes: (rows) =>
    pieces(
      rows,
      1,
      (from) =>
        `INSERT INTO large SELECT ${from}, string_agg(md5((i + ${from} * 32768)::text), '') FROM generate_series(1, 32768) i`
    )
}

const single: Workload = {
  name: "single",
  what: "transactions of one inserted row",
  tables: "CREATE TABLE single (id int PRIMARY KEY, v text)",
  names: ["single"],
  rows: 400_000,
  changes: (rows) => [loop(rows, "INSERT INTO single VALUES (i, 'value ' || i)")]
}

const huge: Workload = {
  name: "huge",
  what: "one transaction of all inserts",
  tables: "CREATE TABLE huge (id int PRIMARY KEY, a int, b text)",
  names: ["huge"],
  rows: 5_000_000,
  mostRounds: 3,
  changes: (rows) => [`INSERT INTO huge SELECT i, i % 100, 'text ' || i FROM generate_series(1, ${rows}) i`]
}

const many = Array.from({ length: 200 }, (_, index) => `many_${index}`)

const tables: Workload = {
  name: "tables",
  what: "200 tables; transactions of one row in each of ten tables",
  tables: many.map((name) => `CREATE TABLE ${name} (id int PRIMARY KEY, v text)`).join("; "),
  names: many,
  rows: 400_000,
  unit: 10,
  changes: (rows) => [
    `DO $$ BEGIN FOR i IN 1..${rows / 10} LOOP FOR j IN 0..9 LOOP
       EXECUTE format('INSERT INTO many_%s VALUES ($1, $2)', (i * 10 + j) % 200) USING i, 'value ' || i;
     END LOOP; COMMIT; END LOOP; END $$`
  ]
}

export const workloads: ReadonlyArray<Workload> = [acc, ord, tpcb, wide, large, single, huge, tables]

/** The workload with that share of its rows. */
export const scaled = (workload: Workload, factor: number): Workload => {
  const { rows, unit = 1 } = workload
  return { ...workload, rows: Math.max(1, Math.round((rows * factor) / unit)) * unit }
}

export { acc, ord, single }
