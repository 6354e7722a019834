/**
 * `etl-stream apply`: brings a configuration file into the configuration database, and tells what is different.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { dirname, resolve } from "node:path"
import { type CommandError, invalidConfiguration, usage } from "../CommandError.ts"
import * as Configuration from "../Configuration.ts"
import * as Address from "../database/Address.ts"
import * as ApplyRows from "../database/Apply.ts"
import * as Documents from "../database/Documents.ts"
import { using } from "../database/Opening.ts"
import * as PlainSecrets from "../database/PlainSecrets.ts"
import * as Storable from "../database/Storable.ts"
import * as Tables from "../database/Tables.ts"
import type { Result as Printed } from "../Output.ts"
import type { Finding } from "../Problem.ts"
import * as YamlDocument from "../YamlDocument.ts"

export interface Options {
  readonly file: string
  /** URL of the configuration database, or a reference to it. */
  readonly database: string | undefined
  readonly dryRun: boolean
  readonly prune: boolean
  readonly encrypt: boolean
}

const signs = { added: "+", changed: "~", removed: "-" } as const

const line = ({ keys, kind, row }: ApplyRows.Change): string =>
  `${signs[kind]} ${row}${keys.length === 0 ? "" : ` (${keys.join(", ")})`}`

const render = ({ changes, kept, unchanged }: ApplyRows.Applied, { dryRun, file }: Options): string =>
  [
    changes.length === 0
      ? `The database says what ${file} says: nothing ${dryRun ? "would change" : "has changed"}.`
      : `${dryRun ? "Would change" : "Changed"} in the database:`,
    ...changes.map((change) => `  ${line(change)}`),
    ...(unchanged.length === 0 ? [] : [`  = ${unchanged.length} unchanged`]),
    ...(kept.length === 0 ? [] : [`Not in the file and kept (\`--prune\` removes them): ${kept.join(", ")}`])
  ].join("\n")

export const apply = Effect.fn("Apply.apply")(function*(options: Options): Effect.fn.Return<Printed, CommandError> {
  const { database, dryRun, encrypt, file, prune } = options
  const url = yield* Address.requireUrl(database, process.env)
  const keys = yield* Result.match(ApplyRows.keysFor(encrypt, process.env), {
    onFailure: ({ message, remedy }) => Effect.fail(usage(message, remedy)),
    onSuccess: (keys) => Effect.succeed(keys)
  })
  const directory = dirname(resolve(file))
  const yaml = yield* Configuration.parse(file)
  // References are the runner's to resolve: they may well have no value here.
  const { findings } = yield* Configuration.examine(
    { name: file, directory, value: yaml.value, growing: true },
    { environment: process.env, offline: true }
  )
  const refused = (found: ReadonlyArray<Finding>) =>
    invalidConfiguration(file, found.map((finding) => YamlDocument.problemAt(yaml, finding)))
  if (findings.length > 0) return yield* refused(findings)
  const written = Documents.rowsOf(yaml.value)
  const rows = yield* Effect.forEach(
    written.rows,
    (row) => Effect.map(PlainSecrets.of(row, directory), (secrets): ApplyRows.Wanted => ({ ...row, secrets }))
  )
  const unstorable = rows.flatMap((row) =>
    Storable.problems(row).map((finding) => ({ ...finding, path: Documents.pathInFile(yaml.value, finding.path) }))
  )
  const plain = encrypt ?
    [] :
    rows.flatMap((row) =>
      row.secrets.map(({ path }) =>
        PlainSecrets.refusal(Documents.pathInFile(yaml.value, [...PlainSecrets.documentPath(row), ...path]))
      )
    )
  const all = [...written.findings, ...unstorable, ...plain]
  if (all.length > 0) return yield* refused(all)

  const applied = yield* using(
    url,
    // A dry run makes no tables either.
    Effect.andThen(dryRun ? Effect.void : Tables.prepare, ApplyRows.apply(rows, { dryRun, prune, keys }))
  )
  return {
    command: "apply",
    data: { file, dryRun, ...applied },
    text: render(applied, options)
  }
})
