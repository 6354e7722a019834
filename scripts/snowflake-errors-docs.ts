/**
 * Writes docs/snowflake-errors.md from the tables that the sink itself goes by: `node scripts/snowflake-errors-docs.ts`.
 *
 * With `--check` it only compares, for CI: the page can't say other than what the code does.
 */
import type { Policy } from "@etl-stream/sink-snowflake/ErrorPolicy"
import { sqlEntries } from "@etl-stream/sink-snowflake/ErrorPolicy"
import { entries, malformed } from "@etl-stream/sink-snowflake/StreamingErrorCodes"
import { statuses as httpStatuses } from "@etl-stream/sink-snowflake/StreamingErrors"
import { readFileSync, writeFileSync } from "node:fs"

const act = ({ action, reason }: Policy): string => `${action} (${reason})`

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n")

const streaming = table(
  ["code", "number", "what it means", "what the sink does", "what you can do"],
  entries.map(({ atOpen, code, meaning, number, policy }) => [
    `\`${code}\``,
    number === undefined ? "" : String(number),
    meaning,
    `${act(policy)}${atOpen === undefined ? "" : `; while opening: ${act(atOpen)}`}`,
    policy.hint + (atOpen === undefined || atOpen.hint === policy.hint ? "" : ` While opening: ${atOpen.hint}`)
  ])
)
const statuses = table(
  ["HTTP status", "what it means", "what the sink does", "what you can do"],
  httpStatuses.map(({ meaning, policy, status }) => [status, meaning, act(policy), policy.hint])
)
const sql = table(
  ["code", "what the sink does", "what you can do"],
  sqlEntries.map(([code, policy]) => [`\`${code}\``, act(policy), policy.hint])
)

const page = `# Snowflake's errors, and what the sink does about them

<!-- Written by scripts/snowflake-errors-docs.ts from the sink's own tables; edit those. -->

Error messages of the sink name Snowflake's code, for example \`Appending rows to SHOP__ORDERS__JOURNAL was refused: HTTP 409 ERR_PIPE_IN_INVALID_STATE\`. They never quote Snowflake's own
message, which may hold values of rows. Look the code up here. Nothing here has been tested on Snowflake itself, see [assumptions.md](assumptions.md).

| what the sink does | meaning |
| --- | --- |
| retry | sends the same request again for up to two minutes, at growing intervals or when \`Retry-After\` says; then the run ends, and the runner starts it again from its last durable position |
| refresh | gets a new token and sends the request once more; when that is refused as well, the run ends and needs you |
| reopen | ends the run; the next one opens the channel anew and goes on after what Snowflake has committed, so that nothing is lost or doubled |
| split | sends the rows in halves, and a single row by COPY |
| dead-letter | sends the rows in halves until the refused one is alone; the error names its position (commit LSN and ordinal) |
| quarantine | the error names the table: that table can't go on before you do something |
| stop | ends the run with an error that isn't one table's: it needs you |

In brackets the error's \`reason\`, as logs, the health API and exit codes have it.

## Snowpipe Streaming

A code that isn't in this table is judged by its HTTP status, below. The numbers come in \`status_code\` of answers with HTTP 200;
clients don't agree on what all of them mean, and one that isn't here opens the channel again.
${malformed.join(", ")} stand for malformed requests, and stop the run.

${streaming}

A row that Snowflake takes and then skips has no code: the channel's \`rows_error_count\` rises. That is an error of the table (Rejected), never passed over.

### By HTTP status

${statuses}

## SQL

The driver's and Snowflake's codes for statements, as the sink sees them. Others are judged by their SQLSTATE; an error without a known one is \`Rejected\`.

${sql}

The codes \`000607\` (a deadlock), \`000625\` (a lock that was waited for too long) and \`000630\` (a statement that took too long) and SQLSTATEs of the classes 25 and 40 say that a transaction was rolled back, or is by the sink
after its statement was cancelled: nothing of it was done, so it is tried again, a merge with the table's next one and without ending the run. The third time in a row is the condition
\`transactions-rolled-back\`. After ten times and ten minutes it counts as something that stays, and its table goes to quarantine (Rejected);
a merge's only while merges of other tables are committed. What isn't about one table, and merges that all tables fail with (an outage, a parameter of the account), are tried for as long as it takes, and stay a condition.
`

const file = "docs/snowflake-errors.md"
if (!process.argv.includes("--check")) writeFileSync(file, page)
else if (readFileSync(file, "utf8") !== page) {
  console.error(`${file} is not what the sink's tables say: run \`node scripts/snowflake-errors-docs.ts\``)
  process.exitCode = 1
}
