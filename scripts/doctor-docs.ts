/**
 * Writes docs/doctor.md from the checks themselves: `node scripts/doctor-docs.ts`.
 *
 * With `--check` it only compares, for CI: the page can't name a check that there isn't, or leave one out.
 */
import { checks as snowflake } from "@etl-stream/sink-snowflake/Doctor"
import { described as postgres } from "@etl-stream/source-postgres/Doctor"
import { readFileSync, writeFileSync } from "node:fs"

type Described = typeof postgres[number]

const table = (checks: ReadonlyArray<Described>): string =>
  [
    "| check | in order when | otherwise |",
    "| --- | --- | --- |",
    ...checks.map(({ looksAt, name, severities }) => `| \`${name}\` | ${looksAt} | ${severities.join(" or ")} |`)
  ].join("\n")

const page = `# Checking the environment

\`\`\`sh
etl-stream doctor shop.yaml             # every pipeline of the file
etl-stream doctor shop.yaml shop --json # one of them, as one JSON document
\`\`\`

Asks the source and the sink of each pipeline for everything that a run needs, and tells what is in order and what isn't, with the SQL of the remedy: statements to be copied and
run as they are, by whoever may. It changes nothing: no slot, publication, schema or table is made. It may be run while the pipeline runs.

A finding is \`critical\` (a run is impossible, or its result would be wrong), a \`warning\` (it can become so, or something else suffers), \`info\` (worth knowing) or \`ok\`. A run makes
the cheap ones of these checks itself: it refuses to start on critical findings and logs the warnings.

| exit code | meaning |
| --- | --- |
| 0 | nothing critical |
| 1 | nothing critical, but a plugin's checks broke: a defect |
| 2 | a critical finding at any pipeline, or a wrong configuration |
| 3 | nothing critical, but a server couldn't be asked: unreachable, or too busy to answer |

Checks that don't end, because a server accepts the connection and never answers, are given up after a minute (\`--check-timeout "5 minutes"\`): that side couldn't be asked, and the others are
checked all the same.

A server that answers and refuses (wrong password, missing database, no privilege to connect) is a critical finding, \`connection\` or \`login\`: trying again doesn't help.

With \`--json\`, standard output is \`{"ok", "command": "doctor", "exitCode", "critical", "warnings", "unreachable", "configurationWarnings", "pipelines": [{"name", "source": {"plugin", "findings": […]}, "sink": {…}}]}\`;
a finding is \`{"check", "severity", "message", "remedy", "sql": […], "reason"?, "table"?}\`, and a side that couldn't be asked has an \`error\`. The names of checks don't change.

## PostgreSQL (\`@etl-stream/source-postgres\`)

${table(postgres)}

What can't be asked by SQL is not checked: the free space of the server's disk, and whether its minor version is the newest. The role needs no privilege besides those of a run, but
without \`pg_monitor\` it sees neither the size of the log nor the transactions of other roles (\`monitoring\` says so).

## Snowflake (\`@etl-stream/sink-snowflake\`)

${table(snowflake)}

Needs no warehouse. Whether the role may create what isn't there yet is not asked: \`schemas\` names the grant. Nothing here has been tested on Snowflake itself, see
[assumptions.md](assumptions.md).

## In plugins of your own

A plugin may have \`check\` besides \`make\` (see \`Plugin\` in \`@etl-stream/core\`): it gives findings, and fails only when the other side can't be asked. The module \`Check\` has
checks that judge facts, and \`evaluate\`.
`

const file = "docs/doctor.md"
if (!process.argv.includes("--check")) writeFileSync(file, page)
else if (readFileSync(file, "utf8") !== page) {
  console.error(`${file} is not what the checks say: run \`node scripts/doctor-docs.ts\``)
  process.exitCode = 1
}
