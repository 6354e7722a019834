/**
 * What the shop's customers and clerks do while the pipeline runs: many small transactions, some large ones, and every kind of
 * change that a mirror has to get right.
 *
 * Several clerks work at once, each on a connection of its own, choosing among `transactions` by weight with a seeded random
 * sequence. A transaction that loses a conflict (deadlock, duplicate key) is rolled back and forgotten, as in life.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Client, DatabaseError } from "pg"
import { customerId, orderedOn, type Size } from "./Shop.ts"

export class WorkloadError
  extends Schema.TaggedError<WorkloadError>("@etl-stream/demo/WorkloadError")("WorkloadError", {
    message: Schema.String,
    cause: Schema.Defect()
  })
{}

/** What has been committed so far. */
export interface Counts {
  /** Rows inserted, updated and deleted, and truncates. */
  readonly changes: number
  readonly transactions: number
  readonly rolledBack: number
}

export interface Workload {
  readonly counts: () => Counts
  /** Ends after the transactions that are under way. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
}

/** Whole numbers from a seed (mulberry32): the same seed does the same things. */
type Random = (below: number) => number

const randomOf = (seed: number): Random => {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

/** One connection in a transaction; counts what its statements change. */
interface Work {
  readonly run: (sql: string, params?: ReadonlyArray<string | number | null>) => Promise<number>
  readonly random: Random
  readonly size: Size
  /** A number that no other call has given, for new keys. */
  readonly fresh: () => number
}

type Transaction = (work: Work) => Promise<void>

const anyCustomer = (work: Work): string => customerId(String(1 + work.random(work.size.customers)))
const anyProduct = (work: Work): number => 1 + work.random(work.size.products)
const anyOrder = (work: Work): number => 1 + work.random(work.size.orders)

const placeOrder: Transaction = async (work) => {
  const id = work.fresh()
  await work.run(
    `INSERT INTO orders VALUES (${orderedOn("$1::bigint")}, $1, ${anyCustomer(work)}, 'placed', $2::int / 100.0, 'USD',
       clock_timestamp(), '2 days 03:00', NULL, $3)`,
    [id, work.random(90_000), work.random(2) === 0 ? null : `please ring, "${id}"\n\tthanks`]
  )
  for (let line = 1; line <= 1 + work.random(4); line++) {
    const product = anyProduct(work)
    await work.run("INSERT INTO order_items VALUES ($1, $2, $3, $4, $5::int / 16.0, NULL, false)", [
      id,
      line,
      product,
      1 + work.random(4),
      work.random(10_000)
    ])
    // Leaves description and specification alone: they are not sent.
    await work.run("UPDATE products SET stock = stock - 1, updated_at = clock_timestamp() WHERE id = $1", [product])
  }
  await work.run(
    `INSERT INTO events VALUES (clock_timestamp(), 'buy', ${
      anyCustomer(work)
    }, $1::int / 64.0, '{"order": ${id}}', '192.168.1.7')`,
    [work.random(5000)]
  )
}

const advanceOrder: Transaction = async (work) => {
  const id = anyOrder(work)
  await work.run(
    `UPDATE orders SET status = 'shipped', delivery = delivery + '1 day', note = NULL WHERE ordered_on = ${
      orderedOn("$1::bigint")
    } AND id = $1`,
    [id]
  )
  await work.run("UPDATE order_items SET gift = NOT gift, tax = random() WHERE order_id = $1", [id])
}

const cancelOrder: Transaction = async (work) => {
  const id = anyOrder(work)
  await work.run("DELETE FROM order_items WHERE order_id = $1", [id])
  await work.run(`DELETE FROM orders WHERE ordered_on = ${orderedOn("$1::bigint")} AND id = $1`, [id])
}

/** Changes part of a composite key; a new day may lie in another partition. */
const postponeOrder: Transaction = async (work) => {
  await work.run(
    `UPDATE orders SET ordered_on = ordered_on + 100 WHERE ordered_on = ${orderedOn("$1::bigint")} AND id = $1`,
    [anyOrder(work)]
  )
}

const changeCustomer: Transaction = async (work) => {
  await work.run(
    `UPDATE customers SET tags = array_append(tags, $1), active = NOT active, tier = 'gold', score = score + 0.1,
       preferences = CASE WHEN $2::int = 0 THEN NULL ELSE jsonb_build_object('seen', $2::int, 'π', 3.14159) END
     WHERE id = ${anyCustomer(work)}`,
    [`t${work.random(100)}`, work.random(5)]
  )
}

/** A customer comes and goes, or comes back, within one transaction. */
const replaceCustomer: Transaction = async (work) => {
  const customer = anyCustomer(work)
  const passing = customerId(String(-work.fresh()))
  await work.run(`DELETE FROM customers WHERE id = ${customer}`)
  await work.run(
    `INSERT INTO customers VALUES (${customer}, 'again', NULL, 'basic', '{}', '[]', NULL, NULL, 0.00, -0.5, '', clock_timestamp())`
  )
  await work.run(`INSERT INTO customers SELECT ${passing}, name, email, tier, tags FROM customers WHERE false`)
  await work.run(
    `INSERT INTO customers VALUES (${passing}, 'passing', NULL, 'plus', '{x}', NULL, true, '2000-02-29', 1, 1, NULL, now())`
  )
  await work.run(`UPDATE customers SET name = 'gone' WHERE id = ${passing}`)
  await work.run(`DELETE FROM customers WHERE id = ${passing}`)
}

const describeProduct: Transaction = async (work) => {
  const id = anyProduct(work)
  switch (work.random(4)) {
    case 0:
      await work.run("UPDATE products SET description = noise(300) WHERE id = $1", [id])
      break
    case 1:
      await work.run("UPDATE products SET description = NULL, specification = NULL WHERE id = $1", [id])
      break
    case 2:
      await work.run("UPDATE products SET specification = jsonb_build_object('text', noise(280)) WHERE id = $1", [id])
      break
    default:
      // The new description is sent with the first, and not with the second.
      await work.run("UPDATE products SET description = noise(290) WHERE id = $1", [id])
      await work.run("UPDATE products SET price = price + 1, rating = 'NaN' WHERE id = $1", [id])
  }
}

/** The key changes; the large values, unchanged, are not sent with it. */
const renumberProduct: Transaction = async (work) => {
  await work.run("UPDATE products SET id = $2, stock = stock + 1 WHERE id = $1", [anyProduct(work), work.fresh()])
}

const moveInventory: Transaction = async (work) => {
  const from = `SKU-${1 + work.random(work.size.inventory)}`
  const next = `SKU-n${work.fresh()}`
  await work.run("UPDATE inventory SET sku = $2, quantity = quantity + 1 WHERE sku = $1", [from, `${next}a`])
  await work.run("UPDATE inventory SET sku = $2 WHERE sku = $1", [`${next}a`, `${next}b`])
  await work.run("UPDATE inventory SET sku = $2, bin = NULL WHERE sku = $1", [
    `${next}b`,
    work.random(2) === 0 ? from : next
  ])
}

/** Two rows exchange their keys by way of a third, then a third row takes a key that was just left. */
const swapInventory: Transaction = async (work) => {
  const keys = [0, 1, 2].map(() => 1 + work.random(work.size.inventory)).map((n) =>
    ["W" + (n % 3), `SKU-${n}`] as const
  )
  const [a, b, c] = keys
  if (a === undefined || b === undefined || c === undefined || new Set(keys.map(([, sku]) => sku)).size < 3) return
  const aside = ["W9", `aside ${work.fresh()}`] as const
  const move = async (from: readonly [string, string], to: readonly [string, string]): Promise<void> => {
    await work.run("UPDATE inventory SET warehouse = $3, sku = $4 WHERE warehouse = $1 AND sku = $2", [...from, ...to])
  }
  await move(a, aside)
  await move(b, a)
  await move(aside, b)
  await work.run("DELETE FROM inventory WHERE warehouse = $1 AND sku = $2", [...a])
  await move(c, a)
  await work.run("INSERT INTO inventory VALUES ($1, $2, 1, 'new', current_date, '23:59:59.999999')", [...c])
}

const browse: Transaction = async (work) => {
  for (let i = 0; i < 3; i++) {
    await work.run(
      `INSERT INTO sessions VALUES (gen_random_uuid(), ${
        anyCustomer(work)
      }, clock_timestamp(), '00:00:00.5', $1, '{"items": []}')`,
      [`agent/${work.random(10)}`]
    )
  }
  await work.run("DELETE FROM sessions WHERE token = (SELECT min(token::text)::uuid FROM sessions)")
}

/** Rows before, a truncate and rows after it, in one transaction. */
const endSessions: Transaction = async (work) => {
  await browse(work)
  await work.run("TRUNCATE sessions")
  await browse(work)
}

/** Equal rows come in pairs; one of a pair changes or goes. */
const recordEvents: Transaction = async (work) => {
  await work.run(
    `INSERT INTO events SELECT date_trunc('second', now()), 'twin', NULL, 1, '{"twin": true}', '::1' FROM generate_series(1, 2)`
  )
  await work.run(
    "UPDATE events SET amount = amount + 1 WHERE ctid = (SELECT ctid FROM events TABLESAMPLE SYSTEM (1) LIMIT 1)"
  )
  await work.run("DELETE FROM events WHERE ctid = (SELECT max(ctid) FROM events WHERE kind = 'twin')")
}

const rollBack: Transaction = async (work) => {
  await placeOrder(work)
  await work.run("DELETE FROM events WHERE kind = 'twin'")
  throw new RolledBack()
}

const savepoints: Transaction = async (work) => {
  await changeCustomer(work)
  await work.run("SAVEPOINT doubt")
  await placeOrder(work)
  await work.run("SAVEPOINT more_doubt")
  await describeProduct(work)
  await work.run("RELEASE SAVEPOINT more_doubt")
  await work.run("ROLLBACK TO SAVEPOINT doubt")
  await describeProduct(work)
}

/** Thousands of rows at once. */
const reprice: Transaction = async (work) => {
  const first = anyOrder(work)
  await work.run(
    "UPDATE order_items SET unit_price = unit_price * 1.01 WHERE order_id BETWEEN $1 AND $1::bigint + 1500",
    [first]
  )
  await work.run(
    `INSERT INTO events SELECT clock_timestamp(), 'reprice', NULL, i, NULL, NULL FROM generate_series(1, 1000) i`
  )
  await work.run("UPDATE products SET price = price * 1.02 WHERE id BETWEEN $1 AND $1::bigint + 200", [
    anyProduct(work)
  ])
}

class RolledBack extends Error {}

const transactions: ReadonlyArray<readonly [weight: number, transaction: Transaction]> = [
  [30, placeOrder],
  [14, advanceOrder],
  [5, cancelOrder],
  [5, postponeOrder],
  [12, changeCustomer],
  [4, replaceCustomer],
  [10, describeProduct],
  [4, renumberProduct],
  [6, moveInventory],
  [4, swapInventory],
  [8, browse],
  [1, endSessions],
  [6, recordEvents],
  [3, rollBack],
  [4, savepoints],
  [1, reprice]
]
const totalWeight = transactions.reduce((sum, [weight]) => sum + weight, 0)

const choose = (random: Random): Transaction => {
  let at = random(totalWeight)
  for (const [weight, transaction] of transactions) {
    if (at < weight) return transaction
    at -= weight
  }
  return placeOrder
}

/** Conflicts between clerks (deadlock, lock timeout, serialization, duplicate key, check): roll back and go on. */
const conflicts: ReadonlySet<unknown> = new Set(["40P01", "55P03", "40001", "23505", "23514"])

const isConflict = (error: unknown): boolean => error instanceof DatabaseError && conflicts.has(error.code)

const countable = /^\s*(INSERT|UPDATE|DELETE)/i

export interface Options {
  readonly url: string
  readonly size: Size
  readonly clerks: number
  /** Pause between a clerk's transactions. */
  readonly pause: Duration.Input
  readonly seed: number
}

/** Starts the clerks; they work until the scope ends. `failed` ends only when one can't go on. */
export const start = (
  options: Options
): Effect.Effect<Workload & { readonly failed: Effect.Effect<never, WorkloadError> }, WorkloadError, Scope.Scope> =>
  Effect.gen(function*() {
    const counts = { changes: 0, transactions: 0, rolledBack: 0 }
    const open = yield* Latch.make(true)
    const idle = yield* Latch.make(true)
    const startedAt = yield* Clock.currentTimeMillis
    let busy = 0
    let next = 10_000_000 + (startedAt % 1_000_000) * 1000
    const fresh = (): number => next++

    const clerk = (number: number) =>
      Effect.gen(function*() {
        const client = yield* Effect.acquireRelease(
          Effect.tryPromise({
            try: async () => {
              const made = new Client({ connectionString: options.url, application_name: `shop clerk ${number}` })
              made.on("error", () => {})
              await made.connect()
              // As every application should: a truncate that has to wait would hold up everybody behind it.
              await made.query("SET lock_timeout = '2s'")
              return made
            },
            catch: (cause) => new WorkloadError({ message: "a clerk can't reach PostgreSQL", cause })
          }),
          (made) => Effect.promise(() => made.end().catch(() => undefined))
        )
        const random = randomOf(options.seed + number)
        const once = async (): Promise<void> => {
          let changes = 0
          const work: Work = {
            random,
            fresh,
            size: options.size,
            run: async (sql, params) => {
              const { rowCount } = await client.query(sql, params === undefined ? undefined : [...params])
              if (countable.test(sql)) changes += rowCount ?? 0
              else if (sql.startsWith("TRUNCATE")) changes++
              return rowCount ?? 0
            }
          }
          await client.query("BEGIN")
          try {
            await choose(random)(work)
            await client.query("COMMIT")
            counts.changes += changes
            counts.transactions++
          } catch (error) {
            await client.query("ROLLBACK")
            if (!(error instanceof RolledBack) && !isConflict(error)) throw error
            counts.rolledBack++
          }
        }
        for (;;) {
          yield* open.await
          busy++
          yield* idle.close
          yield* Effect.tryPromise({
            try: once,
            catch: (cause) => new WorkloadError({ message: "a clerk's transaction failed", cause })
          }).pipe(Effect.ensuring(Effect.suspend(() => --busy === 0 ? idle.open : Effect.void)))
          yield* Effect.sleep(options.pause)
        }
      })

    const clerks = yield* Effect.forkScoped(
      Effect.scoped(
        Effect.all(Array.from({ length: options.clerks }, (_unused, index) => clerk(index)), {
          concurrency: "unbounded",
          discard: true
        })
      )
    )
    return {
      counts: () => ({ ...counts }),
      pause: Effect.andThen(open.close, idle.await),
      resume: Effect.asVoid(open.open),
      failed: Effect.andThen(Fiber.join(clerks), Effect.never)
    }
  })
