/**
 * "Did you mean …?": the known name that an unknown one was probably meant to be.
 */

/** Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`. */
const distance = (a: string, b: string): number => {
  const rows = Array.from(
    { length: a.length + 1 },
    (_, i) => Array.from({ length: b.length + 1 }, (_, j) => i === 0 ? j : j === 0 ? i : 0)
  )
  const at = (i: number, j: number): number => rows[i]?.[j] ?? Infinity
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let best = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, at(i - 2, j - 2) + 1)
      const row = rows[i]
      if (row !== undefined) row[j] = best
    }
  }
  return at(a.length, b.length)
}

const normalize = (name: string): string => name.toLowerCase().replace(/[-_\s]/g, "")

/** Names longer than this are no misspelling of ours, and comparing them is slow. */
const longest = 100

/** The closest of `known`, when it is close enough to be meant: a third of its letters may differ. */
export const closest = (name: string, known: Iterable<string>): string | undefined => {
  if (name.length > longest) return undefined
  let best: string | undefined
  let least = Infinity
  for (const candidate of known) {
    const edits = distance(normalize(name), normalize(candidate))
    if (edits <= Math.max(1, Math.floor(candidate.length / 3)) && edits < least) {
      best = candidate
      least = edits
    }
  }
  return best
}

/** `a, b and c` with `conjunction` before the last. */
export const enumerate = (items: ReadonlyArray<string>, conjunction: "and" | "or"): string =>
  items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} ${conjunction} ${items[items.length - 1]}`
