/**
 * Encrypts the database's secrets anew with the current key, so that the previous one is no longer needed.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as SqlClient from "effect/sql/SqlClient"
import * as EncryptedSecret from "../EncryptedSecret.ts"
import { type Finding, formatPath, type Path } from "../Problem.ts"
import { serially, writeRow } from "./Apply.ts"
import { databaseError } from "./DatabaseError.ts"
import * as PlainSecrets from "./PlainSecrets.ts"
import { keyOf, readAll } from "./Rows.ts"

/** A literal `${`, or an encrypted secret. */
const token = /\$\$\{|\$\{enc:([^{}]*)\}/g

interface Rotated {
  readonly value: unknown
  /** Secrets that were encrypted anew. */
  readonly secrets: number
  readonly findings: ReadonlyArray<Finding>
}

/** `value`, which stands at `path`, with its secrets under the current key. */
export const rotate = (value: unknown, path: Path, keys: EncryptedSecret.Keys): Rotated => {
  const findings: Array<Finding> = []
  let secrets = 0
  const visit = (value: unknown, path: Path): unknown => {
    if (typeof value === "string") {
      return value.replaceAll(token, (whole: string, body: string | undefined) => {
        if (body === undefined || EncryptedSecret.keyIdOf(body) === keys.current.id) return whole
        const opened = EncryptedSecret.decrypt(body, path, keys)
        if (Result.isFailure(opened)) {
          findings.push({ path, at: "value", ...opened.failure })
          return whole
        }
        secrets++
        return EncryptedSecret.encrypt(opened.success, path, keys)
      })
    }
    if (Array.isArray(value)) return value.map((item, index) => visit(item, [...path, index]))
    return typeof value === "object" && value !== null
      ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, visit(item, [...path, key])]))
      : value
  }
  return { value: visit(value, path), secrets, findings }
}

/** What was done: `table/name` of rows that were written, and how many secrets are in them. */
export interface Rotation {
  readonly rows: ReadonlyArray<string>
  readonly secrets: number
}

/** Brings all secrets under the current key, or none when one of them can't be opened. */
export const run: (keys: EncryptedSecret.Keys) => Effect.Effect<Rotation, ConnectorError, SqlClient.SqlClient> = Effect
  .fn(
    "Rotation.run"
  )(function*(keys) {
    return yield* serially(Effect.gen(function*() {
      const { rows } = yield* readAll
      const rotated = rows.filter(({ unreadable }) => unreadable === undefined).map((row) => ({
        row,
        ...rotate(row.value, PlainSecrets.documentPath(row), keys)
      }))
      const [finding, ...others] = rotated.flatMap(({ findings }) => findings)
      if (finding !== undefined) {
        return yield* databaseError(
          "Rejected",
          `${formatPath(finding.path)}: ${finding.message}${
            others.length === 0 ? "" : ` And ${others.length} more can't be opened.`
          }`,
          finding.remedy
        )
      }
      const changed = rotated.filter(({ secrets }) => secrets > 0)
      yield* Effect.forEach(changed, ({ row, value }) => writeRow({ ...row, value }, true), { discard: true })
      return {
        rows: changed.map(({ row }) => keyOf(row)),
        secrets: changed.reduce((sum, { secrets }) => sum + secrets, 0)
      }
    }))
  })
