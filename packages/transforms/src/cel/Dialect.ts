/**
 * From an expression as people write it to one that the library evaluates as we mean it.
 *
 * The expression is parsed, looked through, and written anew: columns by their number, `column("odd name")` too, `x == null` as the question whether the column is
 * NULL (everything else that meets a NULL comes to NULL), `timestamp` and `matches` as ours. Positions in errors are those of what was written.
 */
import { type ASTNode, ParseError } from "@marcbachmann/cel-js"
import { didYouMean } from "../ClosestName.ts"
import * as Library from "./Library.ts"
import { type Problem, problem } from "./Problem.ts"

export const longestExpression = 10_000

/** Loops within loops multiply; two deep is what a list of lists takes. */
const deepestLoop = 2

const loops: ReadonlySet<string> = new Set(["map", "filter", "all", "exists", "exists_one", "bind"])

interface Edit {
  readonly from: number
  readonly to: number
  readonly text: string
}

/** An expression, parsed. */
export interface Parsed {
  readonly text: string
  readonly ast: ASTNode
}

/** An expression written anew. */
export interface Rewritten {
  readonly text: string
  /** Indexes of the columns that it reads, ascending. */
  readonly columns: ReadonlyArray<number>
  /** Position in the expression as it was written. */
  readonly original: (position: number) => number
}

/** Variables of the rewritten expression: a column's value, and whether it is NULL. */
export const valueName = (index: number): string => `value__${index}`
export const nullName = (index: number): string => `null__${index}`

const internal = /__\d*$/

/** The library's error as a problem; its own message may quote values, which at this stage are the expression's own. */
export const problemOf = (error: unknown, original: (position: number) => number = (same) => same): Problem => {
  const described = error as { readonly summary?: unknown; readonly range?: { readonly start: number } } // errors of the library have these
  const summary = typeof described.summary === "string" ? described.summary : "it can't be read"
  const readable = summary.replaceAll(Library.timestampFunction, "timestamp").replaceAll(
    Library.matchesFunction,
    "matches"
  )
  return problem(
    readable,
    "Correct the expression; docs/transforms.md has what can be used in one.",
    described.range === undefined ? undefined : original(described.range.start)
  )
}

/** Parses an expression, without knowing the table's columns. */
export const parse = (text: string): Parsed | Problem => {
  if (text.length > longestExpression) {
    return problem(
      `it is longer than ${longestExpression} characters`,
      "Look values up with the transform enrich instead."
    )
  }
  try { // The library reports by throwing.
    const { ast } = Library.base.parse(text)
    return checkLoops(ast, 0) ?? checkPatterns(ast) ?? { text, ast }
  } catch (error) {
    if (error instanceof ParseError) return problemOf(error)
    return problem("it is nested too deeply", "Write it in a flatter way.")
  }
}

export const isProblem = (value: object): value is Problem => "hint" in value

/** The nodes right below a node. */
const children = (node: ASTNode): ReadonlyArray<ASTNode> => {
  switch (node.op) {
    case "value":
    case "id":
      return []
    case ".":
    case ".?":
      return [node.args[0]]
    case "call":
      return node.args[1]
    case "rcall":
      return [node.args[1], ...node.args[2]]
    case "map":
      return node.args.flat()
    case "!_":
    case "-_":
      return [node.args]
    default:
      return node.args
  }
}

const checkLoops = (node: ASTNode, depth: number): Problem | undefined => {
  const isLoop = node.op === "rcall" && loops.has(node.args[0])
  const below = depth + (isLoop ? 1 : 0)
  if (below > deepestLoop) {
    return problem(
      `loops and bindings may not be more than ${deepestLoop} deep in one another`,
      "Write it in a flatter way, or compute a part of it in a column of its own before.",
      node.start
    )
  }
  for (const child of children(node)) {
    const found = checkLoops(child, below)
    if (found !== undefined) return found
  }
  return undefined
}

/** Regular expressions are literals, and are compiled before anything is run. */
const checkPatterns = (node: ASTNode): Problem | undefined => {
  if (node.op === "rcall" && node.args[0] === "matches" && node.args[2].length === 1) {
    const [literal] = node.args[2]
    if (literal?.op !== "value" || typeof literal.args !== "string") {
      return problem(
        "the pattern of matches must be written out",
        "Use a literal, as in `name.matches(\"^A\")`.",
        node.start
      )
    }
    try { // The library for patterns reports by throwing.
      Library.pattern(literal.args)
    } catch {
      return problem(
        "the pattern of matches is no regular expression of RE2",
        "RE2 has no backreferences; see its documentation for the syntax.",
        literal.start
      )
    }
  }
  for (const child of children(node)) {
    const found = checkPatterns(child)
    if (found !== undefined) return found
  }
  return undefined
}

