/**
 * Relative links in the documentation: each leads to a file that exists, and one whose text is a file's name leads to the file of that name.
 */
import { existsSync, globSync, readFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"

const link = /\[([^\]]*)\]\(([^)\s#]+)(?:#[^)\s]*)?\)/g
const pages = ["README.md", "CONTRIBUTING.md", ...globSync("docs/**/*.md"), ...globSync("packages/*/README.md")]

let broken = 0
for (const page of pages) {
  for (const [whole, text = "", target = ""] of readFileSync(page, "utf8").matchAll(link)) {
    if (/^[a-z]+:/.test(target)) continue
    const exists = existsSync(join(dirname(page), target))
    if (exists && (!text.endsWith(".md") || basename(text) === basename(target))) continue
    console.error(`${page}: ${whole} ${exists ? "names another file than it leads to" : "leads to no file"}`)
    broken += 1
  }
}

console.log(`${pages.length} pages, ${broken} broken links`)
process.exitCode = broken === 0 ? 0 : 1
