/**
 * Which columns of a table a Relation message of the past is about, by the names that they have now.
 *
 * Names are all that a message tells, and the order of columns, which is that of their numbers. The table's origin knows which columns were there
 * at the copy, which of those went, and which were altered since: only these may have had another name. So those that weren't stand where their
 * names are, and between them the others are told by their number. Where columns came and others went, names have to do, and one that nobody knows is not guessed.
 */
import type { Relation } from "./PgOutputDecoder.ts"
import type { Column, Origin } from "./TableOrigin.ts"

/** Names by number that columns had before; nothing is known of those in origins of earlier versions. */
export const formerNames = ({ former }: Origin): ReadonlyArray<readonly [number: number, name: string]> => former ?? []

/** Why a column that got another name can't be taken for the one that it was; undefined when it can. */
export const unlike = (before: Column, now: Column, stored: Origin, current: Origin): string | undefined => {
  const why = `column ${before.name} was renamed to ${now.name}`
  // An earlier version may have had a sink that doesn't know columns by their ids.
  if (stored.former === undefined) return why
  // Its rows are told apart by all of their columns, of which the sink may take the names, too.
  if (current.whole === true) return `${why}, and the table has no key`
  const others = [
    ...stored.columns.filter(({ number }) => number !== now.number),
    ...current.columns.filter(({ number }) => number !== now.number)
  ].map(({ name }) => name)
  const former = formerNames(stored).filter(([number]) => number !== now.number).map(([, name]) => name)
  return [...others, ...former, ...stored.gone].includes(now.name) || others.includes(before.name)
    ? `${why}, and a column had that name before`
    : undefined
}

/** Former names as they are after a step from `stored` to `current`. */
export const follow = (stored: Origin, current: Origin): NonNullable<Origin["former"]> => {
  const now = new Map(current.columns.map(({ name, number }) => [number, name]))
  const before = stored.columns.map(({ name, number }) => [number, name] as const)
  const names = new Map([...formerNames(stored), ...before].map((entry) => [entry.join(" "), entry]))
  return [...names.values()].filter(([number, name]) => now.has(number) && now.get(number) !== name)
}

/** Numbers of columns that may have been renamed since the copy: something altered them, a rename or not. */
export const touched = (stored: Origin, current: Origin): ReadonlyArray<number> => {
  const before = new Map(stored.columns.map((column) => [column.number, column]))
  return current.columns.filter(({ altered, name, number }) => {
    const then = before.get(number)
    return then !== undefined &&
      (stored.touched?.includes(number) === true || then.altered !== altered || then.name !== name)
  }).map(({ number }) => number)
}

/** Numbers of columns that went since the copy, as far as a run has seen them. */
export const left = (stored: Origin, current: Origin): ReadonlyArray<number> => {
  const now = new Set(current.columns.map(({ number }) => number))
  const gone = stored.columns.map(({ number }) => number).filter((number) => !now.has(number))
  return [...new Set([...stored.left ?? [], ...gone])]
}

type Names = ReadonlyArray<string | undefined>

/** Numbers between `after` and `before` of columns that some relation since the copy may have had, that aren't there any more, and that no run has seen. */
const unseen = ({ base, columns, lastNumber, left = [] }: Origin, after: number, before: number): Array<number> => {
  const known = new Set([...columns.map(({ number }) => number), ...left])
  const numbers: Array<number> = []
  for (let number = Math.max(after, base ?? lastNumber) + 1; number <= lastNumber && number < before; number++) {
    if (!known.has(number)) numbers.push(number)
  }
  return numbers
}

/** The same with those that one has. */
const departed = (origin: Origin, after: number, before: number): ReadonlyArray<number> => [
  ...(origin.left ?? []).filter((number) => number > after && number < before),
  ...unseen(origin, after, before)
]

/**
 * Numbers of `count` columns that stand between those numbered `after` and `before`, 0 for one that is gone; undefined when they can't be told. All
 * that were there at the copy and still are must be among them; of those that came since, the older ones came first.
 */
const between = (
  origin: Origin,
  after: number,
  before: number,
  count: number
): ReadonlyArray<number> | undefined => {
  const { base = origin.lastNumber } = origin
  const present = origin.columns.map(({ number }) => number).filter((number) => number > after && number < before)
  const lasting = present.filter((number) => number <= base)
  if (count === lasting.length) return lasting
  const gone = departed(origin, after, before)
  if (count < lasting.length || count > present.length + gone.length) return undefined
  if (gone.length === 0) return present.slice(0, count)
  if (count === present.length + gone.length) {
    return [...present, ...gone].sort((a, b) => a - b).map((number) => present.includes(number) ? number : 0)
  }
  if (present.length > lasting.length) return undefined
  // Each has its place when it is the same whichever of those that are gone were there.
  const numbers = Array.from({ length: count }, () => 0)
  for (const [index, number] of lasting.entries()) {
    const spare = count - lasting.length
    const earlier = gone.filter((other) => other < number).length
    const least = Math.max(0, spare - (gone.length - earlier))
    const most = Math.min(earlier, spare)
    if (least !== most) return undefined
    numbers[index + least] = number
  }
  return numbers
}

