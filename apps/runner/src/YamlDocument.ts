/**
 * A YAML file as a plain value, with the place in the text of every key and value.
 *
 * Syntax errors, duplicate keys, a second document, unknown tags and runaway aliases are findings with their own place: `value` is there only when
 * there is none of them.
 */
import * as Yaml from "yaml"
import { formatPath, type Path, type Problem } from "./Problem.ts"

export interface Place {
  /** From 1. */
  readonly line: number
  /** From 1. */
  readonly column: number
}

export interface YamlDocument {
  readonly value: unknown
  readonly problems: ReadonlyArray<Problem>
  /** Where the key or value at `path` stands; the nearest place above it when it is absent. */
  readonly place: (path: Path, at: "key" | "value") => Place
}

const remedies: Partial<Record<Yaml.ErrorCode, string>> = {
  DUPLICATE_KEY: "Keep one of the two keys.",
  TAB_AS_INDENT: "Indent with spaces.",
  BAD_INDENT: "Indent the keys of one mapping equally.",
  MULTIPLE_DOCS: "Keep one document per file: remove the `---` separator and what follows it.",
  TAG_RESOLVE_FAILED: "Remove the tag: values need no `!tags` here."
}

const messages: Partial<Record<Yaml.ErrorCode, string>> = {
  DUPLICATE_KEY: "The key appears twice in this mapping.",
  MULTIPLE_DOCS: "The file holds more than one YAML document.",
  TAB_AS_INDENT: "A tab is used for indentation."
}

/** The first sentence of the parser's message: what follows it quotes the text. */
const firstLine = (message: string): string =>
  (message.split("\n")[0] ?? message).replace(/ at line \d+, column \d+:?$/, "")

/** Parses `text`. */
export const parse = (text: string): YamlDocument => {
  const lines = new Yaml.LineCounter()
  const document = Yaml.parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, merge: true })
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(1, line), column: Math.max(1, col) }
  }

  const offsetOf = (path: Path, at: "key" | "value"): number => {
    let node: unknown = document.contents
    let offset = Yaml.isNode(node) ? node.range?.[0] ?? 0 : 0
    for (const [index, part] of path.entries()) {
      if (Yaml.isAlias(node)) node = node.resolve(document)
      if (Yaml.isMap(node)) {
        const pair = node.items.find(({ key }) => String(Yaml.isScalar(key) ? key.value : key) === String(part))
        if (pair === undefined) return offset
        const key = Yaml.isNode(pair.key) ? pair.key.range?.[0] : undefined
        const value = Yaml.isNode(pair.value) ? pair.value.range?.[0] : undefined
        // A missing key of a mapping is reported at the mapping's own key, which is easier to find than its first entry.
        offset = (index === path.length - 1 && at === "value" && !Yaml.isCollection(pair.value) ? value : key) ??
          value ?? offset
        node = pair.value
      } else if (Yaml.isSeq(node)) {
        node = node.items[Number(part)]
        if (!Yaml.isNode(node)) return offset
        offset = node.range?.[0] ?? offset
      } else return offset
    }
    return offset
  }

  const problem = (offset: number, message: string, remedy: string): Problem => ({
    path: "",
    ...place(offset),
    message,
    remedy
  })
  // What follows a syntax error is mostly its consequence; a duplicate key stands for itself.
  const errors = [...document.errors, ...document.warnings].filter(({ code }, index) =>
    index === 0 || code === "DUPLICATE_KEY"
  )
  const problems = errors.map((error) =>
    problem(
      error.pos[0],
      messages[error.code] ?? `${firstLine(error.message).replace(/\.$/, "")}.`,
      remedies[error.code] ?? "Correct the YAML."
    )
  )
  Yaml.visit(document, {
    Alias: (_, alias) => {
      if (alias.resolve(document) !== undefined) return
      problems.push(
        problem(
          alias.range?.[0] ?? 0,
          `There is no anchor \`&${alias.source}\`.`,
          "Define the anchor before the alias, or quote the text if it is none."
        )
      )
    }
  })
  let value: unknown
  if (problems.length === 0) {
    try {
      value = document.toJS({ maxAliasCount: 100 })
    } catch {
      problems.push(problem(0, "The aliases of the YAML expand to too much.", "Use fewer aliases."))
    }
  }
  return { value, problems, place: (path, at) => place(offsetOf(path, at)) }
}

/** The problem at `path`, with its place. */
export const problemAt = (
  document: YamlDocument,
  finding: { readonly path: Path; readonly at: "key" | "value"; readonly message: string; readonly remedy: string }
): Problem => ({
  path: formatPath(finding.path),
  ...document.place(finding.path, finding.at),
  message: finding.message,
  remedy: finding.remedy
})
