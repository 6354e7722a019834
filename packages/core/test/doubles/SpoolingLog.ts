/**
 * A `LogServer` whose source confirms what a spool holds: it notes, before it confirms a position, which spool stands behind it, and ends a run that
 * begins without that spool.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { ConnectorError } from "../../src/ConnectorError.ts"
import type { Source, SourceSpool } from "../../src/Source.ts"
import type { LogServer } from "./LogServer.ts"

const lost = (message: string): ConnectorError =>
  new ConnectorError({ reason: "Lost", plugin: "test", message, hint: "none" })

export class SpoolingLog {
  readonly server: LogServer
  /** Up to where the sink had everything, and the spool that stands behind the rest, by the last note. */
  durable = 0n
  spool: string | undefined
  /** The most that a spool alone stood behind. */
  ahead = 0n
  /** After a crash nothing is confirmed any more. */
  frozen = false

  constructor(server: LogServer) {
    this.server = server
  }

  private proven(spool: SourceSpool | undefined): boolean {
    const { confirmed } = this.server
    return confirmed <= this.durable ||
      (spool !== undefined && spool.id === this.spool && spool.position >= confirmed)
  }

  source(): Source {
    const inner = this.server.source()
    return {
      ...inner,
      spoolable: Effect.void,
      stream: (context) => {
        const { spool } = context
        if (!this.proven(spool)) {
          return Stream.fail(lost(
            `confirmed ${this.server.confirmed} by ${this.spool}, the sink had ${this.durable}; ` +
              `there is ${spool?.id} up to ${spool?.position} (${spool?.damage})`
          ))
        }
        return inner.stream({
          ...context,
          acknowledged: () => {
            if (this.frozen) return 0n
            const durable = context.acknowledged()
            const kept = spool?.kept() ?? 0n
            if (durable > this.durable) this.durable = durable
            if (kept <= durable || kept <= this.server.confirmed) return durable
            this.spool = spool?.id
            if (kept - durable > this.ahead) this.ahead = kept - durable
            return kept
          }
        })
      }
    }
  }
}
