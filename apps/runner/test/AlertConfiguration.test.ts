import { assert, describe } from "@effect/vitest"
import * as ConfigurationChange from "@etl-stream/runner/ConfigurationChange"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { load, loaded, only, problems, scenario } from "./ConfigurationFixture.ts"
import * as Fixture from "./Fixture.ts"

/** A file with these sections before its pipelines, which begin in line 3. */
const withAlerts = (sections: string): string => Fixture.onePipeline("").replace("pipelines:", `${sections}pipelines:`)

const slack = "notifiers:\n  slack: {plugin: \"@etl-stream/notifiers:slack\", options: {url: \"${env:SLACK_URL}\"}}\n"

const environment = { SLACK_URL: "https://hooks.slack.com/services/T0/B0/hidden-path" }

/** The only problem of a file with one rule, in line 6. */
const problemOf = (directory: string, rule: string) =>
  Effect.map(problems(directory, withAlerts(`${slack}alerts:\n  - ${rule}\n`), environment), only)

describe("alerts of a configuration", () => {
  scenario(
    "notifiers are loaded like other plugins, their URLs are secrets, and rules have their defaults",
    (directory) =>
      Effect.gen(function*() {
        const configuration = yield* loaded(
          load(
            directory,
            withAlerts(`${slack}alerts:\n  - {when: "freshness > 5 minutes", to: [slack]}\n`),
            environment
          )
        )
        const [notifier] = configuration.notifiers
        assert.deepStrictEqual([notifier?.name, notifier?.notifier.plugin.name], [
          "slack",
          "@etl-stream/notifiers:slack"
        ])
        const options = notifier?.notifier.options as { readonly url: Redacted.Redacted<string> } // of the plugin's schema
        assert.strictEqual(Redacted.value(options.url), environment.SLACK_URL)
        assert.strictEqual(configuration.redact(`at ${environment.SLACK_URL}!`), "at <redacted>!")
        assert.strictEqual(configuration.alerts.length, 1)
        const none = yield* loaded(load(directory, Fixture.onePipeline("")))
        assert.deepStrictEqual([none.notifiers, none.alerts], [[], []])
      })
  )

  scenario("a rule's problems have their place and remedy", (directory) =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [rule: string, path: string, message: RegExp, remedy: RegExp]> = [
        ["{when: \"freshnes > 5 minutes\", to: [slack]}", "alerts[0].when", /did you mean `freshness`\?/, /when/i],
        ["{when: \"freshness > 5\", to: [slack]}", "alerts[0].when", /a duration above 0/, /when/i],
        ["{when: condition, to: [slak]}", "alerts[0].to[0]", /no notifier of that name/, /Did you mean `slack`\?/],
        [
          "{when: condition, to: [pager]}",
          "alerts[0].to[0]",
          /no notifier of that name/,
          /Use `slack`, or add it to the section `notifiers`/
        ],
        [
          "{when: condition, pipelines: [nubmers], to: [slack]}",
          "alerts[0].pipelines[0]",
          /no pipeline/,
          /Did you mean `numbers`\?/
        ],
        ["{when: pipeline-failed, names: [a], to: [slack]}", "alerts[0].names", /`when: condition` only/, /Remove it/],
        ["{when: condition}", "alerts[0].to", /`to` is missing/, /Names of the notifiers/],
        ["{when: condition, to: []}", "alerts[0].to[0]", /./, /./],
        ["{when: condition, too: [slack], to: [slack]}", "alerts[0].too", /Unknown key `too`/, /Did you mean `to`\?/],
        ["{when: condition, severity: info, to: [slack]}", "alerts[0].severity", /"warning" or "critical"/, /./],
        ["{when: condition, repeat: 5 seconds, to: [slack]}", "alerts[0].repeat", /at least 1 minute/, /remind/],
        ["{when: condition, for: soon, to: [slack]}", "alerts[0].for", /./, /a number and a unit/]
      ]
      for (const [rule, path, message, remedy] of cases) {
        const problem = yield* problemOf(directory, rule)
        assert.deepStrictEqual([problem.path, problem.line], [path, 6], rule)
        assert.match(problem.message, message)
        assert.match(problem.remedy, remedy)
      }
    }))

  scenario("a notifier's problems never show its URL", (directory) =>
    Effect.gen(function*() {
      const found = yield* problems(
        directory,
        withAlerts(slack),
        { SLACK_URL: "http://hooks.example.com/hidden-path" }
      )
      assert.deepInclude(only(found), { path: "notifiers.slack.options.url", line: 4 })
      assert.notInclude(JSON.stringify(found), "hidden-path")
      const several = only(
        yield* problems(directory, withAlerts("notifiers:\n  a: {plugin: \"@etl-stream/notifiers\"}\n"))
      )
      assert.include(several.remedy, "`@etl-stream/notifiers:webhook`")
      const other = only(yield* problems(directory, withAlerts("notifiers:\n  a: {plugin: \"./plugins.ts:memory\"}\n")))
      assert.include(other.message, "a notifier is needed here")
    }))

  scenario(
    "offline, references to notifiers' secrets and names are passed over",
    (directory) =>
      Effect.gen(function*() {
        const text = withAlerts(`${slack}alerts:\n  - {when: condition, to: ["\${env:CHANNEL}"]}\n`)
        assert.isUndefined(yield* load(directory, text, {}, true))
        const online = only(yield* problems(directory, text, { ...environment, CHANNEL: "hidden-name" }))
        assert.strictEqual(online.path, "alerts[0].to[0]")
        assert.notInclude(JSON.stringify(online), "hidden-name")
      })
  )

  scenario("a change of them needs no restart", (directory) =>
    Effect.gen(function*() {
      const before = yield* loaded(load(directory, Fixture.onePipeline("")))
      const after = yield* loaded(
        load(directory, withAlerts(`${slack}alerts:\n  - {when: condition, to: [slack]}\n`), environment)
      )
      assert.deepStrictEqual(ConfigurationChange.needingRestart(before, after), [])
      assert.deepStrictEqual(ConfigurationChange.between(before, after).unchanged, ["numbers"])
    }))
})
