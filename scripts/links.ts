/**
 * Relative links in the documentation: each leads to a file that exists, and to a heading that is in it; one whose text is a file's name leads to the file of that name.
 */
import { existsSync, globSync, readFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"

const link = /\[([^\]]*)\]\(([^)\s#]*)(?:#([^)\s]*))?\)/g
const pages = [
  "README.md",
  "CONTRIBUTING.md",
  ...globSync("docs/**/*.md"),
  ...globSync("packages/*/README.md"),
  ...globSync("examples/plugins/{,*/}README.md")
]

const withoutCode = (text: string): string => text.replace(/^ *```.*?^ *```$/gms, "")

/** What a heading is called in links, as GitHub has it. */
const anchorOf = (heading: string): string =>
  heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").trim().toLowerCase().replace(/[^\p{L}\p{N}_\- ]/gu, "")
    .replaceAll(" ", "-")

const anchorsIn = (page: string): ReadonlySet<string> =>
  new Set(
    [...withoutCode(readFileSync(page, "utf8")).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => anchorOf(heading))
  )

const wrong = (page: string, text: string, target: string, anchor: string | undefined): string | undefined => {
  const path = target === "" ? page : join(dirname(page), target)
  if (!existsSync(path)) return "leads to no file"
  if (text.endsWith(".md") && basename(text) !== basename(target)) return "names another file than it leads to"
  return anchor !== undefined && path.endsWith(".md") && !anchorsIn(path).has(anchor)
    ? "leads to no heading"
    : undefined
}

let broken = 0
for (const page of pages) {
  for (const [whole, text = "", target = "", anchor] of withoutCode(readFileSync(page, "utf8")).matchAll(link)) {
    if (/^[a-z]+:/.test(target)) continue
    const problem = wrong(page, text, target, anchor)
    if (problem === undefined) continue
    console.error(`${page}: ${whole} ${problem}`)
    broken += 1
  }
}

console.log(`${pages.length} pages, ${broken} broken links`)
process.exitCode = broken === 0 ? 0 : 1
