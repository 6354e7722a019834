/**
 * What the rows of a snapshot come to: the configuration of all pipelines that are right, and what is wrong with which row.
 *
 * Each pipeline is looked at by itself, with the source and the sink that it names, so that what is wrong with one disables it alone. It is looked at again when
 * one of these rows changed, when something was wrong with it, or when everything is to be looked at anew: references of a pipeline that is right are not
 * resolved over and over.
 */
import * as Effect from "effect/Effect"
import { type CommandError, invalidConfiguration } from "../CommandError.ts"
import type { Config } from "../Config.ts"
import * as Configuration from "../Configuration.ts"
import * as ConfigurationChange from "../ConfigurationChange.ts"
import { type Finding, formatPath, type Problem } from "../Problem.ts"
import * as Redaction from "../Redaction.ts"
import { enumerate } from "../Suggestion.ts"
import * as Documents from "./Documents.ts"
import { type Content, keyOf, type Row, type Snapshot } from "./Rows.ts"

/** What is wrong, by the row's `keyOf`: without secrets. */
export type Problems = ReadonlyMap<string, ReadonlyArray<Problem>>

export interface Evaluated {
  /** Pipelines that are right, paused ones too. */
  readonly configuration: Configuration.Configuration
  /** Pipelines whose rows are right, but that are not to run. */
  readonly paused: ReadonlyArray<string>
  readonly problems: Problems
}

export interface Evaluation {
  /** Fails only the first time, when sections of the whole process are wrong. `anew`: references are resolved again. */
  readonly evaluate: (snapshot: Snapshot, anew: boolean) => Effect.Effect<Evaluated, CommandError>
}

export interface Options {
  /** What messages call the database. */
  readonly name: string
  /** Absolute folder that relative paths are relative to. */
  readonly directory: string
  readonly environment: Readonly<Record<string, string | undefined>>
}

interface Part {
  /** The configuration in the rows that it was made of. */
  readonly text: string
  readonly problems: ReadonlyArray<readonly [key: string, problem: Problem]>
}

interface PipelinePart extends Part {
  /** Undefined when something is wrong with it. */
  readonly pipeline: Configuration.PipelineConfiguration | undefined
  readonly input: Config["pipelines"][string] | undefined
  readonly secrets: ReadonlySet<string>
  readonly warnings: ReadonlyArray<Problem>
}

interface SharedPart extends Part {
  readonly rows: ReadonlyArray<Row>
  readonly configuration: Configuration.Configuration
}

/** Keys in rows may be of any length. */
const longestPath = 500

const problemOf = (row: { readonly table: Row["table"]; readonly name: string }, path: Finding["path"]) =>
(
  found: { readonly message: string; readonly remedy: string },
  redact: Redaction.Redaction = Redaction.none
): readonly [string, Problem] => [
  keyOf(row),
  {
    path: formatPath(path).slice(0, longestPath),
    row: keyOf(row),
    message: redact(found.message),
    remedy: redact(found.remedy)
  }
]

/** Whether nothing runs without the row. */
const isEssential = ({ name, table }: Row): boolean => table === "settings" && name !== "alerts"

const textOf = (rows: ReadonlyArray<Row>): string => JSON.stringify(rows.map((row) => [keyOf(row), row.text]))

const byKey = (problems: ReadonlyArray<readonly [string, Problem]>): Problems => {
  const grouped = new Map<string, Array<Problem>>()
  for (const [key, problem] of problems) grouped.set(key, [...grouped.get(key) ?? [], problem])
  return grouped
}

