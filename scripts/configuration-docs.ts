/**
 * Writes docs/configuration.md from the schemas that decode the configuration: `node scripts/configuration-docs.ts`.
 *
 * With `--check` it only compares, for CI: the page can't say other than what the code does. The options of plugins have pages of their own (plugin-docs.ts).
 */
import { Config } from "@etl-stream/runner/Config"
import { markdown, options } from "@etl-stream/runner/schema/OptionTable"
import { readFileSync, writeFileSync } from "node:fs"

/** Sections that have a table of their own. */
const elsewhere = new Set(["pipelines", "alerts"])

const page = `# Configuration

<!-- Written by scripts/configuration-docs.ts from the schemas; edit those. -->

A YAML file, or [tables in PostgreSQL](configuration-database.md) that say the same. \`\${env:NAME}\`, \`\${env:NAME:-default}\`, \`\${file:path}\` and
[\`\${enc:…}\`](configuration-database.md#secrets) are resolved in values (never in keys or structure), after parsing; a number or a boolean may come from there too. Paths are relative to the file. Durations are written \`5 seconds\`, sizes \`16MiB\`. Unknown keys are errors.
\`etl-stream validate file.yaml\` names every problem with its path, line and remedy; deprecated keys are warnings. Examples: [examples/](../examples). Completion and checks in editors: [editor.md](editor.md).

The options of plugins: [plugins/reference](plugins/reference/README.md).

## The file

${markdown(options(Config, [], elsewhere))}

## A rule of \`alerts\`

${markdown(options(Config, ["alerts", 0]))}

## A pipeline

${markdown(options(Config, ["pipelines", "any"]))}
`

const file = new URL("../docs/configuration.md", import.meta.url)
if (process.argv.includes("--check")) {
  if (readFileSync(file, "utf8") !== page) {
    console.error("docs/configuration.md is not what the schemas say: run node scripts/configuration-docs.ts")
    process.exitCode = 1
  }
} else writeFileSync(file, page)
