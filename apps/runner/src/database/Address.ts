/**
 * Where the configuration database is: its URL, from an option or the environment. Loads no client, so that whoever runs from a file pays for none.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs"
import { type CommandError, usage } from "../CommandError.ts"
import * as Interpolation from "../Interpolation.ts"

/** Variable that holds the URL when no option gives it. */
export const urlVariable = "ETL_STREAM_CONFIG_DB"

type Environment = Readonly<Record<string, string | undefined>>

/** The database's URL in `option` (which may be a reference, so that it doesn't show in the list of processes) or in the environment. */
export const urlFrom = Effect.fnUntraced(function*(
  option: string | undefined,
  environment: Environment
): Effect.fn.Return<Redacted.Redacted | undefined, CommandError> {
  const written = option ?? environment[urlVariable]
  if (written === undefined || written.trim() === "") return undefined
  const { findings, value } = yield* Interpolation.resolve(written.trim(), {
    environment,
    offline: false,
    readFile: (path) => Effect.try({ try: () => Fs.readFileSync(path, "utf8"), catch: () => "can't be read" })
  })
  const [finding] = findings
  if (finding !== undefined) {
    return yield* usage(`The URL of the configuration database: ${finding.message}`, finding.remedy)
  }
  const url = String(value).trim()
  if (!/^postgres(ql)?:\/\//.test(url) || !URL.canParse(url)) {
    return yield* usage(
      "The URL of the configuration database is not one of PostgreSQL",
      "Write it as postgresql://user:password@host:5432/database?sslmode=verify-full."
    )
  }
  return Redacted.make(url, { label: "configuration database" })
})

/** The same where there must be one. */
export const requireUrl = Effect.fnUntraced(function*(option: string | undefined, environment: Environment) {
  const url = yield* urlFrom(option, environment)
  return url === undefined
    ? yield* usage(
      "It is not said where the configuration database is",
      `Give its URL with \`--config-db\`, or in the environment variable ${urlVariable}, where the list of processes doesn't show it.`
    )
    : url
})
