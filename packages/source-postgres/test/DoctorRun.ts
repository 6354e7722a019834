/**
 * Runs doctor's checks and their remedies.
 */
import { assert } from "@effect/vitest"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Finding } from "@etl-stream/core/Finding"
import type * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Connections from "../src/Connections.ts"
import * as Doctor from "../src/Doctor.ts"
import { defaultLimits, type Limits } from "../src/preflight/Inspection.ts"
import * as SourceRun from "./SourceRun.ts"

export interface Asked {
  readonly options: SourceRun.Options
  readonly name: string
  readonly limits?: Partial<Limits>
}

/** The report of a pipeline; the server's superuser password is in no part of it. */
export const report = ({ limits, name, options }: Asked): Effect.Effect<ReadonlyArray<Finding>, ConnectorError> =>
  Doctor.check(SourceRun.settings(options, name), { ...defaultLimits, ...limits }).pipe(Effect.scoped)

/** The findings of one check. */
export const of = (findings: ReadonlyArray<Finding>, check: string): ReadonlyArray<Finding> => {
  const found = findings.filter((finding) => finding.check === check)
  assert.isNotEmpty(found, `nothing of ${check} among ${findings.map((finding) => finding.check).join(", ")}`)
  return found
}

/** Names of the checks with findings of a severity. */
export const named = (
  findings: ReadonlyArray<Finding>,
  severity: Finding["severity"]
): ReadonlyArray<string> => [
  ...new Set(findings.filter((finding) => finding.severity === severity).map(({ check }) => check))
]

/** Runs a remedy's statements one by one, as psql would, in the database of `url`. */
export const apply = (url: string, statements: ReadonlyArray<string>): Effect.Effect<void, ConnectorError> =>
  Effect.gen(function*() {
    const client = yield* Connections.connect(SourceRun.settings({ url, tables: ["x.*"] }, "remedy"), "query")
    for (const statement of statements) yield* Connections.run(client, `running ${statement}`, statement)
  }).pipe(Effect.scoped)

/**
 * Asks until a check finds something, sees that it is of `severity` with a message like `message`, does what its SQL says as the superuser, and asks until
 * the check is in order. Settings take their time to be loaded again.
 */
export const cures = Effect.fnUntraced(function*(
  pg: EmbeddedPostgres.EmbeddedPostgres,
  asked: Asked,
  check: string,
  severity: Finding["severity"],
  message: RegExp,
  database?: string
) {
  const url = pg.urlOf({ user: pg.user, password: pg.password, ...(database === undefined ? {} : { database }) })
  const eventually = { schedule: Schedule.spaced("100 millis").pipe(Schedule.upTo({ duration: "10 seconds" })) }
  const found = yield* report(asked).pipe(
    Effect.map((findings) => of(findings, check)),
    Effect.repeat({ ...eventually, until: ([first]) => first?.severity !== "ok" })
  )
  const [first] = yield* Effect.succeed(found)
  assert.strictEqual(first?.severity, severity, first?.message)
  assert.match(first?.message ?? "", message)
  assert.isNotEmpty(first?.sql ?? [])
  yield* apply(url, found.flatMap(({ sql }) => sql))
  const after = yield* report(asked).pipe(
    Effect.map((findings) => of(findings, check)),
    Effect.repeat({ ...eventually, until: ([again]) => again?.severity === "ok" })
  )
  assert.deepStrictEqual(after.map((finding) => finding.severity), ["ok"], after[0]?.message)
})
