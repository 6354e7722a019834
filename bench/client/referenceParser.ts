/**
 * The npm package `pg-logical-replication` with its pgoutput parser: objects per row. Counts rows until the end, and confirms nothing.
 */
import { LogicalReplicationService, PgoutputPlugin } from "pg-logical-replication"
import * as Outcome from "./Outcome.ts"
import * as Slot from "./Slot.ts"

const { publication, slot, until, url } = Slot.options(Slot.Options)
const end = until.split("/").map((half) => Number.parseInt(half, 16))
const service = new LogicalReplicationService({ connectionString: url }, {
  acknowledge: { auto: false, timeoutSeconds: 0 }
})
let rows = 0
const started = performance.now()
const reached = (lsn: string): boolean => {
  const [high = 0, low = 0] = lsn.split("/").map((half) => Number.parseInt(half, 16))
  const [endHigh = 0, endLow = 0] = end
  return high > endHigh || (high === endHigh && low >= endLow)
}
const finish = (): never => {
  Outcome.print(rows, { streamSeconds: (performance.now() - started) / 1000 })
  process.exit(0)
}
service.on("data", (_lsn: string, message: { readonly tag: string }) => {
  if (message.tag === "insert" || message.tag === "update" || message.tag === "delete") rows++
})
service.on("heartbeat", (lsn: string) => {
  if (reached(lsn)) finish()
})
service.on("error", (error: Error) => {
  process.stderr.write(`${error.message}\n`)
  process.exit(1)
})
await service.subscribe(new PgoutputPlugin({ protoVersion: 1, publicationNames: [publication] }), slot)
