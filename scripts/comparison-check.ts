/**
 * Every test that docs/comparison.md cites as a proof exists, under that title, in the file that its link names: `node scripts/comparison-check.ts`.
 *
 * A citation is a link to a test file whose text is the test's title. Parts of titles that are computed (`${…}`) stand for any text.
 */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"

const page = "docs/comparison.md"

const escaped = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")

/** What the titles of a file's tests look like, from first to last character; `scenario` is `it` with a fixture. */
const titles = (source: string): ReadonlyArray<RegExp> =>
  [...source.matchAll(/\b(?:it(?:\.\w+)*|scenario)\(\s*(?:"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`)/g)].map((
    [, plain, template]
  ) =>
    plain === undefined
      ? new RegExp(`^${(template ?? "").split(/\$\{[^}]*\}/).map(escaped).join(".+")}$`)
      : new RegExp(`^${escaped(plain.replaceAll("\\\"", "\""))}$`)
  )

const text = readFileSync(page, "utf8")
const citations = [...text.matchAll(/\[([^\]]+)\]\(([^)]+\.test\.ts)\)/g)]
const problems = citations.flatMap(([, title = "", link = ""]) => {
  const file = join("docs", link)
  if (!existsSync(file)) return [`there is no ${file}`]
  return titles(readFileSync(file, "utf8")).some((known) => known.test(title))
    ? []
    : [`${file} has no test "${title}"`]
})
// A page without citations would pass whatever it claimed.
if (citations.length === 0) problems.push("no test is cited")
for (const problem of problems) console.error(`${page}: ${problem}`)
if (problems.length > 0) process.exitCode = 1
