/** Cases of options that a plugin of any kind refuses. */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import type { Kind, Plugin } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import type { Case } from "../Conformance.ts"
import * as Opening from "./opening.ts"

export interface Refused {
  readonly what: string
  readonly options: unknown
  readonly path: string
}

/** One case for each. */
export const cases = <A>(
  plugin: Plugin<Kind, A>,
  refused: ReadonlyArray<Refused>,
  secrets: ReadonlyArray<string>
): ReadonlyArray<Case> =>
  refused.map(({ options, path, what }) => ({
    name: `refuses options when ${what}, and names ${path}`,
    skipped: undefined,
    run: Effect.map(Opening.refusalOf(plugin, options), (refusal) => {
      assert.ok(refusal !== undefined, "The options are taken")
      assert.ok(refusal.paths.includes(path), `Refused are ${refusal.paths.join(", ")}: ${refusal.message}`)
      for (const secret of secrets) assert.ok(!refusal.message.includes(secret), "The refusal tells a secret")
    })
  }))

/** Whether an error helps whoever has to mend its cause. */
export const judge = (plugin: string, error: unknown, reason: Reason): void => {
  assert.ok(error instanceof ConnectorError, `${String(error)} isn't a ConnectorError`)
  assert.equal(error.reason, reason, error.message)
  assert.equal(error.plugin, plugin)
  assert.ok(error.message.trim().length > 0, "The error has no message")
  assert.ok(error.hint.trim().length > 0, "The error has no hint")
}
