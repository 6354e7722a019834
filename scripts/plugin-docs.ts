/**
 * Writes docs/plugins/reference, a page for each built-in plugin, from their definitions: `node scripts/plugin-docs.ts`.
 *
 * With `--check` it only compares, for CI: the pages can't say other than what the code does. It takes whatever `PluginLoader.builtIn` has.
 */
import * as PluginLoader from "@etl-stream/runner/PluginLoader"
import * as PluginReference from "@etl-stream/runner/schema/PluginReference"
import * as Effect from "effect/Effect"
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const directory = fileURLToPath(new URL("../", import.meta.url))
const folder = fileURLToPath(new URL("../docs/plugins/reference/", import.meta.url))

const notice = "<!-- Written by scripts/plugin-docs.ts from the plugin's definition; edit that. -->"

const fileOf = (name: string): string => `${name.slice(name.lastIndexOf("/") + 1).replaceAll(":", "-")}.md`

/** Versions would make the pages differ after every release. */
const pageOf = (reference: PluginReference.Reference): string => {
  const [title, ...rest] = PluginReference.markdown(reference, { version: false }).split("\n\n")
  return `${[title, notice, ...rest].join("\n\n")}\n`
}

const references = await Effect.runPromise(
  Effect.gen(function*() {
    const names = yield* Effect.forEach(PluginLoader.builtIn, (name) => PluginLoader.namesIn(name, directory))
    const found = yield* Effect.forEach(names.flat(), (name) =>
      PluginLoader.find(name, directory).pipe(
        Effect.catch((error) => Effect.sync((): undefined => console.warn(`${name}: ${error.message}`)))
      ))
    return found.flatMap((loaded) => loaded === undefined ? [] : [PluginReference.make(loaded.name, loaded.plugin)])
  })
)

const index = `# Built-in plugins

<!-- Written by scripts/plugin-docs.ts from the plugins' definitions; edit those. -->

What each does and every option of it. \`etl-stream plugin docs <name>\` prints the same for any plugin, your own too.

| plugin | kind | what it does |
| --- | --- | --- |
${
  references.map(({ kind, name, summary }) =>
    `| [\`${name}\`](${fileOf(name)}) | ${PluginReference.kinds[kind]} | ${summary} |`
  ).join("\n")
}
`

const pages = new Map([
  ["README.md", index],
  ...references.map((reference) => [fileOf(reference.name), pageOf(reference)] as const)
])
mkdirSync(folder, { recursive: true })
const there = readdirSync(folder).filter((file) => file.endsWith(".md"))

if (process.argv.includes("--check")) {
  const wrong = [
    ...[...pages].filter(([file, text]) => !there.includes(file) || readFileSync(`${folder}${file}`, "utf8") !== text)
      .map(([file]) => file),
    ...there.filter((file) => !pages.has(file))
  ]
  if (wrong.length > 0) {
    console.error(
      `docs/plugins/reference: ${wrong.join(", ")} is not what the plugins say: run node scripts/plugin-docs.ts`
    )
    process.exitCode = 1
  }
} else {
  for (const file of there) if (!pages.has(file)) rmSync(`${folder}${file}`)
  for (const [file, text] of pages) writeFileSync(`${folder}${file}`, text)
}
