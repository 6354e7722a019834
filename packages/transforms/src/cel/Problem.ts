/**
 * What is wrong with an expression, and where.
 */

export interface Problem {
  /** One sentence without a full stop. */
  readonly message: string
  readonly hint: string
  /** Index of the character in the expression, from 0; undefined: the whole of it. */
  readonly at: number | undefined
}

export const problem = (message: string, hint: string, at?: number): Problem => ({ message, hint, at })

/** `The expression is wrong at character 7 (line 2, character 3): …`; without line for an expression of one line. */
export const describe = (text: string, { at, message }: Problem): string => {
  if (at === undefined) return `The expression: ${message}`
  const lines = text.slice(0, at).split("\n")
  const place = text.includes("\n")
    ? `line ${lines.length}, character ${(lines[lines.length - 1]?.length ?? 0) + 1}`
    : `character ${at + 1}`
  return `The expression at ${place}: ${message}`
}
