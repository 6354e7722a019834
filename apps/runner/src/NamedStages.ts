/**
 * Sources and sinks that a document names in `sources` and `sinks`, put in the place of the names in its pipelines.
 *
 * What follows (references, plugins, options) sees pipelines that are spelled out. `origin` leads from a path in them to where it is written.
 */
import { type Finding, isWithin, type Path } from "./Problem.ts"
import { closest, enumerate } from "./Suggestion.ts"

export interface Expanded {
  readonly value: unknown
  /** Where what stands at a path of `value` is written in the document. */
  readonly origin: (path: Path) => Path
  /** Names that nothing has. */
  readonly findings: ReadonlyArray<Finding>
}

const kinds = [["source", "sources"], ["sink", "sinks"]] as const

type Mapping = Readonly<Record<string, unknown>>

const isMapping = (value: unknown): value is Mapping =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const sectionOf = (document: Mapping, section: string): Mapping => {
  const value = Object.hasOwn(document, section) ? document[section] : undefined
  return isMapping(value) ? value : {}
}

const unknownName = (kind: string, section: string, name: string, known: ReadonlyArray<string>): string => {
  const meant = closest(name, known)
  return meant !== undefined
    ? `Did you mean \`${meant}\`?`
    : known.length === 0
    ? `Add it to \`${section}\`, or write the ${kind} out: \`plugin\` and \`options\`.`
    : `Use ${enumerate(known.slice(0, 20).map((name) => `\`${name}\``), "or")}, or add it to \`${section}\`.`
}

/** Spells out the pipelines of `document`, a plain value. What isn't as it should be is left for decoding to tell. */
export const expand = (document: unknown): Expanded => {
  if (!isMapping(document)) return { value: document, origin: (path) => path, findings: [] }
  const findings: Array<Finding> = []
  const moved = new Map<string, { readonly path: Path; readonly to: Path }>()
  const pipelines = sectionOf(document, "pipelines")
  const expanded = Object.entries(pipelines).map(([name, pipeline]): readonly [string, unknown] => {
    if (!isMapping(pipeline)) return [name, pipeline]
    const stages = kinds.flatMap(([kind, section]): ReadonlyArray<readonly [string, unknown]> => {
      const named = Object.hasOwn(pipeline, kind) ? pipeline[kind] : undefined
      if (typeof named !== "string") return []
      const known = sectionOf(document, section)
      const path = ["pipelines", name, kind]
      if (!Object.hasOwn(known, named)) {
        findings.push({
          path,
          at: "value",
          message: `There is no ${kind} of this name in \`${section}\`.`,
          remedy: unknownName(kind, section, named, Object.keys(known))
        })
        return []
      }
      moved.set(JSON.stringify(path), { path, to: [section, named] })
      return [[kind, known[named]]]
    })
    return [name, Object.fromEntries([...Object.entries(pipeline), ...stages])]
  })
  return {
    value: Object.hasOwn(document, "pipelines") && isMapping(document["pipelines"])
      ? Object.fromEntries([...Object.entries(document), ["pipelines", Object.fromEntries(expanded)]])
      : document,
    origin: (path) => {
      const found = path.length < 3 ? undefined : moved.get(JSON.stringify(path.slice(0, 3)))
      return found === undefined ? path : [...found.to, ...path.slice(3)]
    },
    findings
  }
}

/**
 * The place of what is written at `origin`, the same whether a stage is spelled out or named: a pipeline's own source or sink has the pipeline's
 * name. Encrypted secrets are bound to it.
 */
export const place = (origin: Path): Path => {
  const [section, pipeline, kind, ...rest] = origin
  const found = section === "pipelines" && pipeline !== undefined ? kinds.find(([name]) => name === kind) : undefined
  return found === undefined || pipeline === undefined ? origin : [found[1], pipeline, ...rest]
}

/** Leaves out findings about what a name that nothing has stands for. */
export const withoutConsequences = (
  findings: ReadonlyArray<Finding>,
  names: ReadonlyArray<Finding>
): ReadonlyArray<Finding> => findings.filter(({ path }) => !names.some((name) => isWithin(path, name.path)))
