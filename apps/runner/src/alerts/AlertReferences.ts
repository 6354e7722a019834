/**
 * What is wrong between sections of a configuration: rules that name notifiers or pipelines that aren't there, and keys that don't go together.
 */
import type { Finding } from "../Problem.ts"
import { closest, enumerate } from "../Suggestion.ts"
import { type AlertRule, parseWhen } from "./AlertRule.ts"

/** The sections that are compared. */
export interface Sections {
  readonly alerts: ReadonlyArray<AlertRule>
  readonly notifiers: Readonly<Record<string, unknown>>
  /** Undefined where pipelines come and go, so that a rule may name one that isn't there. */
  readonly pipelines: Readonly<Record<string, unknown>> | undefined
}

const unknown = (
  what: string,
  names: ReadonlyArray<string>,
  path: ReadonlyArray<string | number>,
  known: ReadonlyArray<string>
): ReadonlyArray<Finding> =>
  names.flatMap((name, index) => {
    if (known.includes(name)) return []
    const meant = closest(name, known)
    return [{
      path: [...path, index],
      at: "value",
      // The name may come from a reference, and so be anything.
      message: `There is no ${what} of that name.`,
      remedy: meant !== undefined
        ? `Did you mean \`${meant}\`?`
        : known.length === 0
        ? `Add it to the section \`${what}s\`.`
        : `Use ${enumerate(known.map((known) => `\`${known}\``), "or")}, or add it to the section \`${what}s\`.`
    }]
  })

export const findings = ({ alerts, notifiers, pipelines }: Sections): ReadonlyArray<Finding> =>
  alerts.flatMap((rule, index): ReadonlyArray<Finding> => {
    const path = ["alerts", index]
    const when = parseWhen(rule.when)
    return [
      ...unknown("notifier", rule.to, [...path, "to"], Object.keys(notifiers)),
      ...(pipelines === undefined
        ? []
        : unknown("pipeline", rule.pipelines ?? [], [...path, "pipelines"], Object.keys(pipelines))),
      ...(rule.names !== undefined && typeof when !== "string" && when._tag !== "Condition"
        ? [{
          path: [...path, "names"],
          at: "key" as const,
          message: "`names` goes with `when: condition` only.",
          remedy: "Remove it, or write `when: condition`."
        }]
        : [])
    ]
  })
