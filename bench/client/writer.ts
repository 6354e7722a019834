/**
 * Commits transactions of one row at a steady rate, by several connections.
 */
import * as Schema from "effect/Schema"
import { Client } from "pg"
import * as Outcome from "./Outcome.ts"
import * as Slot from "./Slot.ts"

const { connections, perSecond, rows, url } = Slot.options(Schema.Struct({
  url: Schema.String,
  rows: Schema.Finite,
  perSecond: Schema.Finite,
  connections: Schema.Finite
}))

let written = 0
const started = performance.now()

const write = async (): Promise<void> => {
  const client = new Client(url)
  await client.connect()
  while (written < rows) {
    const mine = written++
    const early = started + (mine * 1000) / perSecond - performance.now()
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early))
    await client.query({
      name: "insert",
      text: "INSERT INTO single VALUES ($1, 'a value of some length')",
      values: [1_000_000 + mine]
    })
  }
  await client.end()
}

await Promise.all(Array.from({ length: connections }, write))
Outcome.print(written, { perSecond: written / ((performance.now() - started) / 1000) })
