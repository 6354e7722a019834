/**
 * Writes docs/configuration.md from the schemas that decode the configuration: `node scripts/configuration-docs.ts`.
 *
 * With `--check` it only compares, for CI: the page can't say other than what the code does.
 */
import { Config as LettersConfig } from "@etl-stream/dead-letters-files"
import { Config as MonitorConfig } from "@etl-stream/monitor-wal/Config"
import { plugins as notifiers } from "@etl-stream/notifiers"
import { AlertRule } from "@etl-stream/runner/alerts/AlertRule"
import { Config as RunnerConfig } from "@etl-stream/runner/Config"
import * as SchemaShape from "@etl-stream/runner/SchemaShape"
import { Config as SinkConfig } from "@etl-stream/sink-snowflake/Config"
import { Config as SourceConfig } from "@etl-stream/source-postgres/Config"
import { Config as RedisConfig } from "@etl-stream/state-redis/Config"
import { plugin as sqlite } from "@etl-stream/state-sqlite"
import type * as Schema from "effect/Schema"
import { readFileSync, writeFileSync } from "node:fs"

type Path = ReadonlyArray<string>

const cell = (text: string): string => text.replaceAll("|", "\\|")

/** Stands for the free names of a mapping. */
const anyName = "<name>"

/** The pipelines have a table of their own. */
const elsewhere: ReadonlySet<string> = new Set(["pipelines"])

/** The rows below `path`, where the key `shown` leads: of a mapping with free names those of what is in it. */
const within = (schema: Schema.Constraint, path: Path, shown: Path): ReadonlyArray<string> => {
  if (elsewhere.has(shown.join("."))) return []
  const shapes = SchemaShape.at(schema, path)
  const named = rows(schema, path, shown)
  return named.length > 0 || SchemaShape.describe(shapes).join() !== "a mapping"
    ? named
    : rows(schema, [...path, anyName], [...shown, anyName])
}

/** A row for each key below `path`, sections before what is in them. */
const rows = (schema: Schema.Constraint, path: Path, shown: Path): ReadonlyArray<string> =>
  SchemaShape.keys(SchemaShape.at(schema, path)).flatMap((key) => {
    const at = [...path, key]
    const nested = within(schema, at, [...shown, key])
    const value = nested.length > 0 ? "section" : SchemaShape.describe(SchemaShape.at(schema, at)).join(" or ")
    const meaning = SchemaShape.description(schema, at) ?? ""
    return [`| \`${[...shown, key].join(".")}\` | ${cell(value)} | ${cell(meaning)} |`, ...nested]
  })

/** The keys below `path` (any name stands for a record's key), as a Markdown table. */
const table = (schema: Schema.Constraint, path: Path = []): string =>
  ["| key | value | meaning |", "| --- | --- | --- |", ...rows(schema, path, [])].join("\n")

const page = `# Configuration

<!-- Written by scripts/configuration-docs.ts from the schemas; edit those. -->

A YAML file, or [tables in PostgreSQL](configuration-database.md) that say the same. \`\${env:NAME}\`, \`\${env:NAME:-default}\`, \`\${file:path}\` and
[\`\${enc:…}\`](configuration-database.md#secrets) are resolved in values (never in keys or structure), after parsing; a number or a boolean may come from there too. Paths are relative to the file. Durations are written \`5 seconds\`, sizes \`16MiB\`. Unknown keys are errors.
\`etl-stream validate file.yaml\` names every problem with its path, line and remedy. Examples: [examples/](../examples).

## The file

${table(RunnerConfig)}

## A rule of \`alerts\`

${table(AlertRule)}

## A pipeline

${table(RunnerConfig, ["pipelines", "any"])}

## Options of \`@etl-stream/source-postgres\`

${table(SourceConfig)}

## Options of \`@etl-stream/sink-snowflake\`

${table(SinkConfig)}

## Options of \`@etl-stream/dead-letters-files\`

A pipeline's store of [dead letters](dead-letters.md).

${table(LettersConfig)}

## Options of \`@etl-stream/state-sqlite\`

${table(sqlite.config)}

## Options of \`@etl-stream/monitor-wal\`

What they come to: [wal-monitor.md](wal-monitor.md).

${table(MonitorConfig)}

## Options of \`@etl-stream/state-redis\`

${table(RedisConfig)}

${Object.values(notifiers).map(({ config, name }) => `## Options of \`${name}\`\n\n${table(config)}`).join("\n\n")}
`

const file = new URL("../docs/configuration.md", import.meta.url)
if (process.argv.includes("--check")) {
  if (readFileSync(file, "utf8") !== page) {
    console.error("docs/configuration.md is not what the schemas say: run node scripts/configuration-docs.ts")
    process.exitCode = 1
  }
} else writeFileSync(file, page)
