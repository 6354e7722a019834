/**
 * Scenarios with the real command, and its JSON envelopes.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fixture from "./Fixture.ts"

export const scenario = (name: string, test: (directory: string) => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.flatMap(Fixture.folder, test))

export const envelope = (ended: Fixture.Ended): Record<string, unknown> => {
  const lines = ended.stdout.trim().split("\n")
  assert.strictEqual(lines.length, 1, ended.stdout)
  // The envelope is an object.
  return JSON.parse(lines[0] ?? "") as Record<string, unknown>
}

/** The `error` of an envelope. */
export const errorOf = (ended: Fixture.Ended): Record<string, unknown> => {
  const { error, ok } = envelope(ended)
  assert.strictEqual(ok, false)
  return error as Record<string, unknown> // part of the envelope
}