/**
 * The same by the names of those columns, where counting isn't enough: as when one column was added and another dropped. Each must have the name of
 * one that is there, or of one that is gone; a column that nobody has seen may have had any.
 */
const betweenByName = (
  origin: Origin,
  after: number,
  before: number,
  names: ReadonlyArray<string>
): ReadonlyArray<number> | undefined => {
  if (unseen(origin, after, before).length > 0) return undefined
  const { base = origin.lastNumber, columns, gone } = origin
  const present = columns.filter(({ number }) => number > after && number < before)
  const byName = new Map(present.map(({ name, number }) => [name, number]))
  const numbers = names.map((name) => byName.get(name) ?? (gone.includes(name) ? 0 : -1))
  const found = numbers.filter((number) => number > 0)
  const latest = found.at(-1) ?? 0
  const whole = present.every(({ number }) => found.includes(number) || (number > base && number > latest))
  const inOrder = found.every((number, index) => index === 0 || number > (found[index - 1] ?? 0))
  return whole && inOrder && !numbers.includes(-1) ? numbers : undefined
}

/** By the order of columns: those that nothing has altered since the copy stand where their names are, and the others between them. */
const byOrder = (
  relation: Relation,
  origin: Origin,
  certain: ReadonlyMap<string, number>,
  trustNames: boolean
): Names | undefined => {
  const now = new Map(origin.columns.map(({ name, number }) => [number, name]))
  const names: Array<string | undefined> = []
  let waiting: Array<string> = []
  let last = 0
  const settle = (before: number): boolean => {
    const numbers = between(origin, last, before, waiting.length) ??
      (trustNames ? betweenByName(origin, last, before, waiting) : undefined)
    names.push(...(numbers ?? []).map((number) => now.get(number)))
    waiting = []
    return numbers !== undefined
  }
  for (const { name } of relation.columns) {
    const number = certain.get(name)
    if (number === undefined) waiting.push(name)
    else {
      if (number <= last || !settle(number)) return undefined
      names.push(name)
      last = number
    }
  }
  return settle(Number.POSITIVE_INFINITY) ? names : undefined
}

/** By their names, of a partition, whose columns may have another order: all must be known, and each only once. */
const byName = (relation: Relation, origin: Origin): Names | undefined => {
  const now = new Map(origin.columns.map(({ name, number }) => [number, name]))
  const numbers = new Map([
    ...formerNames(origin).map(([number, name]) => [name, number] as const),
    ...origin.columns.map(({ name, number }) => [name, number] as const)
  ])
  const names = relation.columns.map(({ name }) => now.get(numbers.get(name) ?? 0))
  const known = names.filter((name) => name !== undefined)
  const { base = origin.lastNumber, gone } = origin
  const complete = origin.columns.every(({ name, number }) => number > base || known.includes(name))
  const strangers = relation.columns.some(({ name }) => !numbers.has(name) && !gone.includes(name))
  return new Set(known).size === known.length && complete && !strangers ? names : undefined
}

/**
 * The names that the columns of a relation have now, undefined for a column that is gone; undefined when that can't be told. `own`: it is the table
 * itself, whose columns come in the order of their numbers, and not a partition. `trustNames`: no column takes another one's name for a while
 * and gives it back, all of it while no run begins; without that more can't be told.
 */
export const namesNow = (
  relation: Relation,
  origin: Origin,
  own: boolean,
  trustNames = true
): Names | undefined => {
  const { base = origin.lastNumber, columns, touched: altered = [] } = origin
  const certain = new Map(
    columns.filter(({ number }) => number <= base && !altered.includes(number)).map((
      { name, number }
    ) => [name, number])
  )
  const there = new Set(relation.columns.map(({ name }) => name))
  if (![...certain.keys()].every((name) => there.has(name))) return undefined
  // Whatever else there was is gone.
  if (certain.size === columns.length) return relation.columns.map(({ name }) => certain.has(name) ? name : undefined)
  return own ? byOrder(relation, origin, certain, trustNames) : byName(relation, origin)
}