export const make = ({ directory, environment, name }: Options): Evaluation => {
  let shared: SharedPart | undefined
  let parts: ReadonlyMap<string, PipelinePart> = new Map()

  const examine = (rows: ReadonlyArray<Content>) =>
    Configuration.examine(
      // A pipeline has its own part, and comes and goes without the alerts that name it.
      { name, directory, value: Documents.documentOf(rows), growing: true, pipelinesApart: true },
      { environment, offline: false }
    )

  const placed = (warnings: ReadonlyArray<Finding>): ReadonlyArray<Problem> =>
    warnings.flatMap((warning) => {
      const place = Documents.rowAt(warning.path)
      return place === undefined ? [] : [problemOf(place, place.path)(warning)[1]]
    })

  const examineShared = Effect.fnUntraced(function*(rows: ReadonlyArray<Row>) {
    const { configuration: examined, findings, redact, warnings } = yield* examine(rows)
    const configuration = examined === undefined ? undefined : { ...examined, warnings: placed(warnings) }
    const problems = findings.flatMap((finding) => {
      const place = Documents.rowAt(finding.path)
      if (place !== undefined) return [problemOf(place, place.path)(finding, redact)]
      // What is wrong with a section is wrong with all its rows.
      const own = rows.filter(({ table }) => table === finding.path[0])
      const rest = own.length > 0 ? own : [{ table: "settings", name: formatPath(finding.path) } as const]
      return rest.map((row) => problemOf(row, [])(finding, redact))
    })
    return { configuration, problems }
  })

  /**
   * What concerns the whole process. A monitor or notifier that is wrong, or alerts that are, are left out, and keep nothing from starting. A change of a section that needs a restart
   * is told, and what runs goes on with what it has.
   */
  const evaluateShared = Effect.fnUntraced(function*(rows: ReadonlyArray<Row>, anew: boolean) {
    const text = textOf(rows)
    const before = shared
    if (before !== undefined && before.text === text && before.problems.length === 0 && !anew) return before
    const unusable = rows.flatMap((row) => {
      if (row.unreadable !== undefined) return [problemOf(row, [])(row.unreadable)]
      return row.table === "settings" && Documents.isReserved(row.name)
        ? [problemOf(row, [])({ message: "This section is none of `settings`.", remedy: "Delete the row." })]
        : []
    })
    const isIn = (problems: Part["problems"], row: Row) => problems.some(([key]) => key === keyOf(row))
    let right = rows.filter((row) => !isIn(unusable, row))
    let examined = yield* examineShared(right)
    const problems = [...unusable, ...examined.problems]
    while (true) {
      const left = right.filter((row) => isEssential(row) || !isIn(examined.problems, row))
      if (left.length === right.length) break
      right = left
      // What is left may name what was left out.
      examined = yield* examineShared(right)
      problems.push(...examined.problems)
    }
    const { configuration } = examined
    const essential = new Set(rows.filter(isEssential).map(keyOf))
    if (configuration === undefined || problems.some(([key]) => essential.has(key))) {
      if (before !== undefined) return { ...before, text, problems }
      const each = new Map(problems.map(([key, problem]) => [JSON.stringify([key, problem]), problem]))
      return yield* invalidConfiguration(name, [...each.values()])
    }
    const late = before === undefined ? [] : ConfigurationChange.needingRestart(before.configuration, configuration)
    if (before === undefined || late.length === 0) return { text, rows: right, problems, configuration }
    const isLate = ({ name, table }: Row) => table === "settings" && late.includes(name)
    const mixed = [...right.filter((row) => !isLate(row)), ...before.rows.filter(isLate)]
    const adopted = yield* examineShared(mixed)
    return {
      text,
      rows: mixed,
      problems: [
        ...problems,
        ...late.map((section) =>
          problemOf({ table: "settings", name: section }, [])({
            message: `\`${section}\` can't be changed while pipelines run.`,
            remedy: "It takes effect when etl-stream starts again."
          })
        )
      ],
      configuration: adopted.configuration ?? before.configuration
    }
  })

  const evaluatePipeline = Effect.fnUntraced(function*(
    row: Row,
    used: ReadonlyArray<Row>,
    text: string,
    base: SharedPart
  ): Effect.fn.Return<PipelinePart> {
    const refused = (problems: Part["problems"]): PipelinePart => ({
      text,
      problems,
      pipeline: undefined,
      input: undefined,
      secrets: new Set(),
      warnings: []
    })
    const unreadable = [row, ...used].flatMap((row) =>
      row.unreadable === undefined ? [] : [problemOf(row, [])(row.unreadable)]
    )
    if (unreadable.length > 0) return refused(unreadable)
    // Alerts name notifiers, which are none of a pipeline's business.
    const settings = base.rows.filter((row) => row.table === "settings" && isEssential(row))
    const { configuration, findings, redact, warnings } = yield* examine([...settings, ...used, row])
    const pipeline = configuration?.pipelines.find((pipeline) => pipeline.name === row.name)
    const input = configuration?.input.pipelines[row.name]
    if (configuration === undefined || pipeline === undefined || input === undefined) {
      const found: ReadonlyArray<Finding> = findings.length > 0 ? findings : [{
        path: ["pipelines", row.name],
        at: "key",
        message: "The row can't be used.",
        remedy: "Correct its name."
      }]
      return refused(found.map((finding) => {
        const place = Documents.rowAt(finding.path)
        return place === undefined
          ? problemOf(row, finding.path)(finding, redact)
          : problemOf(place, place.path)(finding, redact)
      }))
    }
    return { text, problems: [], pipeline, input, secrets: configuration.secrets, warnings: placed(warnings) }
  })

  const evaluate = Effect.fn("Evaluation.evaluate")(function*(
    snapshot: Snapshot,
    anew: boolean
  ): Effect.fn.Return<Evaluated, CommandError> {
    const { rows } = snapshot
    const base = yield* evaluateShared(
      rows.filter(({ table }) => table === "settings" || table === "monitors" || table === "notifiers"),
      anew
    )
    shared = base
    const stages = new Map(rows.map((row) => [keyOf(row), row]))
    const next = new Map<string, PipelinePart>()
    const extra: Array<readonly [string, Problem]> = []
    for (const row of rows) {
      if (row.table !== "pipelines") continue
      const named = (kind: "source" | "sink"): ReadonlyArray<Row> => {
        const value = typeof row.value === "object" && row.value !== null ? Reflect.get(row.value, kind) : undefined
        const stage = stages.get(`${kind}s/${String(value)}`)
        return stage === undefined ? [] : [stage]
      }
      const used = [...named("source"), ...named("sink")]
      const text = textOf([row, ...used])
      const known = parts.get(row.name)
      const part = known !== undefined && known.text === text && known.problems.length === 0 && !anew
        ? known
        : yield* evaluatePipeline(row, used, text, base)
      next.set(row.name, part)
      const elsewhere = [...new Set(part.problems.map(([key]) => key))].filter((key) => key !== keyOf(row))
      if (elsewhere.length > 0) {
        extra.push(
          problemOf(row, [])({
            message: `Something is wrong with ${enumerate(elsewhere.map((key) => `\`${key}\``), "and")}.`,
            remedy: "Mend it there."
          })
        )
      }
    }
    parts = next
    // What two pipelines find wrong with a source that they share is told once.
    const own = [...base.problems, ...[...next.values()].flatMap(({ problems }) => problems), ...extra]
    const problems = byKey([...new Map(own.map((problem) => [JSON.stringify(problem), problem])).values()])
    const right = [...next.values()].flatMap(({ input, pipeline }) =>
      input === undefined || pipeline === undefined ? [] : [{ input, pipeline }]
    )
    const secrets = new Set([base.configuration.secrets, ...[...next.values()].map(({ secrets }) => secrets)].flatMap(
      (secrets) => [...secrets]
    ))
    const warnings = [...base.configuration.warnings, ...[...next.values()].flatMap(({ warnings }) => warnings)]
    const all: Configuration.Configuration = {
      ...base.configuration,
      warnings: [...new Map(warnings.map((warning) => [JSON.stringify(warning), warning])).values()],
      pipelines: right.map(({ pipeline }) => pipeline),
      input: {
        ...base.configuration.input,
        pipelines: Object.fromEntries(right.map(({ input, pipeline }) => [pipeline.name, input]))
      },
      secrets,
      redact: Redaction.make(secrets)
    }
    return {
      configuration: all,
      paused: right.flatMap(({ pipeline: { name, status } }) => status === "paused" ? [name] : []),
      problems
    }
  })
  return { evaluate }
}