/** Whether something is left that is replaced by ours: never, but that ours are used is worth a second look. */
export const hasReplaced = (node: ASTNode): boolean =>
  (node.op === "call" && node.args[0] === "timestamp") || (node.op === "rcall" && node.args[0] === "matches") ||
  children(node).some(hasReplaced)

/** Names that a loop declares, for what is in it. */
const declares = (node: ASTNode): string | undefined => {
  if (node.op !== "rcall" || !loops.has(node.args[0])) return undefined
  const [variable] = node.args[2]
  return variable?.op === "id" ? variable.args : undefined
}

/** Writes `parsed` anew for a table with columns of these names. */
export const rewrite = (parsed: Parsed, names: ReadonlyArray<string>): Rewritten | Problem => {
  const edits: Array<Edit> = []
  const columns = new Set<number>()
  const indexes = new Map(names.map((name, index) => [name, index]))

  const columnOf = (node: ASTNode, scope: ReadonlySet<string>): number | Problem | undefined => {
    if (node.op === "call" && node.args[0] === "column") {
      const [argument, ...others] = node.args[1]
      if (argument?.op !== "value" || typeof argument.args !== "string" || others.length > 0) {
        return problem("column takes the name of a column in quotes", "As in `column(\"Order No.\")`.", node.start)
      }
      return indexes.get(argument.args) ??
        problem(
          `there is no column ${argument.args}`,
          `Correct the name.${didYouMean(argument.args, names)}`,
          node.start
        )
    }
    return node.op === "id" && !scope.has(node.args) ? indexes.get(node.args) : undefined
  }

  const visit = (node: ASTNode, scope: ReadonlySet<string>): Problem | undefined => {
    const index = columnOf(node, scope)
    if (typeof index === "object") return index
    if (index !== undefined) {
      columns.add(index)
      edits.push({ from: node.start, to: node.end, text: valueName(index) })
      return undefined
    }
    if (node.op === "id") {
      if (internal.test(node.args) || (!scope.has(node.args) && !Library.reserved.has(node.args))) {
        const meant = didYouMean(node.args, names)
        return problem(
          `there is no column ${node.args}`,
          meant === "" ? "Correct the name; text is written in quotes." : `Correct the name.${meant}`,
          node.start
        )
      }
      return undefined
    }
    if (node.op === "==" || node.op === "!=") {
      const [left, right] = node.args
      const isNull = (side: ASTNode): boolean => side.op === "value" && side.args === null
      const asked = isNull(right) ? left : isNull(left) ? right : undefined
      const column = asked === undefined ? undefined : columnOf(asked, scope)
      if (typeof column === "object") return column
      if (asked !== undefined && column !== undefined) {
        const literal = asked === left ? right : left
        columns.add(column)
        edits.push({ from: asked.start, to: asked.end, text: nullName(column) })
        edits.push({ from: literal.start, to: literal.end, text: "true" })
        return undefined
      }
    }
    if (node.op === "call" && node.args[0] === "timestamp") {
      edits.push({ from: node.start, to: node.start + "timestamp".length, text: Library.timestampFunction })
    }
    if (node.op === "call" && internal.test(node.args[0])) {
      return problem(`there is no function ${node.args[0]}`, "Correct the name.", node.start)
    }
    if (node.op === "rcall" && node.args[0] === "matches") {
      const from = parsed.text.indexOf("matches", node.args[1].end)
      edits.push({ from, to: from + "matches".length, text: Library.matchesFunction })
    }
    const declared = declares(node)
    if (declared === undefined || node.op !== "rcall") {
      for (const child of children(node)) {
        const found = visit(child, scope)
        if (found !== undefined) return found
      }
      return undefined
    }
    const inner = new Set(scope).add(declared)
    const isBinding = node.args[0] === "bind"
    const [, receiver, [, ...others]] = node.args
    const found = visit(receiver, scope)
    if (found !== undefined) return found
    for (const [position, argument] of others.entries()) {
      // What a binding is bound to doesn't know its name yet.
      const problem = visit(argument, isBinding && position === 0 ? scope : inner)
      if (problem !== undefined) return problem
    }
    return undefined
  }

  const found = visit(parsed.ast, new Set())
  if (found !== undefined) return found
  edits.sort((a, b) => a.from - b.from)
  let text = ""
  let at = 0
  const marks: Array<{ readonly rewritten: number; readonly original: number }> = [{ rewritten: 0, original: 0 }]
  for (const edit of edits) {
    text += parsed.text.slice(at, edit.from)
    marks.push({ rewritten: text.length, original: edit.from })
    text += edit.text
    at = edit.to
    marks.push({ rewritten: text.length, original: edit.to })
  }
  text += parsed.text.slice(at)
  return {
    text,
    columns: [...columns].sort((a, b) => a - b),
    original: (position) => {
      const mark = marks.findLast(({ rewritten }) => rewritten <= position) ?? { rewritten: 0, original: 0 }
      return Math.min(mark.original + position - mark.rewritten, parsed.text.length)
    }
  }
}
