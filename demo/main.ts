/**
 * `npm run demo`: a shop on an embedded PostgreSQL is mirrored into a local Snowflake while it is busy, the runner is killed in the
 * middle of the copy and in the middle of the stream, the warehouse is killed too, and then every row is compared.
 *
 * Exit code: 0 when nothing is missing, extra, different or doubled, 1 when something is, 2 for a wrong command line, 3 when
 * the demo itself could not go on. Everything that it starts ends with it.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import * as Flags from "./Flags.ts"
import * as Query from "./Query.ts"
import * as Report from "./Report.ts"
import * as Round from "./Round.ts"

const flags = ((): Flags.Flags => {
  try {
    return Flags.parse(process.argv.slice(2))
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\nUsage: ${Flags.usage}\n`)
    process.exit(2)
  }
})()
const report = Report.make(flags)

/** Where logs, data and configuration are. Stays after a failure, and with `--keep`. */
let left: string | undefined

const folder = Effect.acquireRelease(
  Effect.promise(() => fs.mkdtemp(path.join(os.tmpdir(), "etl-stream-demo-"))),
  (made, exit) =>
    Effect.promise(async () => {
      const failed = Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)
      if (failed || flags.keep) left = made
      else await fs.rm(made, { recursive: true, force: true, maxRetries: 5 })
    })
)

const round = Effect.gen(function*() {
  const outcome = yield* Effect.scoped(Effect.flatMap(folder, (made) => Round.play(flags, report, made)))
  if (left !== undefined) report.text(`\n  Logs and data are in ${left}`)
  if (flags.json) process.stdout.write(`${JSON.stringify(outcome)}\n`)
  return Report.isGood(outcome) ? 0 : 1
})

const query = (asked: { readonly folder: string; readonly sql: string }) =>
  Effect.map(Query.run(asked.folder, asked.sql), (lines) => {
    for (const line of lines) report.text(line)
    return 0
  })

/** The message of an error, and of what caused it. */
const explain = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return error.cause === undefined ? error.message : `${error.message}\n  because: ${explain(error.cause)}`
}

const program: Effect.Effect<number> = Effect.suspend((): Effect.Effect<number, unknown> =>
  flags.query === undefined ? round : query(flags.query)
).pipe(
  Effect.catchCause((cause) => {
    if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
    report.error(explain(Cause.squash(cause)), left)
    return Effect.succeed(3)
  })
)

NodeRuntime.runMain(program, {
  disableErrorReporting: true,
  // Connections that a library keeps for later must not keep us. 130: ended by Ctrl-C.
  teardown: (exit) => process.exit(Exit.isSuccess(exit) && typeof exit.value === "number" ? exit.value : 130)
})
