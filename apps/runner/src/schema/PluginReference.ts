/**
 * What is to be known of one plugin, from its definition: for `etl-stream plugin docs` and the reference pages.
 */
import type { AnyPlugin, Example, Kind, Stability } from "@etl-stream/core/Plugin"
import * as Yaml from "yaml"
import { kinds } from "../PluginShape.ts"
import * as OptionTable from "./OptionTable.ts"

export interface Reference {
  /** As configurations name it. */
  readonly name: string
  readonly kind: Kind
  readonly version: string
  readonly stability: Stability
  readonly summary: string
  /** In Markdown. */
  readonly description?: string
  readonly options: ReadonlyArray<OptionTable.Option>
  readonly examples: ReadonlyArray<{
    readonly title: string
    /** The part of a configuration that has it. */
    readonly yaml: string
  }>
}

export { kinds }

const relied: Readonly<Record<Stability, string>> = {
  experimental: "experimental: it may change or go with any version",
  beta: "beta: young, but its options stay",
  stable: "stable"
}

/** The part of a configuration that has a plugin of this kind, with `options`. */
const placed = (name: string, kind: Kind, { options }: Example): unknown => {
  const stage = { plugin: name, ...(Object.keys(options).length === 0 ? {} : { options }) }
  switch (kind) {
    case "transform":
      return { transforms: [stage] }
    case "notifier":
      return { notifiers: { [name.slice(name.lastIndexOf(":") + 1).replace(/[^A-Za-z0-9_-]/g, "") || "main"]: stage } }
    case "monitor":
      return { monitors: { main: stage } }
    default:
      return { [kind]: stage }
  }
}

/** `plugin`, which configurations call `name`. */
export const make = (name: string, plugin: AnyPlugin): Reference => ({
  name,
  kind: plugin.kind,
  version: plugin.version,
  stability: plugin.stability ?? "stable",
  summary: plugin.summary,
  ...(plugin.description === undefined ? {} : { description: plugin.description }),
  options: OptionTable.options(plugin.config),
  examples: (plugin.examples ?? []).map((example) => ({
    title: example.title,
    yaml: Yaml.stringify(placed(name, plugin.kind, example), { lineWidth: 0 })
  }))
})

const sentence = (text: string): string => /[.!?]$/.test(text) ? text : `${text}.`

/** `reference` as a page. `version`: whether it says which version it is of. */
export const markdown = (
  { description, examples, kind, name, options, stability, summary, version }: Reference,
  says: { readonly version: boolean }
): string =>
  [
    `# \`${name}\``,
    sentence(summary),
    `A ${kinds[kind]}${says.version ? `, version ${version}` : ""}; ${relied[stability]}.`,
    ...(description === undefined ? [] : [description.trim()]),
    "## Options",
    OptionTable.markdown(options),
    ...(examples.length === 0 ? [] : ["## Examples"]),
    ...examples.flatMap(({ title, yaml }) => [`${title}:`, `\`\`\`yaml\n${yaml.trimEnd()}\n\`\`\``])
  ].join("\n\n")
