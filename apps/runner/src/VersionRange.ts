/**
 * What a package.json asks of another package's version, compared with the version that is there.
 */
import semver from "semver"

/**
 * How a version stands to a range: `older` than all that it allows, `newer`, `within`, or `unknown` where the range is no range of versions (`workspace:*`, a
 * tag, a Git URL). A version between two alternatives of the range counts as `newer`.
 *
 * Prereleases count like other versions: 1.2.0-beta.1 is within ^1.1.0, and older than ^1.2.0.
 */
export type Standing = "older" | "newer" | "within" | "unknown"

const options = { includePrerelease: true }

export const judge = (range: string, version: string): Standing => {
  const valid = semver.validRange(range, options)
  if (valid === null || semver.valid(version) === null) return "unknown"
  if (semver.satisfies(version, valid, options)) return "within"
  return semver.ltr(version, valid, options) ? "older" : "newer"
}

/** The least version that `range` allows; undefined where it is no range. */
export const least = (range: string): string | undefined =>
  semver.validRange(range, options) === null ? undefined : semver.minVersion(range)?.version

/** Whether `range` allows every version. */
export const isAny = (range: string): boolean => semver.validRange(range, options) === "*"

/** The range of what doesn't break what was written for the least version of `range`: what an exact version in `dependencies` means to somebody else. */
export const loosened = (range: string): string => {
  const version = least(range)
  return version === undefined ? range : `^${version}`
}
