/**
 * What the figures were measured on.
 */
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as os from "node:os"
import type { References } from "./References.ts"

export interface Machine {
  readonly processor: string
  readonly cores: number
  readonly memoryGB: number
  readonly system: string
  readonly node: string
  readonly postgres: string
  readonly reference: string
  /** ISO 8601. */
  readonly at: string
}

export const describe = ({ version }: References): Machine => {
  const processors = os.cpus()
  return {
    processor: processors[0]?.model ?? "unknown",
    cores: os.availableParallelism(),
    memoryGB: Math.round(os.totalmem() / 1e9),
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.version,
    postgres: EmbeddedPostgres.version.toString(),
    reference: version,
    at: new Date().toISOString()
  }
}
