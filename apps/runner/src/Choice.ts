/**
 * Which pipeline and tables of a configuration a command is about.
 */
import { parseTableId, type TableId, tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import { type CommandError, usage } from "./CommandError.ts"
import type { Configuration, PipelineConfiguration } from "./Configuration.ts"
import { closest, enumerate } from "./Suggestion.ts"

/** The pipeline that is `wanted`, or the only one that there is. */
export const pipeline = (
  { pipelines }: Configuration,
  wanted: string | undefined
): Effect.Effect<PipelineConfiguration, CommandError> => {
  const names = pipelines.map(({ name }) => name)
  const listed = enumerate(names.map((name) => `\`${name}\``), "or")
  if (wanted !== undefined) {
    const found = pipelines.find(({ name }) => name === wanted)
    if (found !== undefined) return Effect.succeed(found)
    const meant = closest(wanted, names)
    return Effect.fail(
      usage(
        `There is no pipeline ${wanted}`,
        meant === undefined ? `The file has ${listed}.` : `Did you mean \`${meant}\`?`
      )
    )
  }
  const [only, ...others] = pipelines
  return only !== undefined && others.length === 0
    ? Effect.succeed(only)
    : Effect.fail(usage("The file has several pipelines", `Say which one with \`--pipeline\`: ${listed}.`))
}

/** The table that `text` names. */
export const table = (text: string): Effect.Effect<TableId, CommandError> => {
  const name = parseTableId(text)
  return name === undefined
    ? Effect.fail(
      usage(
        `${text} is not a table's name`,
        "Write it as `schema.name`, as the source spells it; a part with a dot or a quote goes in double quotes: 'public.\"odd.name\"'."
      )
    )
    : Effect.succeed(tableId(name))
}
