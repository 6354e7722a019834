/**
 * The name that somebody meant, for messages.
 */

/** Number of letters to change, add or leave out on the way from `a` to `b`. */
const distance = (a: string, b: string): number => {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const current = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      current.push(Math.min(replaced, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1))
    }
    previous = current
  }
  return previous[b.length] ?? 0
}

/** The one of `known` that is nearest to `name`; undefined when none is near. */
export const closestName = (name: string, known: Iterable<string>): string | undefined => {
  if (name.length > 100) return undefined
  let best: string | undefined
  let least = Math.max(name.length < 4 ? 1 : 2, Math.floor(name.length / 3)) + 1
  for (const candidate of known) {
    const changes = candidate.toLowerCase() === name.toLowerCase()
      ? 0
      : Math.abs(candidate.length - name.length) >= least
      ? least
      : distance(name.toLowerCase(), candidate.toLowerCase())
    if (changes < least) {
      least = changes
      best = candidate
    }
  }
  return best
}

/** ` Did you mean …?`, or nothing. */
export const didYouMean = (name: string, known: Iterable<string>): string => {
  const meant = closestName(name, known)
  return meant === undefined ? "" : ` Did you mean ${meant}?`
}
