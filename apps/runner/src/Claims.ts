/**
 * What a pipeline must not use before another one that ends is done with it: what its plugins say (`Plugin.claims`).
 *
 * A plugin that says nothing claims everything of its kind, so that its pipelines never overlap while one takes over from another.
 */
import type { Kind } from "@etl-stream/core/Plugin"
import type { PipelineConfiguration, Stage } from "./Configuration.ts"

export type Claims = ReadonlyArray<string>

const ofStage = <K extends Kind>(stage: Stage<K>, pipeline: string, directory: string): Claims => {
  const { name } = stage.plugin
  const said = stage.plugin.claims?.(stage.options, { pipeline, directory }) ?? ["*"]
  return said.map((claim) => `${name} ${claim}`)
}

export const of = ({ deadLetters, name, sink, source }: PipelineConfiguration, directory: string): Claims => [
  ...ofStage(source, name, directory),
  ...ofStage(sink, name, directory),
  // Stores of letters serve several at once, unless one says otherwise.
  ...(deadLetters?.plugin.claims === undefined ? [] : ofStage(deadLetters, name, directory))
]

const meets = (one: string, other: string): boolean =>
  one === other ||
  (one.endsWith("*") && other.startsWith(one.slice(0, -1))) ||
  (other.endsWith("*") && one.startsWith(other.slice(0, -1)))

/** Whether two pipelines claim something in common. */
export const overlap = (some: Claims, others: Claims): boolean =>
  some.some((one) => others.some((other) => meets(one, other)))
